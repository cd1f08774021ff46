"""Exercise 5: a table as files, one a day."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from flow360.checks import liberal
from flow360.checks.c04b_big_data.tables import LAKE, TABLES, duck, expect_given, expect_same
from flow360.checks.verdict import NotYet, exercise, expect, expect_equal

ORDERS = f"'{LAKE}/orders/*.parquet'"
DAY = "strftime(ordered_at::timestamptz at time zone 'Europe/Paris', '%Y-%m-%d')"


@exercise
def right_files(folder: Any) -> None:
    """Check a folder: one `day=…` folder for each day in Paris, one Parquet file in each, all orders as they are."""
    place = _place(folder)
    expect_given("folder", "orders")
    expect(place.is_dir(), f"folder: {str(folder)!r} is not a folder: has the table been written?")
    expect(not (place / "_temporary").exists(), "folder: it holds _temporary: the write did not end well")
    loose = list(place.glob("*.parquet"))
    expect(not loose, f"folder: expected folders day=…, found {len(loose)} Parquet files beside them")
    days = {path.name.removeprefix("day="): path for path in sorted(place.glob("day=*"))}
    expect(days, f"folder: expected folders called day=2026-05-04 and so on, found {_names(place)}")
    truth = [row["day"] for row in duck(f"select distinct {DAY} as day from {ORDERS} order by day")]
    expect_equal("folder: days", found=sorted(days), expected=truth, why="a day is a day in Paris")
    for day, path in days.items():
        files = [one for one in path.rglob("*.parquet") if not one.name.startswith((".", "_"))]
        expect_equal(f"folder: files in day={day}", found=len(files), expected=1, why="how many tasks wrote there?")
    _expect_orders(place)


def _place(folder: Any) -> Path:
    """Find the folder of the answer, which lies below the lake and is none of the given tables."""
    text = os.fspath(liberal.path("folder", folder))
    place = Path(text.removeprefix("file:").replace("//", "/")).resolve()
    inside = place.relative_to(LAKE.resolve()).parts if place.is_relative_to(LAKE.resolve()) else ()
    if not inside:
        raise NotYet(f"folder: expected a folder below lake, found {text!r}")
    if inside[0] in TABLES:
        raise NotYet(f"folder: {inside[0]} is a table that is given: write beside it")
    return place


def _expect_orders(place: Path) -> None:
    """Raise NotYet unless the files hold the columns of `orders`, of their types, and its rows, each in its day."""
    mine = f"read_parquet('{place}/day=*/*.parquet', hive_partitioning = true, hive_types = {{'day': varchar}})"
    truth = f"select *, {DAY} as day from {ORDERS}"
    kinds, wanted = _kinds(f"select * from {mine}"), _kinds(truth)
    for column, kind in wanted.items():
        expect(column in kinds, f"folder: the column {column} is missing: all columns of orders")
        expect(
            _alike(kinds[column], kind),
            f"folder: {column} is {kinds[column].lower()} in your files, and {kind.lower()} in orders",
        )
    more = sorted(set(kinds) - set(wanted))
    expect(not more, f"folder: {more[0] if more else ''} is a column that orders does not have")
    columns = ", ".join(f"{c}::timestamptz as {c}" if k.startswith("TIMESTAMP") else c for c, k in wanted.items())
    expect_same(
        "folder",
        found=f"select {columns} from {mine}",
        expected=f"select {columns} from ({truth})",
        key=("order_id",),
        why="each order once, whole, in the folder of its day in Paris",
    )


def _kinds(query: str) -> dict[str, str]:
    return {row["column_name"]: row["column_type"] for row in duck(f"describe {query}")}


def _alike(found: str, wanted: str) -> bool:
    """Compare types; a moment may be kept with or without its zone: it is UTC in both."""
    return found == wanted or (found.startswith("TIMESTAMP") and wanted.startswith("TIMESTAMP"))


def _names(place: Path) -> str:
    names = sorted(path.name for path in place.iterdir() if not path.name.startswith(("_", ".")))
    return ", ".join(names)[:80] or "nothing"
