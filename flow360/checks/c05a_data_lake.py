"""Checks of 05a_data_lake: each asks HDFS, the metastore or HiveServer2."""

from __future__ import annotations

import json
from typing import Any

from flow360 import clients
from flow360.checks import liberal
from flow360.checks.verdict import NotYet, exercise, expect, expect_equal
from flow360.clients.query import sql
from flow360.settings import ROOT

DAY = "2026-05-07"
SOURCE = ROOT / "data" / "seed" / "files" / f"orders_{DAY}.csv"
LANDED = f"/lab/raw/orders/day={DAY}/orders_{DAY}.csv"
ORDERS = "/lab/clean/orders"
PRICES = "/lab/raw/prices/price_list.csv"
SMALL, COMPACT = "/lab/readings/small", "/lab/readings/compact"

COLUMNS = (
    "channel string, customer_id bigint, items bigint, order_id bigint, ordered_at timestamp, status string, "
    "store_id bigint, total_eur double"
)
PER_DAY = """
    select to_char((ordered_at at time zone 'Europe/Paris')::date, 'YYYY-MM-DD') as day,
           count(*) as orders, sum(total_eur)::float8 as euros
    from lake.orders group by day order by day
"""
TABLE = """
    select t."TBL_ID" as id, regexp_replace(s."LOCATION", '^hdfs://[^/]+', '') as location,
           coalesce((select lower(p."PARAM_VALUE") from "TABLE_PARAMS" p
                     where p."TBL_ID" = t."TBL_ID" and p."PARAM_KEY" = 'external.table.purge'), 'false') as purge,
           t."TBL_TYPE" as kind,
           (select string_agg(k."PKEY_NAME", ', ') from "PARTITION_KEYS" k where k."TBL_ID" = t."TBL_ID") as keys,
           (select count(*) from "PARTITIONS" q where q."TBL_ID" = t."TBL_ID") as partitions,
           (select string_agg(c."COLUMN_NAME" || ' ' || c."TYPE_NAME", ', ' order by c."COLUMN_NAME")
            from "COLUMNS_V2" c where c."CD_ID" = s."CD_ID") as columns
    from "TBLS" t
    join "DBS" d on d."DB_ID" = t."DB_ID"
    join "SDS" s on s."SD_ID" = t."SD_ID"
    where d."NAME" = 'lab' and t."TBL_NAME" = 'orders'
"""


@exercise
def land_day(landed: Any) -> None:
    """A file in the raw zone that is the branch's file, byte for byte, with three copies of each block."""
    landed = str(liberal.path("landed", landed))
    expect_equal("landed", found=landed, expected=LANDED, why="the folder carries the day, the file keeps its name")
    lake = clients.lake()
    expect(lake.isfile(landed), f"landed: expected a file at {landed}, HDFS has none")
    found, sent = lake.cat_file(landed), SOURCE.read_bytes()
    if found != sent:
        raise NotYet(
            f"landed: expected the {len(sent):,} bytes of {SOURCE.name} as they are, found {len(found):,} that differ: "
            "did a program read and write it on the way?"
        )
    wanted = lake.info(landed)["replication"]
    expect_equal("landed", found=wanted, expected=3, why="copies that HDFS is asked to keep of each block")


@exercise
def external_table(in_hive: Any) -> None:
    """lab.orders: external, partitioned by the day in Paris, the same rows for Hive, pyarrow and the warehouse."""
    import pyarrow.dataset as ds

    in_hive = liberal.whole("in_hive", in_hive)
    about = sql(TABLE, db="metastore")
    expect(not about.empty, "lab.orders: the metastore does not know this table")
    table = about.iloc[0]
    expect_equal("lab.orders", found=table["location"], expected=ORDERS, why="the folder that it points at")
    if table["kind"] != "EXTERNAL_TABLE" or table["purge"] == "true":
        raise NotYet("lab.orders: expected an external table, found one whose files go when it is dropped")
    expect_equal("lab.orders", found=table["keys"], expected="day", why="its partition column")
    odd = sorted(set(COLUMNS.split(", ")) ^ set(str(table["columns"]).split(", ")))
    expect(not odd, f"lab.orders: missing, too many or of another type: {', '.join(odd)}")
    expect(
        table["partitions"] > 0,
        "lab.orders: the metastore has no partition of it: who announces the folders?",
    )
    truth = sql(PER_DAY).set_index("day")["orders"]
    hive = sql("select day, count(*) as orders from lab.orders group by day", db="lake")
    hive = hive.set_index("day")["orders"].sort_index()
    expect_equal("lab.orders", found=int(hive.sum()), expected=int(truth.sum()), why="rows that Hive reads")
    for day in truth.index.union(hive.index):
        found, expected = int(hive.get(day, 0)), int(truth.get(day, 0))
        why = "a day is a day in Paris, the column is in UTC"
        expect_equal(f"lab.orders, day {day}", found=found, expected=expected, why=why)
    files = ds.dataset(ORDERS, filesystem=clients.lake(), format="parquet", partitioning="hive")
    expect_equal(ORDERS, found=files.count_rows(), expected=int(truth.sum()), why="rows that pyarrow reads")
    expect_equal("in_hive", found=in_hive, expected=int(hive.sum()), why="the rows that Hive counts")


@exercise
def pruned_query(query: Any) -> None:
    """A query for the worth of one day's orders whose plan reads one partition of lab.orders."""
    query = liberal.statement("query", query)
    plan = json.loads(sql(f"explain dependency {query}", db="lake").iat[0, 0])
    tables = [one["tablename"] for one in plan["input_tables"]]
    expect_equal("query", found=tables, expected=["lab@orders"], why="the tables in its plan")
    read = [one["partitionName"].rpartition("@")[2] for one in plan["input_partitions"]]
    expect(
        len(read) == 1,
        f"query: expected one partition in the plan, found {len(read)}: can Hive decide by the names of the folders?",
    )
    expect_equal("query", found=read[0], expected=f"day={DAY}", why="the partition in its plan")
    answer = sql(query, db="lake")
    expect(answer.shape == (1, 1), f"query: expected one number, found {len(answer)} rows of {answer.shape[1]} columns")
    found = liberal.number("query: its number", answer.iat[0, 0])
    expected = float(sql(PER_DAY).set_index("day").loc[DAY, "euros"])
    expect(abs(found - expected) < 0.01, f"query: expected {expected:,.2f} EUR, found {found:,.2f}")


@exercise
def repair_file(fewest: Any) -> None:
    """The price list with three copies asked for, and three copies there."""
    fewest = liberal.whole("fewest", fewest)
    lake = clients.lake()
    expect(lake.isfile(PRICES), f"{PRICES}: HDFS does not have this file: run the cell above it again")
    wanted = lake.info(PRICES)["replication"]
    expect_equal(PRICES, found=wanted, expected=3, why="copies asked for: asking for fewer is not a repair")
    there = int(lake.blocks(PRICES)["copies"].min())
    expect_equal(PRICES, found=there, expected=3, why="copies of its worst block: is a machine missing?")
    expect_equal("fewest", found=fewest, expected=3, why="the copies of the worst block, after the repair")


@exercise
def compact_files(compacted: Any) -> None:
    """One file with exactly the rows of the sixty, which are still there."""
    import pyarrow.parquet as pq

    compacted = str(liberal.path("compacted", compacted))
    expect_equal("compacted", found=compacted, expected=COMPACT, why="the folder of the one file")
    lake = clients.lake()
    source, target = (sorted(lake.find(folder)) for folder in (SMALL, COMPACT))
    expect_equal(SMALL, found=len(source), expected=60, why="files; the small ones stay where they are")
    expect(target, f"compacted: HDFS has no file below {COMPACT}")
    expect_equal("compacted", found=len(target), expected=1, why="files in that folder")
    before = _rows(pq.read_table(SMALL, filesystem=lake))
    after = _rows(pq.read_table(COMPACT, filesystem=lake))
    if len(after) != len(before):
        doubled = before.duplicated().sum()
        why = "rows that occur twice are rows, too" if len(before) - len(after) == doubled else "rows in the folder"
        expect_equal("compacted", found=len(after), expected=len(before), why=why)
    expect(before.equals(after), "compacted: as many rows as in the small files, but not the same ones")


def _rows(table: Any) -> Any:
    frame = table.to_pandas()
    columns = sorted(frame.columns)
    return frame[columns].sort_values(columns, ignore_index=True)
