"""Primeur's tables as they are really delivered, untidy, into schema `landing` of the warehouse: `land("files")`.

Every column is text, so that nothing is refused at the door; what a row does not fit, dbt's tests say afterwards
(dbt/models/staging). Beside the columns of the table, each row has

- `_file`, `_line`: where it stood; `_line` counts on over all files, so it is the order of arrival;
- `_rescued`: the whole line, when it did not fit the columns.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq
from psycopg import Connection, sql

from flow360 import clients
from flow360.errors import Exit, FlowError
from flow360.primeur.files import ORDER_COLUMNS, PRICE_COLUMNS
from flow360.primeur.manifest import manifest
from flow360.primeur.schema import TABLES, WAREHOUSE
from flow360.primeur.snapshot import FILES, seed_table

if TYPE_CHECKING:
    import pandas as pd

SCHEMA = "landing"
META = ("_file", "_line", "_rescued")
Row = tuple[dict[str, Any], str, str | None]
"""Values by column, the file, and the line when it did not fit."""


# --- Files ------------------------------------------------------------------------------------------------------------


def _lines(name: str, encoding: str = "utf-8") -> list[str]:
    """The lines of a file; bytes that are not of the encoding become U+FFFD, and a test finds them."""
    return (FILES / name).read_bytes().decode(encoding, errors="replace").splitlines()


def _fields(line: str, columns: tuple[str, ...], delimiter: str, file: str) -> Row:
    fields = next(csv.reader(io.StringIO(line), delimiter=delimiter))
    values = {name: value or None for name, value in zip(columns, fields, strict=False)}
    return values, file, None if len(fields) == len(columns) else line


def _orders() -> Iterator[Row]:
    for path in sorted(FILES.glob("orders_*.csv")):
        for line in _lines(path.name)[1:]:
            yield _fields(line, ORDER_COLUMNS, ",", path.name)


def _price_lists() -> Iterator[Row]:
    name = f"price_list_{manifest().day}.csv"
    for line in _lines(name, "cp1252")[1:]:
        values, file, rescued = _fields(line, PRICE_COLUMNS, ";", name)
        price = values.get("purchase_price_eur")
        yield {**values, "purchase_price_eur": price and price.replace(",", ".")}, file, rescued


def _reviews() -> Iterator[Row]:
    for line in _lines("reviews.jsonl"):
        yield _document(line, "reviews.jsonl")


def _document(text: str, where: str) -> Row:
    try:
        return json.loads(text), where, None
    except ValueError:
        return {}, where, text


def _weather() -> Iterator[Row]:
    for values in pq.read_table(FILES / "weather.parquet").to_pylist():
        yield {**values, "observed_at": values["observed_at"].isoformat()}, "weather.parquet", None


# --- Services ---------------------------------------------------------------------------------------------------------


def _api(name: str) -> Callable[[], Iterator[Row]]:
    """The items in the order in which market-api lists them; read without its server, so that no limit slows us."""

    def items() -> Iterator[Row]:
        from flow360.primeur.api.market import Market

        for item in Market().items(name):
            yield item, f"/{name}", None

    return items


def _temperatures() -> Iterator[Row]:
    """The messages of the vans on the day of the course, in the order in which market-sensors sends them."""
    from flow360.primeur.plan import PARIS, SEED_PLAN
    from flow360.primeur.vans.stream import stream

    day = manifest().day
    rows = [
        r
        for r in seed_table("temperatures").to_pylist()
        if r["measured_at"].astimezone(PARIS).date().isoformat() == day
    ]
    for message in stream(SEED_PLAN, day, rows)[0]:
        values, where, rescued = _document(message.payload("landing").decode(), message.topic)
        value = values.get("value")
        # A message says its unit, and the column's is °C; one that says it wrongly is dbt's to find.
        celsius = round((value - 32) * 5 / 9, 2) if value is not None and values["unit"] == "F" else value
        yield {**values, "celsius": celsius}, where, rescued


CHANNELS: dict[str, dict[str, Callable[[], Iterator[Row]]]] = {
    "files": {"orders": _orders, "reviews": _reviews, "price_lists": _price_lists, "weather": _weather},
    "services": {
        "orders": _api("orders"),
        "deliveries": _api("deliveries"),
        "reviews": _api("reviews"),
        "temperatures": _temperatures,
    },
    "clean": {},
}
"""What each channel delivers untidily; the other tables are copied from the snapshot."""


# --- Loading ----------------------------------------------------------------------------------------------------------


def land(channel: str = "files") -> pd.DataFrame:
    """Fill schema `landing` with what one channel delivers, in one transaction; what it held before goes.

    Args:
        channel: "files" (the drop zone), "services" (REST API and vans), or "clean" (nothing untidy).

    Returns:
        One row for each table: table, rows, delivered_by.

    Raises:
        FlowError: no such channel, or the warehouse is down.
    """
    import pandas as pd

    if channel not in CHANNELS:
        raise FlowError(f"there is no channel {channel!r}: take {', '.join(CHANNELS)}", Exit.USAGE)
    done = []
    with clients.postgres() as db:
        db.execute(f"create schema if not exists {SCHEMA}")
        for name in WAREHOUSE:
            columns = [c.name for c in TABLES[name].columns]
            definition = ", ".join(f"{c} text" for c in columns)
            db.execute(
                f"create table if not exists {SCHEMA}.{name} ({definition}, _file text, _line bigint, _rescued text)"
            )
            db.execute(f"truncate {SCHEMA}.{name}")
            rows = CHANNELS[channel].get(name)
            count = _copy(db, name, columns, rows()) if rows else _from_snapshot(db, name, columns)
            done.append((name, count, channel if rows else "snapshot"))
    return pd.DataFrame(done, columns=["table", "rows", "delivered_by"])


def _copy(db: Connection, name: str, columns: list[str], rows: Iterator[Row]) -> int:
    into = sql.Identifier(SCHEMA, name)
    names = sql.SQL(", ").join(map(sql.Identifier, [*columns, *META]))
    count = 0
    with db.cursor() as cursor, cursor.copy(sql.SQL("copy {} ({}) from stdin").format(into, names)) as copy:
        for values, file, rescued in rows:
            count += 1
            texts = [None if values.get(c) is None else str(values[c]) for c in columns]
            copy.write_row([*texts, file, count, rescued])
    return count


_MOMENT = {"orders": "ordered_at", "deliveries": "delivered_at", "reviews": "written_at", "temperatures": "measured_at"}


def _from_snapshot(db: Connection, name: str, columns: list[str]) -> int:
    texts = ", ".join(f"{c}::text" for c in columns)
    line = f"row_number() over (order by {_MOMENT.get(name, columns[0])})"
    query = f"insert into {SCHEMA}.{name} select {texts}, 'primeur.{name}', {line}, null from primeur.{name}"
    return db.execute(query).rowcount
