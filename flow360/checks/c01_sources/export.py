"""Exercise 3: the week of the shop as Parquet."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from flow360 import clients
from flow360.checks import liberal
from flow360.checks.compare import expect_untouched, fingerprint_files
from flow360.checks.verdict import NotYet, exercise, expect, expect_equal


@exercise
def typed_parquet(parquet_path: Any) -> None:
    """Check the shop's week as Parquet: identifiers, moments, money and texts rightly typed, no value changed."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = liberal.path("parquet_path", parquet_path)
    if not path.is_file():
        raise NotYet(f"parquet_path: there is no file {path}")
    try:
        schema = pq.read_schema(path)
    except (pa.ArrowInvalid, OSError):
        raise NotYet(f"parquet_path: {path.name} is not a Parquet file") from None
    expected = ["order_id", "ordered_at", "postcode", "newsletter", "items", "total_eur", "delivery_note"]
    expect_equal("the file's columns", found=sorted(schema.names), expected=sorted(expected))
    types = pa.types
    kind = {name: schema.field(name).type for name in expected}

    def wrong(name: str, wanted: str) -> NotYet:
        return NotYet(f"{name}: expected {wanted}, found {kind[name]}")

    for name in ("order_id", "items"):
        if not types.is_integer(kind[name]):
            raise wrong(name, "a whole number")
    for name in ("postcode", "delivery_note"):
        if not (types.is_string(kind[name]) or types.is_large_string(kind[name])):
            raise wrong(name, "text: a postcode may begin with a zero" if name == "postcode" else "text")
    if not types.is_boolean(kind["newsletter"]):
        raise wrong("newsletter", "true or false")
    if not types.is_decimal(kind["total_eur"]) or kind["total_eur"].scale != 2:
        raise wrong("total_eur", "a decimal with two places: money is exact")
    if not types.is_timestamp(kind["ordered_at"]) or kind["ordered_at"].tz is None:
        raise wrong("ordered_at", "a timestamp with a time zone")
    _compare_rows(pq.read_table(path))
    with tempfile.TemporaryDirectory(prefix="flow360-") as again:
        export_days(Path(again))
        sent, left = (fingerprint_files(folder.glob("orders_*.csv")) for folder in (Path(again), path.parent))
    expect_untouched("parquet_path", f"a CSV file beside {path.name}", sent, left)


def _compare_rows(table: Any) -> None:
    """Compare the file's rows with the shop's, value by value."""
    with clients.postgres("source") as db:
        truth = {row[0]: row[1:] for row in db.execute(EXPORT)}
    columns = ["order_id", "ordered_at", "postcode", "newsletter", "items", "total_eur", "delivery_note"]
    rows = {r["order_id"]: tuple(r[c] for c in columns[1:]) for r in table.select(columns).to_pylist()}
    expect_equal("rows of the file", found=table.num_rows, expected=len(truth))
    expect(rows.keys() == truth.keys(), "order_id: the orders in the file are not those of the shop")
    for n, name in enumerate(columns[1:]):
        other = [order for order in truth if rows[order][n] != truth[order][n]]
        if not other:
            continue
        found, wanted = rows[other[0]][n], truth[other[0]][n]
        why = ": an empty field is a missing value, not an empty text" if (found, wanted) == ("", None) else ""
        why = ": what is this column called from Thursday on?" if found is None else why
        raise NotYet(f"{name}: {len(other)} values differ, order {other[0]}: expected {wanted!r}, found {found!r}{why}")


EXPORT = """
    select order_id, ordered_at, postcode, newsletter, items, total_eur, delivery_note
    from orders join customers using (customer_id)
    order by order_id
"""
"""What the accountants were sent."""
BEFORE = "order_id, ordered_at, postcode, newsletter, items, total_eur, delivery_note"
SINCE_THURSDAY = "order_id, postcode, ordered_at, total_eur, items, newsletter, delivery_note as note"


def export_days(folder: Path) -> None:
    """Write the same rows as CSV files, one a day, whose columns change on Thursday."""
    folder.mkdir(parents=True, exist_ok=True)
    week = f"from ({EXPORT}) week where (ordered_at at time zone 'Europe/Paris')::date"
    with clients.postgres("source") as db:
        for day in (f"2026-05-{number:02}" for number in range(4, 11)):
            columns = BEFORE if day < "2026-05-07" else SINCE_THURSDAY
            export = f"copy (select {columns} {week} = '{day}') to stdout (format csv, header)"
            with db.cursor().copy(export) as copy, (folder / f"orders_{day}.csv").open("wb") as file:
                file.writelines(copy)
