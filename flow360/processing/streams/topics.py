"""Records into a topic and out of it, as a person wants to see them: text keys, parsed JSON, readable moments."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from flow360 import clients
from flow360.errors import FlowError
from flow360.ingestion.topics import NoSuchTopic, iso, millis, read_all  # noqa: F401 - the lessons reach moments and records by one name


@dataclass(frozen=True)
class Record:
    """A record of a topic: value is parsed JSON, text where it is not JSON, or None; `at` is its timestamp in UTC."""

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
    """Read all records of a topic up to its end as it is now, partition by partition; [] when the topic does not exist.

    Args:
        isolation: "read_committed" leaves out what belongs to a transaction that was aborted or is still open;
            "read_uncommitted" shows everything.

    Raises:
        FlowError: the broker is down, or the end was not reached in time.
    """
    try:
        found = read_all(topic, seconds, isolation)
    except NoSuchTopic:
        return []
    return [Record(_text(r.key), parsed(_text(r.value)), iso(r.timestamp)) for r in found]


def _text(data: bytes | None) -> str | None:
    return None if data is None else data.decode("utf-8", "replace")


def parsed(text: str | None) -> Any:
    """Parse the text as JSON, or return it as it is when it is not JSON."""
    try:
        return None if text is None else json.loads(text)
    except (ValueError, RecursionError):
        return text
