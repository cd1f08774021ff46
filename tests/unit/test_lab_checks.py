"""What the checks of 05a decide without a service."""

from __future__ import annotations

from pathlib import Path

import pytest

from flow360.checks.c05a_data_lake.compaction import COMPACT
from flow360.checks.c05a_data_lake.copies import PRICE_LIST, SOURCE, as_sent
from flow360.checks.c05a_data_lake.setting import place


def test_the_truth_of_the_raw_zone_is_what_the_generator_makes() -> None:
    for path in (SOURCE, PRICE_LIST):
        assert as_sent()[path.name] == path.read_bytes()


@pytest.mark.parametrize("written", [COMPACT, f"{COMPACT}/", f"hdfs://namenode:9000{COMPACT}", Path(COMPACT)])
def test_a_place_in_hdfs_may_be_written_in_several_ways(written: object) -> None:
    assert place("compacted", written) == COMPACT
