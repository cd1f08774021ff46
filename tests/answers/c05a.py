"""Answers of 05a_data_lake."""

from __future__ import annotations

from pathlib import PurePosixPath

import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from flow360 import lesson
from flow360.checks.c05a_data_lake import COMPACT, LANDED, ORDERS, PRICES, SMALL, SOURCE
from flow360.clients import lake
from tests.answers import delivered, near_miss, right

COLUMNS = """order_id bigint, customer_id bigint, store_id bigint, ordered_at timestamp,
    channel string, status string, items bigint, total_eur double"""


def reset(exercise: str) -> None:
    """Each exercise begins with what its given cell leaves."""
    delivered()
    fs = lake()
    if exercise == "land_day":
        fs.rm("/lab/raw/orders", recursive=True, missing_ok=True)
    if exercise == "external_table":
        drop_table()
    if exercise == "pruned_query" and "orders" not in made:
        drop_table()
        make_table()
        made.add("orders")
    if exercise == "repair_file":
        lose_a_copy()
    if exercise == "compact_files":
        fs.rm(COMPACT, recursive=True, missing_ok=True)
        if not fs.exists(SMALL):
            write_small()


made: set[str] = set()  # what later answers of this run may rely on


def drop_table() -> None:
    made.discard("orders")
    lesson.sql("create database if not exists lab", db="lake")
    lesson.sql("drop table if exists lab.orders", db="lake")
    lake().rm(ORDERS, recursive=True, missing_ok=True)


def lose_a_copy() -> None:
    """The price list asks for three copies and has two; datanode-3 is gone."""
    fs = lake()
    if fs.isfile(PRICES) and set(fs.blocks(PRICES)["copies"]) == {2}:
        fs.set_replication(PRICES, 3)
        return
    lesson.start("datanode-3")
    fs.write(PRICES, SOURCE.with_name("price_list_2026-05-07.csv").read_bytes(), replication=3)
    lesson.stop("datanode-3")
    lesson.wait_for(lambda: set(lake().blocks(PRICES)["copies"]) == {2}, 60, "the NameNode to notice")


def write_small() -> None:
    rows = lesson.sql("select reading_id, van_id, celsius from lake.temperatures order by reading_id limit 5960")
    rows = rows.loc[[*rows.index, *rows.index[:40]]]
    for number in range(60):
        part = pa.Table.from_pandas(rows.iloc[number * 100 : (number + 1) * 100], preserve_index=False)
        pq.write_table(part, f"{SMALL}/{number:02d}.parquet", filesystem=lake())


# --- land_day ---------------------------------------------------------------------------------------------------------


@right("land_day", solved=True)
def bytes_as_they_came():
    lake().write(LANDED, SOURCE.read_bytes(), replication=3)
    return LANDED


@right("land_day")
def put_file_then_copies():
    fs = lake()
    fs.mkdir(LANDED.rpartition("/")[0])
    fs.put_file(str(SOURCE), LANDED)
    fs.set_replication(LANDED, 3)
    return LANDED


@near_miss("land_day", says="did a program read and write it")
def through_pandas():
    frame = pd.read_csv(SOURCE, on_bad_lines="skip", encoding_errors="replace", dtype=str)
    lake().write(LANDED, frame.to_csv(index=False).encode(), replication=3)
    return LANDED


@near_miss("land_day", says="copies that HDFS is asked to keep")
def one_copy():
    lake().write(LANDED, SOURCE.read_bytes(), replication=1)
    return LANDED


@near_miss("land_day", says="the folder carries the day")
def without_the_day():
    path = f"/lab/raw/orders/{SOURCE.name}"
    lake().write(path, SOURCE.read_bytes(), replication=3)
    return path


# --- external_table ---------------------------------------------------------------------------------------------------


def make_table(
    kind: str = "external", zone: str = "Europe/Paris", announce: bool = True, columns: str = COLUMNS
) -> int:
    orders = lesson.sql("""
        select order_id, customer_id, store_id, ordered_at, channel, status, items, total_eur from lake.orders
    """)
    orders["day"] = orders["ordered_at"].dt.tz_convert(zone).dt.strftime("%Y-%m-%d")
    table = pa.Table.from_pandas(orders, preserve_index=False)
    pq.write_to_dataset(table, ORDERS, filesystem=lake(), partition_cols=["day"])
    lesson.sql(
        f"create {kind} table lab.orders ({columns}) partitioned by (day string) stored as parquet location '{ORDERS}'",
        db="lake",
    )
    if announce:
        lesson.sql("msck repair table lab.orders", db="lake")
    return int(lesson.sql("select count(*) from lab.orders", db="lake").iat[0, 0])


@right("external_table", solved=True)
def external_and_announced():
    return make_table()


@right("external_table")
def each_partition_by_name():
    make_table(announce=False)
    for folder in lake().ls(ORDERS):
        lesson.sql(f"alter table lab.orders add partition (day = '{folder.rpartition('=')[2]}')", db="lake")
    return int(lesson.sql("select count(*) from lab.orders", db="lake").iat[0, 0])


@near_miss("external_table", says="files go when it is dropped")
def without_external():
    return make_table(kind="")


@near_miss("external_table", says="of another type: channel string")
def two_columns_only():
    return make_table(columns="order_id bigint, total_eur double")


@near_miss("external_table", says="who announces the folders")
def not_announced():
    return make_table(announce=False)


@near_miss("external_table", says="a day in Paris")
def days_in_utc():
    return make_table(zone="UTC")


# --- pruned_query -----------------------------------------------------------------------------------------------------


@right("pruned_query", solved=True)
def by_the_folder():
    return "select sum(total_eur) from lab.orders where day = '2026-05-07'"


@right("pruned_query")
def by_the_folder_and_more():
    return "select sum(o.total_eur) as worth from lab.orders o where o.day in ('2026-05-07') and o.items > 0;\n"


@near_miss("pruned_query", says="by the names of the folders")
def by_the_content():
    return """
        select sum(total_eur) from lab.orders
        where ordered_at >= '2026-05-06 22:00:00' and ordered_at < '2026-05-07 22:00:00'
    """


@near_miss("pruned_query", says="day=2026-05-08")
def the_day_after():
    return "select sum(total_eur) from lab.orders where day = '2026-05-08'"


@near_miss("pruned_query", says="expected 12")
def the_delivered_ones_only():
    return "select sum(total_eur) from lab.orders where day = '2026-05-07' and status = 'delivered'"


# --- repair_file ------------------------------------------------------------------------------------------------------


@near_miss("repair_file", says="asking for fewer is not a repair")
def ask_for_fewer():
    lake().set_replication(PRICES, 2)
    return 3


@near_miss("repair_file", says="is a machine missing")
def nothing_done():
    return int(lake().info(PRICES)["replication"])


@right("repair_file", solved=True)
def the_machine_is_back():
    lesson.start("datanode-3")
    lesson.wait_for(lambda: lake().blocks(PRICES)["copies"].min() == 3, 60, "the third copy")
    return int(lake().blocks(PRICES)["copies"].min())


# --- compact_files ----------------------------------------------------------------------------------------------------


def small_rows() -> pa.Table:
    return ds.dataset(SMALL, filesystem=lake()).to_table()


@right("compact_files", solved=True)
def one_file():
    pq.write_table(small_rows(), f"{COMPACT}/part-0.parquet", filesystem=lake())
    return COMPACT


@right("compact_files")
def sorted_by_pandas():
    frame = small_rows().to_pandas().sort_values(["van_id", "reading_id"])
    with lake().open(f"{COMPACT}/all.parquet", "wb") as file:
        frame.to_parquet(file, index=False)
    return PurePosixPath(COMPACT)


@near_miss("compact_files", says="occur twice are rows")
def without_doubles():
    frame = small_rows().to_pandas().drop_duplicates()
    pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), f"{COMPACT}/0.parquet", filesystem=lake())
    return COMPACT


@near_miss("compact_files", says="expected 1, found 2")
def run_twice():
    for number in range(2):
        pq.write_table(small_rows(), f"{COMPACT}/run-{number}.parquet", filesystem=lake())
    return COMPACT


@near_miss("compact_files", says="small ones stay where they are")
def moved_instead():
    rows = small_rows()
    lake().rm(SMALL, recursive=True, missing_ok=True)
    pq.write_table(rows, f"{COMPACT}/part-0.parquet", filesystem=lake())
    return COMPACT
