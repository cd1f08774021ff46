"""Who reads what, on paper: the assignors' own code, and the explorer over it."""

from __future__ import annotations

import pytest

from flow360.errors import FlowError
from flow360.ingestion import groups


@pytest.mark.parametrize("strategy", groups.STRATEGIES)
@pytest.mark.parametrize(("partitions", "consumers", "topics"), [(1, 1, 1), (5, 2, 2), (3, 6, 1), (12, 8, 3)])
def test_each_partition_has_one_reader(strategy: str, partitions: int, consumers: int, topics: int) -> None:
    table = groups.who_reads_what(partitions, consumers, strategy, topics)
    found = " ".join(table["partitions"]).split()
    wanted = [f"{name}-{n}" for name in "ABC"[:topics] for n in range(partitions)]
    assert sorted(found) == sorted(wanted)
    assert sorted(" ".join(table["vans"]).split()) == [van[-2:] for van in groups.VANS]
    assert len(table) == consumers


def test_sticky_moves_only_what_the_newcomer_must_get() -> None:
    before, after = groups.assign(12, 3, "sticky")
    assert sum(before[part] != after[part] for part in before) == 3
    assert {after[part] for part in before if before[part] != after[part]} == {3}


def test_a_key_goes_where_java_sends_it() -> None:
    # From Kafka's own tests of murmur2: "21" hashes to -973932308, "foobar" to -790332482.
    assert groups.partition_of("21", 1 << 31) == -973932308 & 0x7FFFFFFF
    assert groups.partition_of(b"foobar", 1 << 31) == -790332482 & 0x7FFFFFFF


@pytest.mark.parametrize("wrong", [{"strategy": "best"}, {"partitions": 0}, {"consumers": 0}])
def test_bad_knobs_are_one_line(wrong: dict) -> None:
    with pytest.raises(FlowError, match="strategy is one of"):
        groups.assign(**{"partitions": 3, "consumers": 2, **wrong})


def test_the_explorer_follows_its_knobs() -> None:
    explorer = groups.Explorer()
    picture, text = bytes(explorer.children[-1].value), explorer._repr_mimebundle_()["text/plain"]
    assert picture.startswith(b"\x89PNG")
    explorer.knobs["consumers"].value = 6
    assert bytes(explorer.children[-1].value) != picture
    assert explorer._repr_mimebundle_()["text/plain"] != text
    assert "text/plain" in explorer._repr_mimebundle_()
