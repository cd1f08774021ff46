"""What the checks of 04b and 05a decide without a service."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flow360.checks.c04b_big_data import late, report, stream
from flow360.checks.c05a_data_lake.compaction import COMPACT
from flow360.checks.c05a_data_lake.copies import PRICE_LIST, SOURCE, as_sent
from flow360.checks.c05a_data_lake.setting import place
from flow360.checks.draw import clock_changes
from flow360.checks.verdict import NotYet
from flow360.primeur.clock import PARIS

SUM, SCAN = "HashAggregate(keys=[category#1]", "FileScan parquet [category#1]"
SHUFFLE = "Exchange hashpartitioning(category#1, 4)"


def test_one_shuffle_is_one_by_a_key_on_all_cores() -> None:
    for steps in ([SUM, SHUFFLE, SUM, SCAN], ["Coalesce 1", SUM, SHUFFLE, SUM, SCAN]):
        report._expect_one_shuffle(steps)
    for steps, says in (
        ([SUM, SHUFFLE, "Coalesce 1", SCAN], "one task"),
        ([SUM, "Exchange SinglePartition", SCAN], "one task"),
        ([SUM, "Coalesce 1", SCAN], "one task"),
        (["LocalTableScan [category#1]"], "LocalTableScan"),
        ([SUM, SHUFFLE, SUM, "Exchange RoundRobinPartitioning(8)", SCAN], "found 2"),
    ):
        with pytest.raises(NotYet, match=says):
            report._expect_one_shuffle(steps)


def test_a_row_that_came_twice_does_not_stand_for_one_that_has_not_come() -> None:
    numbers = [1, 2, 3, 3]
    for found in ([1, 2, 3, 3], [3, 1, 3, 2, 1, 2], [1, 2, 3, 4], [None, "b", 1, 2]):
        assert stream._all_came(found, numbers), found
    for found in ([], [1, 2, 3], [1, 1, 2, 2], [3, 3, 3, 3, 3, 1]):
        assert not stream._all_came(found, numbers), found


def test_the_files_of_a_stream_are_those_of_the_list_or_all_that_are_whole(tmp_path: Path) -> None:
    whole, begun, aside = (tmp_path / name for name in ("a.parquet", "b.parquet", "_temporary/c.parquet"))
    aside.parent.mkdir()
    for path in (whole, aside):
        pq.write_table(pa.table({"id": [1]}), path)
    begun.write_bytes(b"")
    assert stream._files(tmp_path) == [whole]
    log = tmp_path / "_spark_metadata"
    log.mkdir()
    (log / "0").write_text("v1\n" + json.dumps({"path": begun.as_uri(), "size": 0}))
    assert stream._files(tmp_path) == [begun]


def test_a_query_that_only_asks_for_records_is_not_at_work() -> None:
    for message, trigger, data, works in (
        ("Initializing sources", False, False, True),
        ("Processing new data", True, True, True),
        ("Getting offsets from KafkaV2[Subscribe[t]]", True, False, False),
        ("Waiting for data to arrive", False, False, False),
        ("Waiting for next trigger", False, True, False),
    ):
        status = {"message": message, "isTriggerActive": trigger, "isDataAvailable": data}
        assert stream._at_work(status) == works, message


@pytest.mark.parametrize("seed", range(3))
def test_the_weeks_of_the_model_have_what_the_statement_says(seed: int) -> None:
    first = clock_changes(2027)[seed % 2]
    deliveries, orders, weather, truth = late._weeks(first, random.Random(seed))
    begins = [one["promised_from"].astimezone(PARIS) for one in deliveries]
    late_ones = [one["delivered_at"] > one["promised_to"] for one in deliveries]
    from_first = [begin.date() >= first.date() for begin in begins]
    assert first in begins, "one at the first moment of the day"
    assert len(truth) == sum(from_first)
    # From `first` on all that is known afterwards says the opposite of the rule.
    turned = [one["delivery_id"] for one, after in zip(deliveries, from_first, strict=True) if after]
    assert [truth[key] for key in turned] == [
        int(not was) for was, after in zip(late_ones, from_first, strict=True) if after
    ]
    assert {one["status"] == "refused" for one, was in zip(deliveries, late_ones, strict=True) if was} == {True}
    assert 0.3 < sum(truth.values()) / len(truth) < 0.7
    wet = {one["observed_at"].astimezone(PARIS).hour for one in weather if one["rain_mm"]}
    assert wet == {0}, "all rain falls in the first hour of a day in Paris"
    assert len(orders) == len(deliveries)


def test_the_truth_of_the_raw_zone_is_what_the_generator_makes() -> None:
    for path in (SOURCE, PRICE_LIST):
        assert as_sent()[path.name] == path.read_bytes()


@pytest.mark.parametrize("written", [COMPACT, f"{COMPACT}/", f"hdfs://namenode:9000{COMPACT}", Path(COMPACT)])
def test_a_place_in_hdfs_may_be_written_in_several_ways(written: object) -> None:
    assert place("compacted", written) == COMPACT
