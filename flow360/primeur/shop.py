"""The shop's own tables on their way out: what of them belongs to a day, as bytes of CSV, and what a row looks like.

    with clients.postgres("source") as shop:
        for extract in extracts(shop, date(2026, 5, 7)):
            extract.table, extract.rows, extract.data

A night takes two kinds of tables. Of those that tell *what is* (customers, products …) it takes all rows. Of those that
tell *what happened* it takes a day's, and with an order that something happened to on that day (it was placed, paid,
brought, refunded, reviewed) all of it, as it stands now: an order is placed on one day and brought on the next, and the
row that says so is the same one. So each night is whole in itself, and the last one to bring an order is right.

The contracts are made from schema.py, since the shop's tables are.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from functools import cache
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from flow360.primeur.clock import bounds
from flow360.primeur.contract import Column, Contract
from flow360.primeur.schema import MONEY, TABLES, WAREHOUSE
from flow360.primeur.schema import Column as Promised

if TYPE_CHECKING:
    import psycopg

# [START extracts]
HAPPENED = """
    select order_id, ordered_at as moment from orders
    union all select order_id, paid_at from payments
    union all select order_id, delivered_at from deliveries
    union all select order_id, written_at from reviews"""
TOUCHED = f"""order_id in (
    select order_id from ({HAPPENED}) as happened where moment >= %(start)s and moment < %(end)s)"""
OF_THE_DAY = {
    **dict.fromkeys(("orders", "order_lines", "payments", "deliveries", "reviews"), TOUCHED),
    "temperatures": "measured_at >= %(start)s and measured_at < %(end)s",
    "weather": "observed_at >= %(start)s and observed_at < %(end)s",
}
"""Which rows of a table a night takes; of a table that is not named here, all."""
# [END extracts]


@dataclass(frozen=True)
class Extract:
    """One table's rows of a day: CSV with a header, as PostgreSQL's COPY writes it, and how many rows it counted."""

    table: str
    data: bytes
    rows: int


def extracts(shop: psycopg.Connection, day: date) -> Iterator[Extract]:
    """Yield the twelve tables, all as they stood at one moment, whatever is written meanwhile.

    Args:
        shop: postgres-source; the connection is in no transaction yet, and is left in one that has changed nothing.
    """
    start, end = bounds(day)
    shop.execute("set transaction isolation level repeatable read, read only")
    shop.execute("set local datestyle to iso; set local timezone to 'UTC'; set local extra_float_digits to 1")
    for table in WAREHOUSE:
        schema = TABLES[table]
        query = (
            f"select {', '.join(schema.names)} from {table} where {OF_THE_DAY.get(table, 'true')} "
            f"order by {', '.join(schema.key)}"
        )
        command = f"copy ({query}) to stdout (format csv, header, encoding 'UTF8')"
        with shop.cursor() as cursor:
            with cursor.copy(command, {"start": start, "end": end}) as copy:
                data = b"".join(bytes(block) for block in copy)
            yield Extract(table, data, cursor.rowcount)


# --- Contracts --------------------------------------------------------------------------------------------------------

_DAY = "[0-9]{4}-[0-9]{2}-[0-9]{2}"
_GRAMMAR = {
    "integer": ("-?[0-9]{1,19}", "not a whole number"),
    "number": (r"-?[0-9]{1,40}(\.[0-9]{1,40})?(e[+-][0-9]{1,3})?", "not a number"),
    "boolean": ("[tf]", "not t or f"),
    "date": (_DAY, "not a day"),
    "timestamp": (rf"{_DAY} [0-9]{{2}}:[0-9]{{2}}:[0-9]{{2}}(\.[0-9]{{1,6}})?\+00", "not a moment in UTC"),
}
"""How COPY writes a value, and what one is called that is written in another way."""


@cache
def shop_contract(table: str) -> Contract:
    """Make the contract of an extract's rows out of `schema.TABLES`, with its types, keys and checks."""
    schema = TABLES[table]
    return Contract(
        name=f"{table}_shop",
        title=f"{table}, as the shop has them",
        table=table,
        grain=schema.grain,
        columns={column.name: _column(column, column.name in schema.key) for column in schema.columns},
        format="csv",
        path=f"{table}.csv",
    )


def _column(promised: Promised, key: bool) -> Column:
    kind = _kind(promised.type)
    least, most = _range(promised)
    rules = ()
    if kind in _GRAMMAR:
        pattern, why = _GRAMMAR[kind]
        rules = ((re.compile(pattern, re.ASCII), why),)
    return Column(
        name=promised.name,
        kind=kind,
        required=not promised.nullable,
        rules=rules,
        least=least,
        most=most,
        places=2 if promised.type == MONEY else None,
        values=tuple(re.findall("'([^']*)'", promised.check)),
        key=key,
        unit=promised.unit,
    )


def _kind(type_: pa.DataType) -> str:
    tests = {
        "integer": pa.types.is_integer,
        "number": lambda one: pa.types.is_floating(one) or pa.types.is_decimal(one),
        "boolean": pa.types.is_boolean,
        "date": pa.types.is_date,
        "timestamp": pa.types.is_timestamp,
    }
    return next((kind for kind, test in tests.items() if test(type_)), "string")


def _range(promised: Promised) -> tuple[Any, Any]:
    """Return least and most: what the type holds, and what the check of the column allows."""
    least = most = None
    if pa.types.is_integer(promised.type):
        most = 2 ** (promised.type.bit_width - 1) - 1
        least = -most - 1
    elif promised.type == MONEY:
        most = Decimal("99999999.99")
        least = -most
    if match := re.fullmatch(r"(>=?) 0", promised.check):
        step = 1 if pa.types.is_integer(promised.type) else Decimal("0.01") if promised.type == MONEY else 0
        least = step if match[1] == ">" else 0
    elif match := re.fullmatch(r"between (\d+) and (\d+)", promised.check):
        least, most = int(match[1]), int(match[2])
    return (least, most) if least is None or pa.types.is_integer(promised.type) else (Decimal(least), most)
