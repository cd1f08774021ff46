"""Exercise 3: a table that grows with its source."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import dict_row

from flow360 import clients
from flow360.checks import liberal
from flow360.checks.compare import Row, expect_rows
from flow360.checks.draw import TEXTS, draw
from flow360.checks.scene import scene, transaction_of
from flow360.checks.verdict import NotYet, exercise, expect, limited

ZONED = "io.debezium.time.ZonedTimestamp"
KINDS: dict[tuple[str, str], tuple[str, tuple[Any, ...]]] = {
    ("int32", ""): ("integer", (0, -1, 2**31 - 1)),
    ("int64", ""): ("bigint", (0, 2**31, 2**53 + 1)),
    ("boolean", ""): ("boolean", (True, False)),
    ("double", ""): ("double precision", (0.1, -273.15)),
    ("string", ""): ("text", ("", *TEXTS)),
    ("string", ZONED): ("timestamp with time zone", ("2026-10-25T00:30:00Z", "2026-03-29T02:30:00.123456Z")),
}
NAMES = ("order", "Loyalty", "a b", 'said "no"', "prix_ttc", "Total EUR", "l'été", "{x}", "loyalty")
"""Names that a column may have and that a text of SQL may spoil."""
STRANGE: tuple[tuple[tuple[str, str], Any, str], ...] = (
    (("bytes", ""), "AAEC", "a column of the type bytes"),
    (("int16", ""), 7, "a column of the type int16"),
    (("float", ""), 0.5, "a column of the type float"),
    (("int32", "io.debezium.time.Date"), 20_000, "a number that means a day"),
    (("int64", "io.debezium.time.MicroTimestamp"), 1_778_148_902_000_000, "a number that means a moment"),
    (("int64", ZONED), None, "a number by the name of a moment"),
    (("string", "io.debezium.data.Json"), "[1]", "a text that means JSON"),
    (("double", "org.example.Celsius"), 4.5, "a number with a name that nobody knows"),
)
"""Types and names that nobody has agreed on, each with a value that PostgreSQL would take."""


@exercise
def new_columns(land: Any) -> None:
    """Send a table of one column messages of six shapes; what it cannot take is refused, and changes nothing."""
    call = limited(liberal.function("land", land), 10, "land")
    chance = draw()
    name = f"Branch{chance.randrange(10**6)}"
    try:
        with scene("land") as db:
            db.execute("create schema if not exists lab10")
            db.execute(sql.SQL("create table {} (id bigint primary key)").format(sql.Identifier("lab10", name)))
            _grows(db, call, name, chance)
    finally:  # a function that has committed leaves its table behind
        with clients.postgres() as db:
            if db.execute("select to_regnamespace('lab10')").fetchone()[0]:
                db.execute(sql.SQL("drop table if exists {}").format(sql.Identifier("lab10", name)))


def _grows(db: Any, call: Any, name: str, chance: random.Random) -> None:
    table, names = f"lab10.{name}", chance.sample(NAMES, len(KINDS))
    shape: dict[str, tuple[str, str]] = {}
    truth: dict[int, Row] = {}
    for kind, column in zip(chance.sample(list(KINDS), len(KINDS)), names, strict=True):
        shape[column] = kind
        if len(shape) == 3:  # the caller takes a message back, and with it the column
            with db.transaction(force_rollback=True):
                _land(db, call, table, {}, shape, _row(chance, 51, shape))
        for key in (chance.randrange(1, 50), chance.randrange(1, 50)):
            _land(db, call, table, truth, shape, _row(chance, key, shape))
    full = {column: chance.choice(KINDS[kind][1]) for column, kind in shape.items()}
    emptied, kept = list(truth)[:2]
    for key in (emptied, kept):
        _land(db, call, table, truth, shape, {"id": key, **full})
    _land(db, call, table, truth, shape, {"id": emptied, **dict.fromkeys(shape)})  # null is a value, too
    _expect_kinds(db, name, shape)
    _expect(db, name, truth, shape, "after each column has come")
    # Two columns are dropped in the shop: what the table knows of them stays.
    left = {column: shape[column] for column in names[2:]}
    for key in (*list(truth)[:3], 77):
        _land(db, call, table, truth, left, _row(chance, key, left))
    _expect(db, name, truth, shape, "after two columns were dropped in the shop")
    _refused(db, call, name, chance, truth, shape)


def _row(chance: random.Random, key: int, shape: Mapping[str, tuple[str, str]]) -> Row:
    def value(kind: tuple[str, str]) -> Any:
        return None if chance.random() < 0.2 else chance.choice(KINDS[kind][1])

    return {"id": key, **{column: value(kind) for column, kind in shape.items()}}


def message(shape: Mapping[str, tuple[str, str]], row: Row, op: str = "c") -> bytes:
    """Write a row as the connector does with `value.converter.schemas.enable`: with its schema."""

    def field(name: str, kind: tuple[str, str]) -> dict[str, Any]:
        found: dict[str, Any] = {"type": kind[0], "optional": name != "id", "field": name}
        return {**found, "name": kind[1], "version": 1} if kind[1] else found

    fields = [field(name, kind) for name, kind in {"id": ("int64", ""), **shape}.items()]
    said = {"type": "struct", "optional": True, "name": "cdc.lab10.lab10.branch.Value"}
    schema = [
        {**said, "fields": fields, "field": "before"},
        {**said, "fields": fields, "field": "after"},
        {"type": "string", "optional": False, "field": "op"},
        {"type": "int64", "optional": True, "field": "ts_ms"},
    ]
    payload = {"before": None, "after": row, "op": op, "ts_ms": 1_778_148_902_000}
    name = "cdc.lab10.lab10.branch.Envelope"
    whole = {"type": "struct", "fields": schema, "optional": False, "name": name, "version": 2}
    return json.dumps({"schema": whole, "payload": payload}).encode()


def _land(
    db: Any, call: Any, table: str, truth: dict[int, Row], shape: Mapping[str, tuple[str, str]], row: Row
) -> None:
    key = row["id"]
    whose = transaction_of(db)
    try:
        call(db, table, message(shape, row, "u" if key in truth else "cr"[key % 2]))
    except psycopg.Error as error:
        raise NotYet(f"land: PostgreSQL refuses it: {error.diag.message_primary or error}") from None
    expect(
        transaction_of(db) == whose,
        "land: it has committed or rolled back: whose transaction is it? (The check will find its tables again.)",
    )
    truth[key] = {**truth.get(key, {}), **row}


def _expect_kinds(db: Any, name: str, shape: Mapping[str, tuple[str, str]]) -> None:
    found = dict(
        db.execute(
            """select attname, format_type(atttypid, null) from pg_attribute
               where attrelid = to_regclass(%s) and attnum > 0 and not attisdropped""",
            [f'lab10."{name}"'],
        ).fetchall()
    )
    for column, kind in shape.items():
        if column not in found:
            raise NotYet(
                f"land: column {column!r} is in the messages and not in the table (there are: {sorted(found)})"
            )
        if found[column] != KINDS[kind][0]:
            raise NotYet(f"land: column {column!r} is {found[column]}, expected {KINDS[kind][0]}")
    if more := sorted(set(found) - set(shape) - {"id"}):
        raise NotYet(f"land: the table has a column that no message has: {more[0]!r}")


def _expect(db: Any, name: str, truth: dict[int, Row], shape: Mapping[str, tuple[str, str]], when: str) -> None:
    def right(row: Row) -> Row:
        values = {column: row.get(column) for column in shape}
        moments = {c: v and datetime.fromisoformat(v) for c, v in values.items() if shape[c][1] == ZONED}
        return {"id": row["id"], **values, **moments}

    query = sql.SQL("select * from {}").format(sql.Identifier("lab10", name))
    found = db.cursor(row_factory=dict_row).execute(query).fetchall()
    expected = [right(row) for row in truth.values()]
    why = "what a message does not speak of stays as it is"
    expect_rows(f"land, {when}", found=found, expected=expected, key=("id",), why=why)


def _refused(
    db: Any, call: Any, name: str, chance: random.Random, truth: dict[int, Row], shape: Mapping[str, tuple[str, str]]
) -> None:
    """Send a type and a meaning that nobody has agreed on, and a value that no longer fits its column."""
    number = next(column for column, kind in shape.items() if kind == ("int32", ""))
    cases = [("strange", *case) for case in STRANGE]
    cases.append((number, ("string", ""), "seven", "a text for a column of whole numbers"))
    for column, kind, value, what in cases:
        changed, row = {**shape, column: kind}, {**_row(chance, 88, shape), column: value}
        refused = False
        try:
            with db.transaction():
                call(db, f"lab10.{name}", message(changed, row))
        except (NotYet, SystemExit):
            raise
        except Exception:  # noqa: BLE001 - that it is refused is what we want to see; how, is the learner's choice
            refused = True
        expect(refused, f"land: {what} was taken without an error: what will be found in the table?")
    _expect(db, name, truth, shape, "after messages that had to be refused")
    _expect_kinds(db, name, shape)
