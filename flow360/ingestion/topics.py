"""Kafka topics made, made again, measured and read to their end, by the broker's own offsets."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from flow360 import clients
from flow360.errors import FlowError, ServiceError
from flow360.waiting import rounds, wait_for

if TYPE_CHECKING:
    from confluent_kafka.admin import AdminClient
    from kafka import TopicPartition

PARTITIONS = 3
FOREVER = {"retention.ms": "-1"}
"""The readings of a course lie in the past. The broker compares a record's own time with its clock and would delete
them as old; so the topics of Primeur's programs keep everything."""


def make_topics(bootstrap: str, names: Iterable[str]) -> None:
    """Make those topics of Primeur's programs that are missing: three partitions, and nothing in them is ever too old.

    Raises:
        ServiceError: the broker does not answer, or refuses a topic.
    """
    from confluent_kafka import KafkaError, KafkaException
    from confluent_kafka.admin import AdminClient, NewTopic

    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    try:
        missing = set(names) - set(admin.list_topics(timeout=5).topics)
        wanted = [NewTopic(name, PARTITIONS, config=FOREVER) for name in sorted(missing)]
        for name, future in (admin.create_topics(wanted, request_timeout=5) if wanted else {}).items():
            try:
                future.result(10)
                print(f"made the topic {name}", flush=True)
            except KafkaException as error:
                if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:  # somebody was faster
                    raise
    except (KafkaException, TimeoutError) as error:
        said = error.args[0].str() if isinstance(error, KafkaException) else "no answer in time"
        raise ServiceError(f"kafka at {bootstrap}: {said}: is it running? (flow360 up kafka)") from None


# [START fresh_topic]
def fresh_topic(name: str, partitions: int = 1, **configs: Any) -> str:
    """Make an empty topic of that name; what was in one of the same name before is gone.

    Args:
        name: letters, digits, `.`, `-`, `_`.
        partitions: into how many logs its records are divided.
        configs: topic settings with underscores: cleanup_policy="compact", retention_ms=1000.

    Returns:
        The name.
    """
    from kafka.admin import NewTopic
    from kafka.errors import TopicAlreadyExistsError

    settings = {key.replace("_", "."): str(value) for key, value in configs.items()}
    with clients.kafka_admin() as admin:
        if name in admin.list_topics():
            admin.delete_topics([name])

        def made() -> bool:
            try:
                admin.create_topics([NewTopic(name, num_partitions=partitions, topic_configs=settings)])
            except TopicAlreadyExistsError:
                return False  # the broker still tidies the old one away
            return True

        wait_for(made, 30, f"the old topic {name} to be gone")
        admin.wait_for_topics([name])
    return name


# [END fresh_topic]


def drop_topics(*names: str) -> None:
    """Delete topics; one that does not exist is fine."""
    with clients.kafka_admin() as admin:
        if there := sorted(set(names) & set(admin.list_topics())):
            admin.delete_topics(there)


def partitions_of(topic: str) -> list[TopicPartition]:
    """List the topic's partitions, in order."""
    from kafka import TopicPartition

    with clients.kafka_admin() as admin:
        (found,) = admin.describe_topics([topic])
    return [TopicPartition(topic, n) for n in sorted(p["partition_index"] for p in found["partitions"])]


def ends(topic: str) -> dict[int, tuple[int, int]]:
    """Ask for partition -> (offset of the first record that is still kept, offset that the next one will get)."""
    parts = partitions_of(topic)
    reader = clients.consumer()
    try:
        first, last = reader.beginning_offsets(parts), reader.end_offsets(parts)
    finally:
        reader.close()
    return {p.partition: (first[p], last[p]) for p in parts}


def identity(topic: str, bootstrap: str = "") -> str:
    """Ask for the topic's id: one of the same name that was deleted and made again has another.

    Args:
        bootstrap: host:port of Kafka; that of the settings if nothing is said.

    Raises:
        NoSuchTopic: there is none of that name.
        FlowError: the broker is down.
    """
    where = {"bootstrap_servers": bootstrap} if bootstrap else {}
    with clients.kafka_admin(**where) as admin:
        if topic not in admin.list_topics():
            raise NoSuchTopic(f"{topic}: there is no such topic")
        (found,) = admin.describe_topics([topic])
    return str(found["topic_id"])


def identities(wanted: Callable[[str], bool], admin: AdminClient) -> dict[str, tuple[str, list[int]]]:
    """Ask for name -> (id, partitions) of the topics whose names are wanted, in two questions.

    Raises:
        KafkaException: the broker does not answer.
    """
    from confluent_kafka import TopicCollection

    names = [name for name in admin.list_topics(timeout=10).topics if wanted(name)]
    asked = admin.describe_topics(TopicCollection(names), request_timeout=10) if names else {}
    found = {name: future.result(10) for name, future in asked.items()}
    return {name: (str(one.topic_id), [part.id for part in one.partitions]) for name, one in found.items()}


@dataclass(frozen=True)
class Record:
    """A record as the broker keeps it; `timestamp` in milliseconds since 1970."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]


class NoSuchTopic(FlowError):
    """The broker has no topic of that name."""


def read_all(
    topic: str,
    seconds: float = 30,
    isolation_level: str = "read_uncommitted",
    last: int | None = None,
    bootstrap: str = "",
    since: int | None = None,
) -> list[Record]:
    """Read every record from the beginning of the topic to its end as it is now, partition by partition.

    Args:
        topic: what to read; no group is involved, nothing is committed.
        seconds: how long it may take.
        isolation_level: "read_committed" leaves out what belongs to a transaction that was aborted or is still open.
        last: only so many records at the end of each partition.
        bootstrap: host:port of Kafka; that of the settings if nothing is said.
        since: only from the first record of each partition on that is as new, milliseconds since 1970.

    Raises:
        NoSuchTopic: there is none of that name.
        FlowError: the broker is down, or the end was not reached in time.
    """
    from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

    config = {"group.id": "read-all", "enable.auto.commit": False, "enable.partition.eof": True}
    where = {"bootstrap.servers": bootstrap, "log_level": 0} if bootstrap else clients.confluent()
    reader = Consumer(where | config | {"isolation.level": isolation_level})

    def begin(number: int) -> TopicPartition:
        if since is not None:  # where none is as new, it is the end
            return reader.offsets_for_times([TopicPartition(topic, number, since)], timeout=10)[0]
        low, high = reader.get_watermark_offsets(TopicPartition(topic, number), timeout=10)
        return TopicPartition(topic, number, low if last is None else max(low, high - last))

    found: list[Record] = []
    try:
        about = reader.list_topics(topic, timeout=10).topics[topic]
        if about.error:
            raise NoSuchTopic(f"{topic}: {about.error.str()}")
        left = set(about.partitions)
        reader.assign([begin(number) for number in left])
        for _ in rounds(seconds, every=0):
            for message in reader.consume(1000, timeout=0.2):
                if message.error() is None:
                    found.append(_record(message))
                elif message.error().code() == KafkaError._PARTITION_EOF:
                    left.discard(message.partition())
                else:
                    raise KafkaException(message.error())
            if not left:
                return sorted(found, key=lambda record: (record.partition, record.offset))
    except KafkaException as error:
        raise ServiceError(f"{topic}: {error.args[0].str()}") from None
    finally:
        reader.close()
    raise ServiceError(f"{topic}: its end was not reached in {seconds:g} s, after {len(found):,} records")


def _record(message: Any) -> Record:
    place = (message.topic(), message.partition(), message.offset(), message.timestamp()[1])
    return Record(*place, message.key(), message.value(), message.headers() or [])


def iso(millis: int) -> str:
    """Write milliseconds since 1970 as text in UTC: 2026-05-07T15:32:00Z."""
    return datetime.fromtimestamp(int(millis) / 1000, UTC).isoformat().replace("+00:00", "Z")


def millis(at: str | datetime | int) -> int:
    """Convert a moment to milliseconds since 1970; a text or datetime without a zone is UTC."""
    if isinstance(at, str):
        at = datetime.fromisoformat(at)
    if isinstance(at, datetime):
        at = round((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000)
    return int(at)
