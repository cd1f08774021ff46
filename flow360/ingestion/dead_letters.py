"""Records that cannot be processed are set aside with their cause, byte for byte, and the others go on."""

from __future__ import annotations

import hashlib
import reprlib
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from flow360 import clients
from flow360.errors import FlowError
from flow360.primeur.intake import parse_finite

if TYPE_CHECKING:
    from kafka import KafkaConsumer, KafkaProducer

Item = dict[str, Any]


class BadRecord(ValueError):
    """A record that will never be processed, however often it is tried.

    Args:
        cause: a short code, the same for all records with this fault: "bad json".
        message: what exactly was wrong with this one.
    """

    def __init__(self, cause: str, message: str = "") -> None:
        super().__init__(f"{cause}: {message}" if message else cause)
        self.cause = cause


def decode_json(record: Any, fields: Mapping[str, type | tuple[type, ...]], max_bytes: int = 1_000_000) -> Item:
    """Read the value of a record as a dict that has these fields with these types.

    Raises:
        BadRecord: "null key", "too large", "bad json" or "wrong schema".
    """
    if record.key is None:
        raise BadRecord("null key", "the key says which partition, and so which order")
    if record.value is not None and len(record.value) > max_bytes:
        raise BadRecord("too large", f"{len(record.value)} bytes, {max_bytes} allowed")
    try:
        value = parse_finite((record.value or b"").decode("utf-8"))
    except Exception as error:  # noqa: BLE001 - not ValueError alone: brackets nested too deep are a RecursionError
        raise BadRecord("bad json", str(error)) from None
    if not isinstance(value, dict):
        raise BadRecord("wrong schema", f"a {type(value).__name__} instead of an object")
    for name, kind in fields.items():
        # In Python True is an int; in data it is not.
        if not isinstance(value.get(name), kind) or isinstance(value.get(name), bool):
            raise BadRecord("wrong schema", f"{name} is {reprlib.repr(value.get(name))}")
    return value


@dataclass
class Consumed:
    """Records handled, and set aside by cause."""

    delivered: int = 0
    dead: Counter[str] = field(default_factory=Counter)


# [START dead_letters]
def consume_with_dead_letters(
    consumer: KafkaConsumer,
    producer: KafkaProducer,
    dead_letter_topic: str,
    handle: Callable[[Any], None],
    idle_seconds: float = 5.0,
) -> Consumed:
    """Hand each record to `handle`; set aside, with the cause, what it cannot process.

    That is what it refuses with BadRecord, and whatever else it raises, such as a value that a table does not take. An
    error of the outside (a network, a broker, a database that is away) or a name that does not exist is not the
    record's fault and comes through: nothing of the batch is committed then. Offsets are committed after a batch was
    handled and its dead letters were acknowledged: at least once. Ends after `idle_seconds` with no record.
    """
    import psycopg
    from kafka.errors import KafkaError

    outside = (OSError, FlowError, KafkaError, psycopg.Error, NameError)
    done, room = Consumed(), 0
    while batches := consumer.poll(timeout_ms=int(idle_seconds * 1000)):
        for record in (record for batch in batches.values() for record in batch):
            try:
                handle(record)
                done.delivered += 1
            except Exception as error:  # or the record would end every consumer that comes after us
                if isinstance(error, outside) and not isinstance(error, psycopg.DataError | psycopg.IntegrityError):
                    raise
                cause = error.cause if isinstance(error, BadRecord) else type(error).__name__
                room = room or _room(producer, dead_letter_topic)
                letter = _letter(record, cause, str(error) or cause, room)
                producer.send(dead_letter_topic, **letter).get(timeout=30)  # raises when the broker did not take it
                done.dead[cause] += 1
        consumer.commit()
    return done


def _letter(record: Any, cause: str, message: str, room: int) -> Item:
    """Write the dead letter of a record: its key, value and headers byte for byte, and seven headers more.

    Where that is more than `room` bytes, key and value are cut and the record's own headers left out: `error.bytes` and
    `error.sha256` are those of the whole value, which still is where topic, partition and offset say.
    """
    value = record.value or b""
    about = {"topic": record.topic, "partition": record.partition, "offset": record.offset, "cause": cause}
    about |= {"message": message, "bytes": len(value), "sha256": hashlib.sha256(value).hexdigest()}
    why = error_headers(about, min(500, room // 8))
    # What kafka-python does not send: a header without a value, a record with neither key nor value.
    headers = [(name, said or b"") for name, said in record.headers] + why
    whole = {"key": record.key, "value": value if record.key is None else record.value, "headers": headers}
    if _size(**whole) <= room:
        return whole
    cut = {"key": record.key and record.key[:100], "value": b"", "headers": why}
    return {**cut, "value": value[: max(0, room - _size(**cut))]}


def error_headers(about: Mapping[str, Any], longest: int = 500) -> list[tuple[str, bytes]]:
    """Write what is known of a fault as a dead letter's headers, `error.cause` …, of so many characters at most."""
    return [(f"error.{name}", str(said)[:longest].encode("utf-8", "backslashreplace")) for name, said in about.items()]


def _size(key: bytes | None, value: bytes | None, headers: list[tuple[str, bytes]]) -> int:
    """Bound what a record takes in a message of its own from above; the protocol's numbers have 10 bytes at most."""
    return 150 + len(key or b"") + len(value or b"") + sum(20 + len(name.encode()) + len(v) for name, v in headers)


def _room(producer: KafkaProducer, topic: str) -> int:
    """Find the largest message, in bytes, that both the producer and the topic take.

    Asked beforehand: after the broker has refused a message, an idempotent producer sends nothing any more.
    """
    from kafka.admin import ConfigFilterType, ConfigResource

    with clients.kafka_admin(bootstrap_servers=producer.config["bootstrap_servers"]) as admin:
        found = admin.describe_configs([ConfigResource("topic", topic)], config_filter=ConfigFilterType.ALL)
    return min(producer.config["max_request_size"], int(found["topic"][topic]["max.message.bytes"]["value"]))


# [END dead_letters]
