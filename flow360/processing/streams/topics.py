"""Records into a topic and out of it, as a person wants to see them: text keys, parsed JSON, readable moments."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from flow360 import clients
from flow360.errors import FlowError


@dataclass(frozen=True)
class Record:
    """A record of a topic: value is parsed JSON, text where it is none, or None; `at` is its timestamp in UTC."""

    key: str | None
    value: Any
    at: str


def publish(topic: str, records: Sequence[tuple[str, Any, int]]) -> int:
    """Write (key, value, milliseconds since 1970) in this order, idempotently; returns when all are acknowledged.

    Args:
        records: values as bytes, or anything that JSON can say.

    Raises:
        FlowError: the broker is down, or has no such topic; the line says which.
    """
    from confluent_kafka import KafkaException, Producer

    errors: list[str] = []
    # librdkafka would choose partitions by another hash than Java: then tables and streams of one key never meet.
    config = clients.confluent(
        enable_idempotence=True, linger_ms=5, message_timeout_ms=30_000, partitioner="murmur2_random"
    )
    producer = Producer(config)
    try:
        for key, value, moment in records:
            data = value if isinstance(value, bytes) else json.dumps(value, ensure_ascii=False).encode()
            producer.produce(topic, data, key, timestamp=moment, on_delivery=lambda e, _: e and errors.append(e.str()))
            producer.poll(0)
    except (KafkaException, BufferError) as error:
        raise FlowError(f"{topic}: {error}") from None
    waiting = producer.flush(40)
    if errors or waiting:
        raise FlowError(f"{topic}: {errors[0] if errors else f'{waiting} records were not acknowledged'}")
    return len(records)


def read(topic: str, isolation: str = "read_committed", seconds: float = 60) -> list[Record]:
    """All records of a topic up to its end as it is now, partition by partition; [] when there is no such topic.

    Args:
        isolation: "read_committed" leaves out what belongs to a transaction that was aborted or is still open;
            "read_uncommitted" shows everything.

    Raises:
        FlowError: the broker is down, or the end was not reached in time.
    """
    from confluent_kafka import Consumer, KafkaError, TopicPartition

    config = {"group.id": "read", "enable.auto.commit": False, "enable.partition.eof": True}
    consumer = Consumer(clients.confluent() | config | {"isolation.level": isolation})
    found: list[Any] = []
    try:
        about = consumer.list_topics(topic, timeout=10).topics[topic]
        left = set() if about.error else set(about.partitions)
        consumer.assign([TopicPartition(topic, number, 0) for number in left])
        end = time.monotonic() + seconds
        while left:
            if time.monotonic() > end:
                raise FlowError(f"{topic}: its end was not reached in {seconds:g} s, after {len(found)} records")
            for message in consumer.consume(1000, timeout=0.2):
                if message.error() is None:
                    found.append(message)
                elif message.error().code() == KafkaError._PARTITION_EOF:
                    left.discard(message.partition())
                else:
                    raise FlowError(f"{topic}: {message.error().str()}")
    finally:
        consumer.close()
    found.sort(key=lambda message: (message.partition(), message.offset()))
    return [Record(_text(m.key()), parsed(_text(m.value())), iso(m.timestamp()[1])) for m in found]


def _text(data: bytes | None) -> str | None:
    return None if data is None else data.decode("utf-8", "replace")


def parsed(text: str | None) -> Any:
    """The text as JSON, or as it is when it is none."""
    try:
        return None if text is None else json.loads(text)
    except (ValueError, RecursionError):
        return text


def iso(millis: int) -> str:
    """Milliseconds since 1970 as text in UTC: 2026-05-07T15:32:00Z."""
    return datetime.fromtimestamp(int(millis) / 1000, UTC).isoformat().replace("+00:00", "Z")


def millis(at: str | datetime | int) -> int:
    """A moment in milliseconds since 1970; a text or datetime without a zone is UTC."""
    if isinstance(at, str):
        at = datetime.fromisoformat(at)
    if isinstance(at, datetime):
        at = round((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000)
    return int(at)
