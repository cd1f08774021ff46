"""Exercise 2: files that Hive, pyarrow and the warehouse read alike."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from flow360 import clients
from flow360.checks import liberal
from flow360.checks.c05a_data_lake.setting import COLUMNS, ORDERS
from flow360.checks.compare import Row, expect_rows, rows
from flow360.checks.verdict import NotYet, exercise, expect, expect_equal
from flow360.clients.query import sql

TRUTH = f"""
    select {", ".join(COLUMNS)}, to_char((ordered_at at time zone 'Europe/Paris')::date, 'YYYY-MM-DD') as day
    from lake.orders
"""
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


@exercise
def external_table(in_hive: Any) -> None:
    """Check lab.orders: external, by the day in Paris, the same rows for Hive, pyarrow and the warehouse."""
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
    """Take a moment without a zone for one of UTC, as it is in Hive and in a file."""
    moments = {name: value for name, value in row.items() if isinstance(value, datetime) and value.tzinfo is None}
    return {**row, **{name: value.replace(tzinfo=UTC) for name, value in moments.items()}}
