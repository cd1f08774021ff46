"""Primeur's tables as they are really delivered, untidy, into schema `landing` of the warehouse: `land("files")`.

Every column is text, so that nothing is refused at the door. Each row is held against the contract of its channel
(flow360/primeur/contract.py): the values of a right one are landed in their canonical text, those of any other as they
came, and dbt's tests (dbt/models/staging) keep it out of the marts. Beside the columns of the table, each row has

- `_file`, `_line`: where it came from; `_line` counts on over all files, so it is the order of arrival;
- `_defect`: why it is not right; null when it is;
- `_rescued`: the whole row as text, when it did not fit the columns;
- `_original`: the whole row byte for byte, when it is not right.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from psycopg import Connection, sql

from flow360 import clients
from flow360.errors import Exit, FlowError
from flow360.primeur.contract import NAMES, Contract, contract, storable
from flow360.primeur.intake import Record, document, records
from flow360.primeur.manifest import manifest
from flow360.primeur.schema import TABLES, WAREHOUSE
from flow360.primeur.snapshot import FILES, seed_table
from flow360.processing import feed

if TYPE_CHECKING:
    import pandas as pd

SCHEMA = "landing"
META = {"_file": "text", "_line": "bigint", "_defect": "text", "_rescued": "text", "_original": "bytea"}


@dataclass(frozen=True)
class Row:
    """A row of a landing table: texts by column, and what is known about it (`META`, but for the line)."""

    values: dict[str, str | None]
    file: str
    defect: str | None = None
    rescued: str | None = None
    original: bytes | None = None


def row_of(made_by: Contract, record: Record, file: str) -> Row:
    """Make what is landed of a record."""
    if record.right is not None:
        return Row(made_by.texts(record.right), file)
    values = {name: _text(value) for name, value in record.values.items()}
    rescued = None if record.fits else record.shown(made_by.encoding)
    return Row(values, file, record.defect, rescued, record.original)


def _text(value: Any) -> str | None:
    """Write a value of a row that is not right, as it came; what PostgreSQL's text cannot hold becomes U+FFFD."""
    if value is None or value == "":
        return None
    if isinstance(value, date):
        return value.isoformat()
    try:
        text = (
            json.dumps(value, default=str, ensure_ascii=False) if isinstance(value, bool | dict | list) else str(value)
        )
    except Exception:  # noqa: BLE001 - brackets in brackets: the column says that there was something, `_original` what
        text = "\ufffd"
    return storable(text)


# --- Files ------------------------------------------------------------------------------------------------------------


def _files(name: str) -> Callable[[], Iterator[Row]]:
    """Read the files of one contract, in the order of their names; one that has not come is a row that says so."""

    def rows() -> Iterator[Row]:
        promised = contract(name)
        for path in sorted(FILES.glob(promised.path)) or [FILES / promised.path]:
            for record in records(promised, path):
                yield row_of(promised, record, path.name)

    return rows


def strangers() -> list[str]:
    """List the files of the drop zone that no contract names, such as `orders_2026-05-10.CSV.gz`: nobody reads them."""
    promised = [one.path for one in map(contract, NAMES) if one.is_file]
    there = FILES.iterdir() if FILES.is_dir() else ()
    return sorted(path.name for path in there if not any(fnmatchcase(path.name, pattern) for pattern in promised))


# --- Services ---------------------------------------------------------------------------------------------------------


def _api(name: str) -> Callable[[], Iterator[Row]]:
    """Read the items as market-api lists them, in its order but without its server, so that no limit slows us."""

    def rows() -> Iterator[Row]:
        from flow360.primeur.api.market import Market

        promised = contract(f"{name}_api")
        for item in Market().items(name):
            yield row_of(promised, document(promised, json.dumps(item, ensure_ascii=False).encode()), promised.path)

    return rows


def _temperatures() -> Iterator[Row]:
    """Yield the messages of the vans on the day of the course, in the order in which market-sensors sends them."""
    from flow360.primeur.clock import PARIS
    from flow360.primeur.plan import SEED_PLAN
    from flow360.primeur.vans.stream import stream

    day = manifest().day
    readings = [
        r
        for r in seed_table("temperatures").to_pylist()
        if r["measured_at"].astimezone(PARIS).date().isoformat() == day
    ]
    for message in stream(SEED_PLAN, day, readings)[0]:
        yield reading_row(message.payload("landing"), message.topic)


def reading_row(payload: bytes, topic: str) -> Row:
    """Make what is landed of a van's message: in °C, whatever its unit says; a wrong unit is dbt's to find."""
    promised = contract("readings")
    record = document(promised, payload)
    row = row_of(promised, record, topic)
    if record.right is None:
        return Row({**row.values, "celsius": row.values.get("value")}, topic, row.defect, row.rescued, row.original)
    value = record.right["value"]
    celsius = round((value - 32) * 5 / 9, 2) if record.right["unit"] == "F" else value
    return Row({**row.values, "celsius": f"{celsius:f}"}, topic)


CHANNELS: dict[str, dict[str, Callable[[], Iterator[Row]]]] = {
    "files": {
        "orders": _files("orders_csv"),
        "reviews": _files("reviews_jsonl"),
        "price_lists": _files("price_list_csv"),
        "weather": _files("weather_parquet"),
    },
    "services": {
        "orders": _api("orders"),
        "deliveries": _api("deliveries"),
        "reviews": _api("reviews"),
        "temperatures": _temperatures,
    },
    "clean": {},
}
"""What each channel delivers untidily; the other tables are copied from what the lake delivered."""


# --- Loading ----------------------------------------------------------------------------------------------------------


def land(channel: str = "files", tables: Sequence[str] = WAREHOUSE) -> pd.DataFrame:
    """Fill schema `landing` with what one channel delivers, in one transaction; what it held before goes.

    Args:
        channel: "files" (the drop zone), "services" (REST API and vans), or "clean" (nothing untidy).
        tables: those that are filled; all by default.

    Returns:
        One row for each table: table, rows (all that were read), quarantined (those with a `_defect`), delivered_by;
        and one without a table for each file that no contract names, which is set aside where it is.

    Raises:
        FlowError: no such channel, nothing was delivered to schema `lake` yet, or the warehouse is down.
    """
    import pandas as pd

    if channel not in CHANNELS:
        raise FlowError(f"there is no channel {channel!r}: take {', '.join(CHANNELS)}", Exit.USAGE)
    done = []
    with clients.postgres() as db:
        feed.demand(db)
        db.execute("set local datestyle to iso; set local timezone to 'UTC'")  # how the lake's moments become text
        db.execute(f"create schema if not exists {SCHEMA}")
        for name in tables:
            columns = [c.name for c in TABLES[name].columns]
            _create(db, name, columns)
            db.execute(f"truncate {SCHEMA}.{name}")
            rows = CHANNELS[channel].get(name)
            counts = _copy(db, name, columns, rows()) if rows else (_from_lake(db, name, columns), 0)
            done.append((name, *counts, channel if rows else "lake"))
    if channel == "files":
        done += [("", 1, 1, storable(f"{name}: no contract names it")) for name in strangers()]
    return pd.DataFrame(done, columns=["table", "rows", "quarantined", "delivered_by"])


def _create(db: Connection, name: str, columns: list[str]) -> None:
    definition = ", ".join([*(f"{c} text" for c in columns), *(f"{c} {kind}" for c, kind in META.items())])
    db.execute(f"create table if not exists {SCHEMA}.{name} ({definition})")
    # One that an older version has made, and views stand on.
    for column, kind in META.items():
        db.execute(f"alter table {SCHEMA}.{name} add column if not exists {column} {kind}")


def _copy(db: Connection, name: str, columns: list[str], rows: Iterator[Row]) -> tuple[int, int]:
    into = sql.Identifier(SCHEMA, name)
    names = sql.SQL(", ").join(map(sql.Identifier, [*columns, *META]))
    count = quarantined = 0
    with db.cursor() as cursor, cursor.copy(sql.SQL("copy {} ({}) from stdin").format(into, names)) as copy:
        for row in rows:
            count += 1
            quarantined += row.defect is not None
            texts = [row.values.get(c) for c in columns]
            copy.write_row([*texts, row.file, count, row.defect, row.rescued, row.original])
    return count, quarantined


def _from_lake(db: Connection, name: str, columns: list[str]) -> int:
    texts = ", ".join(f"{c}::text" for c in columns)
    line = f"row_number() over (order by {TABLES[name].moment or columns[0]})"
    query = f"""insert into {SCHEMA}.{name} ({", ".join([*columns, "_file", "_line"])})
        select {texts}, 'lake.{name}', {line} from lake.{name}"""
    return db.execute(query).rowcount
