"""Exercise 5: lag computed by hand."""

from __future__ import annotations

import random
from typing import Any

from flow360 import clients
from flow360.checks import liberal
from flow360.checks.c02_ingestion.topic import SECONDS, committed, fresh, lab_topic, lag
from flow360.checks.compare import expect_untouched
from flow360.checks.draw import draw
from flow360.checks.verdict import NotYet, exercise, expect_equal, expect_type, limited
from flow360.errors import FlowError
from flow360.ingestion import groups, topics


@exercise
def lag_by_hand(lag_of: Any) -> None:
    """Check partition -> lag of a group on a topic: as Kafka's own tool prints it, and where it prints nothing."""
    ask = limited(liberal.function("lag_of", lag_of), SECONDS)
    chance, group = draw(), fresh()
    with lab_topic("lag", partitions=chance.randint(6, 8)) as topic, lab_topic("beside", partitions=9) as beside:
        _behind(topic, group, chance, chance.randint(1, 11))
        _behind(beside, group, chance, 0)  # the group reads another topic, too: that is none of this one's lag
        truth, done = ({name: of(group, name) for name in (topic, beside)} for of in (lag, committed))
        for name in (topic, beside):
            _compare(ask(group, name), truth[name], set(done[name]))
        after = {name: committed(group, name) for name in (topic, beside)}
        expect_untouched("lag_of", "what the group has committed", done, after)
        tool = groups.lag_tool(group)  # asked last: its JVM takes its time, and a wrong answer needs none
    whole = {(name, partition): behind for name, lags in truth.items() for partition, behind in lags.items()}
    said = {(row.topic, int(row.partition)): int(row.lag) for row in tool.dropna().itertuples()}
    if not said.items() <= whole.items():
        raise FlowError(f"Kafka's tool says {said}, the check says {whole}: a mistake in the course, please report it")


def _compare(found: Any, truth: dict[int, int], printed: set[int]) -> None:
    expect_type("lag_of", found, dict)
    if set(found) != set(truth):
        raise NotYet(f"lag_of: expected the partitions {sorted(truth)} as keys, found {sorted(map(str, found))}")
    for partition, behind in truth.items():
        why = (
            "that is what kafka-consumer-groups says"
            if partition in printed
            else "never committed: it counts from its beginning"
        )
        mine = liberal.whole(f"lag_of, partition {partition}", found[partition])
        expect_equal(f"lag_of, partition {partition}", found=mine, expected=behind, why=why)


def _behind(topic: str, group: str, chance: random.Random, passed: int) -> None:
    """Leave partitions in the middle, at the end, trimmed before and past the commit, never committed, empty, new.

    Args:
        passed: what is committed where it is trimmed past the commit; 0 is a commit, too.
    """
    from kafka import TopicPartition

    parts = [TopicPartition(topic, part.partition) for part in topics.partitions_of(topic)]
    counts = [chance.randint(20, 60) for _ in parts]
    counts[5] = 0
    with clients.producer(acks="all") as out:
        for part, count in zip(parts, counts, strict=True):
            for number in range(count):
                out.send(topic, str(number).encode(), partition=part.partition)
    trimmed = {2: chance.randint(3, 9), 3: chance.randint(12, 18), 4: chance.randint(3, 15)}
    done = {0: chance.randint(1, 19), 1: counts[1], 2: chance.randint(10, 19), 3: passed}
    with clients.kafka_admin() as admin:
        admin.delete_records({parts[n]: offset for n, offset in trimmed.items()})
    groups.commit(group, {parts[n]: offset for n, offset in done.items()})
