"""Answers of 05a_data_lake."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from pathlib import PurePosixPath

import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from flow360 import lesson
from flow360.checks.c05a_data_lake.compaction import COMPACT, READINGS, SMALL
from flow360.checks.c05a_data_lake.copies import LANDED, PRICE_LIST, PRICES, SOURCE
from flow360.checks.c05a_data_lake.setting import COLUMNS, ORDERS
from flow360.clients import lake
from tests.answers import delivered, last_hint, near_miss, right

TYPED = ", ".join(f"{name} {kind}" for name, kind in COLUMNS.items())


def reset(exercise: str) -> None:
    """Each exercise begins with what its given cell leaves."""
    delivered()
    fs = lake()
    if exercise == "land_day":
        fs.rm("/lab/raw/orders", recursive=True, missing_ok=True)
    if exercise == "external_table":
        drop_table()
    if exercise == "repair_file":
        lose_a_copy()
    if exercise == "compact_files":
        fs.rm(COMPACT, recursive=True, missing_ok=True)
        if not fs.exists(SMALL):
            write_small(range(60))
        elif "last" in spoilt:
            write_small([59])
        spoilt.discard("last")


spoilt = {"copies", "prices"}  # what is to be made again, since an answer of this run has spoilt it or nobody made it


def drop_table() -> None:
    lesson.sql("create database if not exists lab", db="lake")
    lesson.sql("drop table if exists lab.orders", db="lake")
    lake().rm(ORDERS, recursive=True, missing_ok=True)


def lose_a_copy() -> None:
    """The price list as it came asks for three copies and has two; datanode-3 is gone.

    Once in a run: the answers that bring the machine back stand behind those that do not.
    """
    fs = lake()
    if "copies" in spoilt:
        lesson.start("datanode-3")
    if "prices" in spoilt:
        fs.write(PRICES, PRICE_LIST.read_bytes(), replication=3)
    if "copies" in spoilt:
        lesson.stop("datanode-3")
        lesson.wait_for(lambda: set(lake().blocks(PRICES)["copies"]) == {2}, 60, "the NameNode to notice")
    fs.set_replication(PRICES, 3)
    spoilt.difference_update(("copies", "prices"))


def write_small(numbers: Iterable[int]) -> None:
    rows = lesson.sql(READINGS)
    rows = rows.loc[[*rows.index, *rows.index[:40]]]
    for number in numbers:
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
    return PurePosixPath(LANDED)


@right("land_day")
def through_an_open_file():
    with lake().open(LANDED, "wb", replication=3) as file:
        file.write(SOURCE.read_bytes())
    return f"hdfs://namenode:9000{LANDED}"


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


@near_miss("land_day", says="did a program read and write it")
def the_day_after():
    lake().write(LANDED, SOURCE.with_name("orders_2026-05-08.csv").read_bytes(), replication=3)
    return LANDED


@near_miss("land_day", says="did a program read and write it")
def other_ends_of_lines():
    lake().write(LANDED, SOURCE.read_bytes().replace(b"\n", b"\r\n"), replication=3)
    return LANDED


@near_miss("land_day", says="from byte")
def without_its_last_byte():
    lake().write(LANDED, SOURCE.read_bytes()[:-1], replication=3)
    return LANDED


# --- external_table ---------------------------------------------------------------------------------------------------


def week(zone: str = "Europe/Paris") -> pd.DataFrame:
    orders = lesson.sql(f"select {', '.join(COLUMNS)} from lake.orders")
    orders["day"] = orders["ordered_at"].dt.tz_convert(zone).dt.strftime("%Y-%m-%d")
    return orders


def make_table(
    orders: pd.DataFrame | None = None, kind: str = "external", announce: bool = True, columns: str = TYPED
) -> int:
    orders = week() if orders is None else orders
    table = pa.Table.from_pandas(orders, preserve_index=False)
    pq.write_to_dataset(table, ORDERS, filesystem=lake(), partition_cols=["day"])
    lesson.sql(
        f"create {kind} table lab.orders ({columns}) partitioned by (day string) stored as parquet location '{ORDERS}'",
        db="lake",
    )
    if announce:
        lesson.sql("msck repair table lab.orders", db="lake")
    return len(orders)


@right("external_table", solved=True)
def external_and_announced():
    make_table()
    return lesson.sql("select count(*) from lab.orders", db="lake").iat[0, 0]


@right("external_table")
def each_partition_by_name():
    make_table(announce=False)
    for folder in lake().ls(ORDERS):
        lesson.sql(f"alter table lab.orders add partition (day = '{folder.rpartition('=')[2]}')", db="lake")
    return int(lesson.sql("select count(*) from lab.orders", db="lake").iat[0, 0])


@right("external_table")
def a_file_for_each_day_without_a_zone():
    orders = week()
    orders["ordered_at"] = orders["ordered_at"].dt.tz_convert("UTC").dt.tz_localize(None)
    for day, rows in orders.groupby("day"):
        path = f"{ORDERS}/day={day}/orders.parquet"
        pq.write_table(pa.Table.from_pandas(rows.drop(columns="day"), preserve_index=False), path, filesystem=lake())
    columns = ", ".join(f"`{name}` {kind.upper()}" for name, kind in reversed(COLUMNS.items()))
    lesson.sql(
        f"CREATE EXTERNAL TABLE lab.orders ({columns}) PARTITIONED BY (`day` STRING) STORED AS PARQUET "
        f"LOCATION '{ORDERS}/'",
        db="lake",
    )
    lesson.sql("msck repair table lab.orders", db="lake")
    return float(len(orders))


@near_miss("external_table", says="files go when it is dropped")
def without_external():
    return make_table(kind="")


@near_miss("external_table", says="column customer_id: expected 'bigint'")
def two_columns_only():
    return make_table(columns="order_id bigint, total_eur double")


@near_miss("external_table", says="who announces the folders")
def not_announced():
    return make_table(announce=False)


@near_miss("external_table", says="folder of its day in Paris")
def days_in_utc():
    return make_table(week("UTC"))


@near_miss("external_table", says="order_id is string in the file")
def texts_declared_as_numbers():
    return make_table(week().astype({"order_id": str, "total_eur": str}))


@near_miss("external_table", says="folder of its day in Paris")
def one_order_for_all_others():
    orders = week()
    orders["order_id"] = orders.groupby("day")["order_id"].transform("min")
    return make_table(orders)


@near_miss("external_table", says="total_eur expected")
def totals_exchanged():
    orders = week()
    orders["total_eur"] = orders["total_eur"].to_numpy()[::-1]
    return make_table(orders)


@near_miss("external_table", says="ordered_at expected")
def moments_of_paris():
    orders = week()
    orders["ordered_at"] = orders["ordered_at"].dt.tz_convert("Europe/Paris").dt.tz_localize(None)
    return make_table(orders)


@near_miss("external_table", says="the rows that Hive counts")
def counted_in_the_night_before():
    return make_table() - 1


# --- pruned_query -----------------------------------------------------------------------------------------------------


@right("pruned_query", solved=True)
def by_the_folder():
    return last_hint("05a", "pruned_query")[0]


@right("pruned_query")
def by_the_folder_and_more():
    return "select sum(o.total_eur) as worth from lab.orders o where o.day in ('2026-05-07') and o.items > 0;"


@right("pruned_query")
def as_a_decimal():
    return """
        WITH thursday AS (SELECT total_eur FROM `lab`.`orders` WHERE `day` BETWEEN '2026-05-07' AND '2026-05-07')
        SELECT cast(sum(total_eur) AS decimal(12, 2)) FROM thursday
    """


@near_miss("pruned_query", says="by the names of the folders")
def by_the_content():
    return """
        select sum(total_eur) from lab.orders
        where ordered_at >= '2026-05-06 22:00:00' and ordered_at < '2026-05-07 22:00:00'
    """


@near_miss("pruned_query", says="day=2026-05-08")
def of_the_day_after():
    return "select sum(total_eur) from lab.orders where day = '2026-05-08'"


@near_miss("pruned_query", says="whatever became of them")
def the_delivered_ones_only():
    return "select sum(total_eur) from lab.orders where day = '2026-05-07' and status = 'delivered'"


@near_miss("pruned_query", says="to ask lab.orders")
def the_number_itself():
    return "select 12242.88"


@near_miss("pruned_query", says="whatever became of them")
def the_number_beside_the_table():
    return "select max(12242.88) from lab.orders where day = '2026-05-07'"


@near_miss("pruned_query", says="whatever became of them")
def equal_totals_once():
    return "select sum(distinct total_eur) from lab.orders where day = '2026-05-07'"


@near_miss("pruned_query", says="whatever became of them")
def whole_euros():
    return "select round(sum(total_eur)) from lab.orders where day = '2026-05-07'"


@near_miss("pruned_query", says="found null")
def of_no_row():
    return "select sum(total_eur) from lab.orders where day = '2026-05-07' and status = 'none'"


# --- repair_file ------------------------------------------------------------------------------------------------------


@near_miss("repair_file", says="copies that HDFS is asked to keep")
def ask_for_fewer():
    lake().set_replication(PRICES, 2)
    return 3


@near_miss("repair_file", says="is a machine missing")
def nothing_done():
    return int(lake().info(PRICES)["replication"])


@near_miss("repair_file", says="from byte")
def one_byte_in_its_place():
    spoilt.add("prices")
    lake().write(PRICES, b"x", replication=3)
    return 3


@near_miss("repair_file", says="does not have this file")
def taken_away():
    spoilt.add("prices")
    lake().rm(PRICES)
    return 3


def machine_back() -> int:
    lesson.start("datanode-3")
    lesson.wait_for(lambda: lake().blocks(PRICES)["copies"].min() == 3, 60, "the third copy")
    return int(lake().blocks(PRICES)["copies"].min())


@near_miss("repair_file", says="fewest: expected 3, found 2")
def counted_before_the_repair():
    fewest = int(lake().blocks(PRICES)["copies"].min())
    machine_back()
    return fewest


@right("repair_file", solved=True)
def the_machine_is_back():
    return machine_back()


@right("repair_file")
def written_again_when_it_is_back():
    lesson.start("datanode-3")
    lake().write(PRICES, PRICE_LIST.read_bytes(), replication=3)
    return lake().blocks(PRICES)["copies"].astype(float).min()


@right("repair_file")
def whoever_holds_it():
    machine_back()
    return min(len(on.split(", ")) for on in lake().blocks(PRICES)["on"])


# --- compact_files ----------------------------------------------------------------------------------------------------


@cache
def small_rows() -> pa.Table:
    return ds.dataset(SMALL, filesystem=lake()).to_table()


def compacted(rows: pa.Table) -> str:
    pq.write_table(rows, f"{COMPACT}/part-0.parquet", filesystem=lake())
    return COMPACT


@right("compact_files", solved=True)
def one_file():
    return compacted(small_rows())


@right("compact_files")
def sorted_by_pandas():
    frame = small_rows().to_pandas().sort_values(["van_id", "reading_id"])
    with lake().open(f"{COMPACT}/all.parquet", "wb") as file:
        frame.to_parquet(file, index=False)
    return PurePosixPath(COMPACT)


@right("compact_files")
def as_spark_leaves_it():
    rows = small_rows()
    lake().write(f"{COMPACT}/_SUCCESS", b"")
    lake().write(f"{COMPACT}/.part-0.parquet.crc", b"crc")
    measured = rows["measured_at"].cast(pa.timestamp("us", "UTC"))
    compacted(rows.set_column(rows.column_names.index("measured_at"), "measured_at", measured))
    return PurePosixPath(COMPACT)


@near_miss("compact_files", says="occur twice are rows")
def without_doubles():
    frame = small_rows().to_pandas().drop_duplicates()
    return compacted(pa.Table.from_pandas(frame, preserve_index=False))


@near_miss("compact_files", says="expected 1, found 2")
def run_twice():
    for number in range(2):
        pq.write_table(small_rows(), f"{COMPACT}/run-{number}.parquet", filesystem=lake())
    return COMPACT


@near_miss("compact_files", says="small ones stay where they are")
def moved_instead():
    spoilt.add("last")
    rows = small_rows()
    lake().rm(f"{SMALL}/59.parquet")
    return compacted(rows)


@near_miss("compact_files", says="the given files were changed")
def thinned_first():
    spoilt.add("last")
    rows = small_rows()
    pq.write_table(rows.slice(0, 0), f"{SMALL}/59.parquet", filesystem=lake())
    return compacted(rows.slice(0, 5900))


@near_miss("compact_files", says="such as reading_id")
def one_reading_for_another():
    frame = small_rows().to_pandas()
    frame.loc[5000, "reading_id"] = frame.loc[5001, "reading_id"]
    return compacted(pa.Table.from_pandas(frame, preserve_index=False))


@right("compact_files")
def each_van_written_once():
    rows = small_rows()
    at = rows.column_names.index("van_id")
    return compacted(rows.set_column(at, "van_id", rows["van_id"].dictionary_encode()))


@near_miss("compact_files", says="columns")
def half_the_columns():
    return compacted(small_rows().select(["reading_id", "celsius"]))


@near_miss("compact_files", says="columns")
def as_floats():
    rows = small_rows()
    return compacted(rows.set_column(rows.column_names.index("celsius"), "celsius", rows["celsius"].cast(pa.float32())))


@near_miss("compact_files", says="celsius expected")
def rounded():
    frame = small_rows().to_pandas()
    frame["celsius"] = frame["celsius"].round(0)
    return compacted(pa.Table.from_pandas(frame, preserve_index=False))
