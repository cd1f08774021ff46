"""The drop zone's Parquet file: a week of weather with its planted defects."""

from __future__ import annotations

import io
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from flow360.primeur.defects import Chooser, Defect, fahrenheit
from flow360.primeur.plan import Plan
from flow360.primeur.records import utc

NAME = "weather.parquet"
UNKNOWN_STORE = 99
FAHRENHEIT_HOURS = 12


def weather_file(plan: Plan, clean: pa.Table) -> tuple[pa.Table, list[Defect]]:
    """Make the weather file's table, with what is planted in it.

    Returns:
        The table (store_id may be missing in it), and its defects; `line` is the row, from 0.
    """
    rows = clean.to_pylist()
    chooser = Chooser.of(plan.seed, "weather")
    defects: list[Defect] = []

    def spoil(row: int, kind: str, column: str, now: Any, note: str) -> None:
        was = rows[row][column]
        keys = {"store_id": rows[row]["store_id"], "observed_at": utc(rows[row]["observed_at"])}
        rows[row][column] = now
        shown = None if now is None else str(now) if now != now else now
        defects.append(Defect("files", "weather", kind, NAME, keys, "", column, was, shown, row, note))

    hours = (plan.days + 1) * 24
    store = chooser.between(0, plan.stores - 1)
    first = store * hours + chooser.between(24, hours - 48)
    for row in range(first, first + FAHRENHEIT_HOURS):
        chooser.taken.add(row)
        spoil(row, "wrong_unit", "celsius", fahrenheit(rows[row]["celsius"]), "°F in a column of °C, for half a day")
    for row in chooser.rows(5, range(len(rows))):
        spoil(row, "not_a_number", "celsius", float("nan"), "the sensor gave nothing")
    for row in chooser.rows(2, range(len(rows))):
        spoil(row, "missing_key", "store_id", None, "no store")
    for row in chooser.rows(2, range(len(rows))):
        spoil(row, "orphan", "store_id", UNKNOWN_STORE, "a store that does not exist")
    for row in chooser.rows(4, range(len(rows))):
        keys = {"store_id": rows[row]["store_id"], "observed_at": utc(rows[row]["observed_at"])}
        where = len(rows)
        rows.append(dict(rows[row]))
        defects.append(
            Defect("files", "weather", "duplicate", NAME, keys, line=where, note="the same row again, at the end")
        )
    schema = pa.schema([f.with_nullable(True) for f in clean.schema])
    return pa.Table.from_pylist(rows, schema=schema), defects


def parquet_bytes(data: pa.Table) -> bytes:
    """Write a table as a Parquet file (zstd)."""
    sink = io.BytesIO()
    pq.write_table(data, sink, compression="zstd")
    return sink.getvalue()
