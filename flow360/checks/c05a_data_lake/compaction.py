"""Exercise 5: one file out of sixty."""

from __future__ import annotations

import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from flow360 import clients
from flow360.checks.c05a_data_lake.setting import place
from flow360.checks.compare import expect_rows, rows
from flow360.checks.verdict import NotYet, exercise, expect, expect_equal

SMALL, COMPACT = "/lab/readings/small", "/lab/readings/compact"
READINGS = """
    select reading_id, van_id, measured_at, celsius from lake.temperatures order by reading_id limit 5960
"""
TWICE = 40


@exercise
def compact_files(compacted: Any) -> None:
    """Check that one file has exactly the rows of the sixty, which are still there, as they were."""
    compacted = place("compacted", compacted)
    expect_equal("compacted", found=compacted, expected=COMPACT, why="the folder of the one file")
    lake = clients.lake()
    expect(lake.isdir(COMPACT), f"compacted: HDFS has no folder {COMPACT}")
    source, target = (_data(lake.find(folder)) for folder in (SMALL, COMPACT))
    expect_equal(SMALL, found=len(source), expected=60, why="files; the small ones stay where they are")
    expect_equal("compacted", found=len(target), expected=1, why="files in that folder")
    truth = rows(READINGS)
    truth += truth[:TWICE]
    given, compact = _read(source), _read(target)
    for name, table, why in (
        (SMALL, given, "the given files were changed: run the cell above again"),
        ("compacted", compact, "rows that occur twice are rows, too"),
    ):
        if name != SMALL:
            mine, wanted = _kinds(table), _kinds(given)
            for column in sorted(mine.keys() | wanted.keys()):
                found, kind = mine.get(column, "none"), wanted.get(column, "none")
                expect_equal(f"compacted, columns: {column}", found=found, expected=kind, why="the same types")
        expect_rows(name, found=table.to_pylist(), expected=truth, key=("reading_id",), why=why)


def _data(paths: Iterable[str]) -> list[str]:
    """List those that a reader of the folder takes: what begins with _ or . is not data."""
    return sorted(path for path in paths if not path.rpartition("/")[2].startswith(("_", ".")))


def _read(paths: list[str]) -> Any:
    """Read the rows of small files; most of the time is the way to HDFS and back, so several are on it at once."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    lake = clients.lake()
    with ThreadPoolExecutor(8) as pool:
        found = dict(zip(paths, pool.map(lake.cat_file, paths), strict=True))
    tables = []
    for path, data in found.items():
        try:
            tables.append(pq.read_table(pa.BufferReader(data)))
        except pa.ArrowInvalid as error:
            raise NotYet(f"{path}: this cannot be read as Parquet: {str(error).splitlines()[0]}") from None
    return pa.concat_tables(tables, promote_options="permissive")


def _kinds(table: Any) -> dict[str, str]:
    """Return names and types; the unit of a moment, the offsets and dictionary of a text are the writer's choice."""
    import pyarrow as pa

    types = {f.name: f.type.value_type if pa.types.is_dictionary(f.type) else f.type for f in table.schema}
    kinds = {name: re.sub(r"\[\w+", "[", str(kind)) for name, kind in types.items()}
    return {name: kind.removeprefix("large_") for name, kind in sorted(kinds.items())}
