"""Exercise 3: a query that reads one day's folder."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from flow360 import clients
from flow360.checks import liberal
from flow360.checks.c05a_data_lake.setting import COLUMNS, DAY
from flow360.checks.compare import Row
from flow360.checks.draw import draw
from flow360.checks.verdict import exercise, expect, expect_equal
from flow360.clients.query import sql

ASIDE = "lab_check"
"""A database of the check's own: its table `orders` has the form of lab.orders, and rows that nobody has seen."""
_LAB = re.compile(r"`?\blab\b`?(?=\s*\.\s*`?orders\b)", re.IGNORECASE)


@exercise
def pruned_query(query: Any) -> None:
    """Check a query for the worth of one day's orders: it reads one partition, and is right for other rows, too."""
    text = liberal.statement("query", query)
    expect(_LAB.search(text), "query: expected it to ask lab.orders, by this name")
    text = _LAB.sub(ASIDE, text)
    with _aside(draw()) as worth:
        plan = json.loads(sql(f"explain dependency {text}", db="lake").iat[0, 0])
        tables = [one["tablename"].replace(ASIDE, "lab") for one in plan["input_tables"]]
        expect_equal("query", found=tables, expected=["lab@orders"], why="the tables in its plan")
        read = [one["partitionName"].rpartition("@")[2] for one in plan["input_partitions"]]
        expect(
            len(read) == 1,
            f"query: expected one partition in the plan, found {len(read)}: can Hive decide by the names of the "
            "folders?",
        )
        expect_equal("query", found=read[0], expected=f"day={DAY}", why="the partition in its plan")
        answer = sql(text, db="lake")
    expect(answer.shape == (1, 1), f"query: expected one number, found {len(answer)} rows of {answer.shape[1]} columns")
    value = answer.iat[0, 0]
    expect(value is not None, "query: expected a number, found null: over which rows does it sum?")
    found = liberal.number("query", value)
    expect(
        abs(found - float(worth)) < 0.005,
        f"query: of a table with other orders, expected {worth:,.2f} EUR for the day, found {found:,.2f}: "
        "all orders of the day, whatever became of them",
    )


@contextmanager
def _aside(chance: random.Random) -> Iterator[Decimal]:
    """Put aside the seventh, days around it, and one of another year; yield what the orders of the seventh sum to."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    lake, folder = clients.lake(), f"/lab/{ASIDE}"
    worth, begin = Decimal(0), datetime(2026, 5, 6, 22, tzinfo=UTC)
    schema = pa.schema([(name, _arrow()[kind]) for name, kind in COLUMNS.items()])
    _hive(f"drop database if exists {ASIDE} cascade")
    lake.rm(folder, recursive=True, missing_ok=True)
    try:
        for day, shift in (("2026-05-06", -1), (DAY, 0), ("2026-05-08", 1), ("2025-05-07", -365)):
            orders = _orders(chance, begin + timedelta(days=shift))
            worth += sum(Decimal(str(one["total_eur"])) for one in orders) if not shift else 0
            table = pa.Table.from_pylist(orders, schema)
            pq.write_table(table, f"{folder}/day={day}/part-0.parquet", filesystem=lake)
        columns = ", ".join(f"{name} {kind}" for name, kind in COLUMNS.items())
        _hive(
            f"create database {ASIDE}",
            f"create external table {ASIDE}.orders ({columns}) partitioned by (day string) stored as parquet "
            f"location '{folder}'",
            f"msck repair table {ASIDE}.orders",
        )
        yield worth
    finally:
        _hive(f"drop database if exists {ASIDE} cascade")
        lake.rm(folder, recursive=True, missing_ok=True)


def _orders(chance: random.Random, begin: datetime) -> list[Row]:
    """Draw orders of one day: its first and last second, every state and channel, equal amounts, one of nothing."""
    amounts = [0.0, 0.01, 0.29, 19.99, 19.99, *(chance.randrange(100, 99_999) / 100 for _ in range(15))]
    states = ("delivered", "cancelled", "refunded", "placed")
    seconds = [0, 86_399, *(chance.randrange(86_400) for _ in amounts[2:])]
    return [
        {
            "order_id": chance.randrange(10**9),
            "customer_id": chance.randrange(1, 2000),
            "store_id": n % 12 + 1,
            "ordered_at": begin + timedelta(seconds=seconds[n]),
            "channel": ("web", "app", "phone")[n % 3],
            "status": states[n % 4],
            "items": n % 7 + 1,
            "total_eur": amount,
        }
        for n, amount in enumerate(amounts)
    ]


def _arrow() -> dict[str, Any]:
    import pyarrow as pa

    return {"bigint": pa.int64(), "double": pa.float64(), "string": pa.string(), "timestamp": pa.timestamp("us", "UTC")}


def _hive(*statements: str) -> None:
    """Run several statements in one session."""
    with clients.lake_errors(), clients.hive() as connection, connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
