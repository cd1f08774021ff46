"""Kafka topics made anew, measured and read to their end, by the broker's own offsets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flow360 import clients
from flow360.waiting import wait_for

if TYPE_CHECKING:
    from kafka import TopicPartition
    from kafka.consumer.fetcher import ConsumerRecord


# [START fresh_topic]
def fresh_topic(name: str, partitions: int = 1, **configs: Any) -> str:
    """An empty topic of that name; what was in one of the same name before is gone.

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
    """The topic's partitions, in order."""
    from kafka import TopicPartition

    with clients.kafka_admin() as admin:
        (found,) = admin.describe_topics([topic])
    return [TopicPartition(topic, n) for n in sorted(p["partition_index"] for p in found["partitions"])]


def ends(topic: str) -> dict[int, tuple[int, int]]:
    """partition -> (offset of the first record that is still kept, offset that the next one will get)."""
    parts = partitions_of(topic)
    reader = clients.consumer()
    try:
        first, last = reader.beginning_offsets(parts), reader.end_offsets(parts)
    finally:
        reader.close()
    return {p.partition: (first[p], last[p]) for p in parts}


def read_all(topic: str, seconds: float = 30, **cfg: Any) -> list[ConsumerRecord]:
    """Every record from the beginning of the topic to its end as it is now, partition by partition.

    Args:
        topic: what to read; no group is involved, nothing is committed.
        seconds: how long it may take.
        cfg: for the consumer, e.g. isolation_level="read_committed" (then the end is that of the last closed
            transaction).

    Raises:
        FlowError: the end was not reached in time.
    """
    parts = partitions_of(topic)
    reader = clients.consumer(**{"enable_auto_commit": False, **cfg})
    found: list[ConsumerRecord] = []
    try:
        reader.assign(parts)
        reader.seek_to_beginning()
        last = reader.end_offsets(parts)

        def at_end() -> bool:
            for batch in reader.poll(timeout_ms=200).values():
                found.extend(batch)
            return all(reader.position(p) >= last[p] for p in parts)

        wait_for(at_end, seconds, f"the end of {topic}", every=0)
    finally:
        reader.close()
    return sorted((r for r in found if r.offset < last[parts[r.partition]]), key=lambda r: (r.partition, r.offset))
