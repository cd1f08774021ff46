"""One day of the shop in the lake's raw zone: a Parquet file for each table, and the statements that make Hive know it.

    /raw/orders/day=2026-05-07/orders.parquet      the file, written whole or not at all
    raw.orders, partition day='2026-05-07'         the same for whoever asks in SQL

The types are those of Primeur's own schema, so that nothing is guessed on the way.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from datetime import datetime

import psycopg
import pyarrow as pa
import pyarrow.parquet as pq

from flow360.clients.webhdfs import Lake
from flow360.primeur.schema import MONEY, TABLES, UTC

ZONE = "/raw"
SOURCES = {
    "orders": ("orders t", "t.ordered_at"),
    "order_lines": ("order_lines t join orders o using (order_id)", "o.ordered_at"),
    "deliveries": ("deliveries t", "t.delivered_at"),
}
"""What goes into the lake: table -> where it comes from, and the moment by which a row belongs to a day."""
HIVE = {pa.int32(): "int", pa.int64(): "bigint", pa.string(): "string", pa.float64(): "double"}
HIVE |= {MONEY: "decimal(10,2)", UTC: "timestamp"}


class Mismatch(ValueError):
    """What Hive reads is not what was written."""


def partition(table: str, day: str) -> str:
    """The folder of one day of a table."""
    return f"{ZONE}/{table}/day={day}"


def read(shop: psycopg.Connection, table: str, start: datetime, end: datetime) -> pa.Table:
    """The rows of one table in [start, end), in the order of their key."""
    schema, (source, moment) = TABLES[table], SOURCES[table]
    columns, key = (", ".join(f"t.{name}" for name in names) for names in (schema.names, schema.key))
    query = f"select {columns} from {source} where {moment} >= %s and {moment} < %s order by {key}"
    rows = shop.execute(query, (start, end)).fetchall()
    return schema.build(list(zip(*rows, strict=True)) or [[] for _ in schema.names])


def copy_day(shop: psycopg.Connection, lake: Lake, table: str, day: str, start: datetime, end: datetime) -> int:
    """Write one table's rows of a day, in place of those that an earlier run has written; how many there are."""
    rows, buffer = read(shop, table, start, end), io.BytesIO()
    pq.write_table(rows, buffer, coerce_timestamps="us")
    lake.replace(f"{partition(table, day)}/{table}.parquet", buffer.getvalue())
    return rows.num_rows


def statements(tables: Iterable[str], day: str) -> list[str]:
    """The statements for Hive, so that it sees a day of these tables; they may be run twice."""
    told = ["create database if not exists raw"]
    for table in tables:
        columns = ", ".join(f"{column.name} {HIVE[column.type]}" for column in TABLES[table].columns)
        told += [
            f"create external table if not exists raw.{table} ({columns}) "
            f"partitioned by (day string) stored as parquet location '{ZONE}/{table}'",
            f"alter table raw.{table} add if not exists partition (day='{day}') location '{partition(table, day)}'",
        ]
    return told


def announce(cursor, written: Mapping[str, int], day: str) -> None:
    """Make the day's partitions known to Hive, and let it count them.

    Args:
        cursor: of HiveServer2 (DB-API).
        written: table -> rows.

    Raises:
        Mismatch: with both sides in the message.
    """
    for statement in statements(written, day):
        cursor.execute(statement)
    cursor.execute(
        " union all ".join(f"select '{table}', count(*) from raw.{table} where day = '{day}'" for table in written)
    )
    found = dict(cursor.fetchall())
    if found != dict(written):
        raise Mismatch(f"{day}: written {dict(written)}, Hive reads {found}")
