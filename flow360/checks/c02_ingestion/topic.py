"""What the checks of 02_ingestion share: a topic of their own, and the lag of a group."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from flow360.ingestion import groups, topics

SECONDS = 40
"""How long a learner's function may take, on an idle machine."""


def fresh(what: str = "") -> str:
    """Make a name for this check alone: `lab02-1f0c…`, `lab02-readings-1f0c…`."""
    return "-".join(["lab02", *([what] if what else []), uuid.uuid4().hex[:8]])


@contextmanager
def lab_topic(what: str, partitions: int = 1, **configs: Any) -> Iterator[str]:
    """Make a topic for this check alone, gone afterwards."""
    name = topics.fresh_topic(fresh(what), partitions, **configs)
    try:
        yield name
    finally:
        topics.drop_topics(name)


def committed(group: str, topic: str) -> dict[int, int]:
    """Ask for partition -> the offset that the group has committed; a partition without a commit is not in it."""
    found = groups.ask_coordinator(lambda admin: admin.list_group_offsets(group))[group]
    return {part.partition: at.offset for part, at in found.items() if part.topic == topic}


def lag(group: str, topic: str) -> dict[int, int]:
    """Count partition -> records that the group has not committed; without a commit, from the partition's beginning."""
    done = committed(group, topic)
    return {part: end - done.get(part, first) for part, (first, end) in topics.ends(topic).items()}
