"""Checks of 05a_data_lake: each asks HDFS, the metastore or HiveServer2, and compares what lies there row by row."""

from __future__ import annotations

import functools
import json
import os
import random
import re
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from flow360 import clients
from flow360.checks import liberal
from flow360.checks.compare import Row, expect_rows, rows
from flow360.checks.draw import draw
from flow360.checks.verdict import NotYet, exercise, expect, expect_equal
from flow360.clients.query import sql
from flow360.settings import ROOT

DAY = "2026-05-07"
FILES = ROOT / "data" / "seed" / "files"
SOURCE = FILES / f"orders_{DAY}.csv"
LANDED = f"/lab/raw/orders/day={DAY}/orders_{DAY}.csv"
ORDERS = "/lab/clean/orders"
PRICES = "/lab/raw/prices/price_list.csv"
PRICE_LIST = FILES / f"price_list_{DAY}.csv"
SMALL, COMPACT = "/lab/readings/small", "/lab/readings/compact"
COPIES = 3

COLUMNS = {
    "order_id": "bigint",
    "customer_id": "bigint",
    "store_id": "bigint",
    "ordered_at": "timestamp",
    "channel": "string",
    "status": "string",
    "items": "bigint",
    "total_eur": "double",
}
TRUTH = f"""
    select {", ".join(COLUMNS)}, to_char((ordered_at at time zone 'Europe/Paris')::date, 'YYYY-MM-DD') as day
    from lake.orders
"""
READINGS = """
    select reading_id, van_id, measured_at, celsius from lake.temperatures order by reading_id limit 5960
"""
TWICE = 40
TABLE = """
    select t."TBL_ID" as id, regexp_replace(s."LOCATION", '^hdfs://[^/]+', '') as location,
           coalesce((select lower(p."PARAM_VALUE") from "TABLE_PARAMS" p
                     where p."TBL_ID" = t."TBL_ID" and p."PARAM_KEY" = 'external.table.purge'), 'false') as purge,
           t."TBL_TYPE" as kind,
           (select string_agg(k."PKEY_NAME" || ' ' || k."PKEY_TYPE", ', ') from "PARTITION_KEYS" k
            where k."TBL_ID" = t."TBL_ID") as keys,
           (select json_object_agg(q."PART_NAME", regexp_replace(l."LOCATION", '^hdfs://[^/]+', ''))
            from "PARTITIONS" q join "SDS" l on l."SD_ID" = q."SD_ID" where q."TBL_ID" = t."TBL_ID") as partitions,
           (select json_object_agg(c."COLUMN_NAME", c."TYPE_NAME") from "COLUMNS_V2" c
            where c."CD_ID" = s."CD_ID") as columns
    from "TBLS" t
    join "DBS" d on d."DB_ID" = t."DB_ID"
    join "SDS" s on s."SD_ID" = t."SD_ID"
    where d."NAME" = 'lab' and t."TBL_NAME" = 'orders'
"""


def _place(name: str, value: Any) -> str:
    """Take a path of HDFS: a text or a path object, with or without hdfs://…, with or without a slash at its end."""
    text = os.fspath(value) if isinstance(value, os.PathLike) else liberal.text(name, value)
    return re.sub(r"^hdfs:/*[^/]*(?=/)", "", text).rstrip("/") if "://" in text else text.rstrip("/")


def _expect_copies(name: str, path: str) -> None:
    """Raise NotYet unless as many copies of each block are asked for and there."""
    lake = clients.lake()
    wanted = lake.info(path)["replication"]
    expect_equal(name, found=wanted, expected=COPIES, why="copies that HDFS is asked to keep of each block")
    there = int(lake.blocks(path)["copies"].min())
    expect_equal(name, found=there, expected=COPIES, why="copies of its worst block: is a machine missing?")


# --- Exercise 1 -------------------------------------------------------------------------------------------------------


@exercise
def land_day(landed: Any) -> None:
    """A file in the raw zone that is the branch's file, byte for byte, with three copies of each block."""
    landed = _place("landed", landed)
    expect_equal("landed", found=landed, expected=LANDED, why="the folder carries the day, the file keeps its name")
    lake = clients.lake()
    expect(lake.isfile(landed), f"landed: expected a file at {landed}, HDFS has none")
    _expect_bytes("landed", lake.cat_file(landed), SOURCE.name)
    _expect_copies("landed", landed)


def _expect_bytes(name: str, found: bytes, file: str) -> None:
    """Raise NotYet unless these are the file's bytes as the generator makes them, whatever became of the file since."""
    sent = _sent()[file]
    if found != sent:
        at = next((n for n, (a, b) in enumerate(zip(found, sent, strict=False)) if a != b), min(len(found), len(sent)))
        raise NotYet(
            f"{name}: expected the {len(sent):,} bytes of {file} as they are, found {len(found):,} that differ "
            f"from byte {at:,} on: did a program read and write it on the way?"
        )


@functools.cache
def _sent() -> dict[str, bytes]:
    """The files of the drop zone as the generator makes them, by name."""
    from flow360.primeur import files
    from flow360.primeur.generate import table
    from flow360.primeur.plan import SEED_PLAN
    from flow360.primeur.records import outward

    orders, prices = (outward(table(name, SEED_PLAN)) for name in ("orders", "price_lists"))
    dropped = [*files.order_files(SEED_PLAN, orders), files.price_file(SEED_PLAN, prices)]
    return {file.name: file.data for file in dropped}


# --- Exercise 2 -------------------------------------------------------------------------------------------------------


@exercise
def external_table(in_hive: Any) -> None:
    """lab.orders: external, partitioned by the day in Paris, the same rows for Hive, pyarrow and the warehouse."""
    in_hive = liberal.whole("in_hive", in_hive)
    about = sql(TABLE, db="metastore")
    expect(not about.empty, "lab.orders: the metastore does not know this table")
    _expect_table(about.iloc[0])
    _expect_types()
    truth = rows(TRUTH)
    hive = sql(f"select {', '.join(COLUMNS)}, day from lab.orders", db="lake").to_dict("records")
    why = "each order once, in the folder of its day in Paris; ordered_at is UTC"
    expect_rows("lab.orders, read by Hive", found=map(_utc, hive), expected=truth, key=("order_id", "day"), why=why)
    files = _dataset(ORDERS).to_table().to_pylist()
    expect_rows(f"{ORDERS}, read by pyarrow", found=map(_utc, files), expected=truth, key=("order_id", "day"), why=why)
    expect_equal("in_hive", found=in_hive, expected=len(hive), why="the rows that Hive counts")


def _expect_table(table: Any) -> None:
    """Raise NotYet unless the metastore knows an external table of these columns over these folders."""
    expect_equal("lab.orders", found=table["location"], expected=ORDERS, why="the folder that it points at")
    if table["kind"] != "EXTERNAL_TABLE" or table["purge"] == "true":
        raise NotYet("lab.orders: expected an external table, found one whose files go when it is dropped")
    expect_equal("lab.orders", found=table["keys"], expected="day string", why="its partition column")
    there = table["columns"] or {}
    for column in [*COLUMNS, *there]:
        kinds = there.get(column, "none of that name"), COLUMNS.get(column, "none of that name")
        expect_equal(f"lab.orders, column {column}", found=kinds[0], expected=kinds[1], why="in Hive's table")
    partitions = table["partitions"] or {}
    expect(partitions, "lab.orders: the metastore has no partition of it: who announces the folders?")
    for name, location in partitions.items():
        expect_equal(f"lab.orders, partition {name}", found=location, expected=f"{ORDERS}/{name}", why="its folder")


def _dataset(folder: str) -> Any:
    import pyarrow as pa
    import pyarrow.dataset as ds

    by_day = ds.partitioning(pa.schema([("day", pa.string())]), flavor="hive")
    return ds.dataset(folder, filesystem=clients.lake(), format="parquet", partitioning=by_day)


def _expect_types() -> None:
    """Raise NotYet unless each file holds what the table says: Hive believes its own types, and the file has others."""
    import pyarrow.types as kinds

    fits = {
        "bigint": kinds.is_int64,
        "double": kinds.is_float64,
        "timestamp": kinds.is_timestamp,
        "string": lambda kind: kinds.is_string(getattr(kind, "value_type", kind)) or kinds.is_large_string(kind),
    }
    for piece in _dataset(ORDERS).get_fragments():
        there = {field.name: field.type for field in piece.physical_schema}
        for column, kind in COLUMNS.items():
            expect(column in there, f"{piece.path}: the file has no column {column}")
            expect(
                fits[kind](there[column]),
                f"{piece.path}: {column} is {there[column]} in the file, and {kind} in the table: "
                "Hive reads the file by the table's word",
            )


def _utc(row: Row) -> Row:
    """A moment without a zone is one of UTC, in Hive and in a file."""
    moments = {name: value for name, value in row.items() if isinstance(value, datetime) and value.tzinfo is None}
    return {**row, **{name: value.replace(tzinfo=UTC) for name, value in moments.items()}}


# --- Exercise 3 -------------------------------------------------------------------------------------------------------

ASIDE = "lab_check"
"""A database of the check's own: its table `orders` has the form of lab.orders, and rows that nobody has seen."""
_LAB = re.compile(r"`?\blab\b`?(?=\s*\.\s*`?orders\b)", re.IGNORECASE)


@exercise
def pruned_query(query: Any) -> None:
    """A query for the worth of one day's orders whose plan reads one partition, asked of a table with other rows."""
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
    """Days around the seventh, and the seventh of another year; what the orders of the seventh are worth."""
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
    """Orders of one day: its first and last second, every state and channel, equal amounts, one of nothing."""
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
    """Several statements in one session."""
    with clients.lake_errors(), clients.hive() as connection, connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


# --- Exercise 4 -------------------------------------------------------------------------------------------------------


@exercise
def repair_file(fewest: Any) -> None:
    """The price list as it came, with three copies asked for, and three copies there."""
    fewest = liberal.whole("fewest", fewest)
    lake = clients.lake()
    expect(lake.isfile(PRICES), f"{PRICES}: HDFS does not have this file: run the cell above it again")
    _expect_bytes(PRICES, lake.cat_file(PRICES), PRICE_LIST.name)
    _expect_copies(PRICES, PRICES)
    expect_equal("fewest", found=fewest, expected=COPIES, why="the copies of the worst block, after the repair")


# --- Exercise 5 -------------------------------------------------------------------------------------------------------


@exercise
def compact_files(compacted: Any) -> None:
    """One file with exactly the rows of the sixty, which are still there, as they were."""
    compacted = _place("compacted", compacted)
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
            expect_equal(
                "compacted, columns", found=_kinds(table), expected=_kinds(given), why="the same, of the same types"
            )
        expect_rows(name, found=table.to_pylist(), expected=truth, key=("reading_id",), why=why)


def _data(paths: Iterable[str]) -> list[str]:
    """Those that a reader of the folder takes: what begins with _ or . is not data."""
    return sorted(path for path in paths if not path.rpartition("/")[2].startswith(("_", ".")))


def _read(paths: list[str]) -> Any:
    """The rows of small files; most of the time is the way to HDFS and back, so several are on it at once."""
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
    """Names and types; in which unit a moment is kept, and by which offsets a text, is the writer's choice."""
    kinds = {field.name: re.sub(r"\[\w+", "[", str(field.type)) for field in table.schema}
    return {name: kind.removeprefix("large_") for name, kind in sorted(kinds.items())}
