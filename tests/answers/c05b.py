"""Answers of 05b_data_warehouse."""

from __future__ import annotations

import io

import psycopg
import pyarrow.csv as pacsv
from psycopg import IsolationLevel

from flow360 import clients, lesson
from flow360.checks import c05b_data_warehouse as check
from tests.answers import delivered, near_miss, right


def reset(exercise: str) -> None:
    delivered()
    check.prepare()


# --- index_changes_plan -----------------------------------------------------------------------------------------------


def indexed(columns: str) -> str:
    lesson.sql(f"create index an_index on lab.order_history ({columns})")
    return "an_index"


@right("index_changes_plan")
def customer_then_time():
    return indexed("customer_id, ordered_at")


@right("index_changes_plan")
def latest_first_and_covering():
    lesson.sql(
        "create index covering on lab.order_history (customer_id, ordered_at desc) include (order_id, total_eur)"
    )
    return "lab.covering"


@near_miss("index_changes_plan", says="sorts")
def only_the_customer():
    return indexed("customer_id")


@near_miss("index_changes_plan", says="pages")
def only_the_time():
    return indexed("ordered_at")


@near_miss("index_changes_plan", says="has no index")
def named_but_never_made():
    return "an_index"


@near_miss("index_changes_plan", says="not to be touched")
def a_smaller_table():
    lesson.sql("delete from lab.order_history where customer_id <> 1165")
    return indexed("customer_id, ordered_at")


# --- partition_by_month -----------------------------------------------------------------------------------------------


def partitioned(by: str = "range (delivered_on)", months: int = 1, fill: bool = True) -> str:
    with clients.postgres() as db:
        db.execute(f"create table lab.deliveries_by_month (like lab.delivery_history) partition by {by}")
        firsts = db.execute(
            """select generate_series('2026-05-01', max(delivered_on), %s)::date from lab.delivery_history""",
            [f"{months} months"],
        ).fetchall()
        for (first,) in firsts:
            db.execute(
                f"""create table lab.deliveries_by_month_{first:%Y_%m} partition of lab.deliveries_by_month
                    for values from ('{first}') to (date '{first}' + interval '{months} months')"""
            )
        if fill:
            db.execute("insert into lab.deliveries_by_month select * from lab.delivery_history")
    return "lab.deliveries_by_month"


@right("partition_by_month")
def a_partition_a_month():
    return partitioned()


@right("partition_by_month")
def named_without_its_schema():
    return partitioned().removeprefix("lab.").upper()


@near_miss("partition_by_month", says="several months")
def a_partition_a_quarter():
    return partitioned(months=3)


@near_miss("partition_by_month", says="several months")
def all_in_the_default():
    with clients.postgres() as db:
        db.execute("create table lab.deliveries_by_month (like lab.delivery_history) partition by range (delivered_on)")
        db.execute("create table lab.deliveries_rest partition of lab.deliveries_by_month default")
        db.execute("insert into lab.deliveries_by_month select * from lab.delivery_history")
    return "lab.deliveries_by_month"


@near_miss("partition_by_month", says="not a partitioned table")
def a_table_with_an_index():
    lesson.sql("create table lab.deliveries_by_month as table lab.delivery_history")
    lesson.sql("create index on lab.deliveries_by_month (delivered_on)")
    return "lab.deliveries_by_month"


@near_miss("partition_by_month", says="rows differ")
def partitions_without_rows():
    return partitioned(fill=False)


# --- as_of ------------------------------------------------------------------------------------------------------------

AS_OF = "select loyalty, count(*) as customers from lab.customers where {} group by loyalty"


@right("as_of")
def half_open():
    return AS_OF.format("valid_from <= %(at)s and (valid_to > %(at)s or valid_to is null)")


@right("as_of")
def by_a_range():
    return AS_OF.format("tstzrange(valid_from, valid_to) @> %(at)s::timestamptz") + ";\n"


@near_miss("as_of", says="each counted once")
def both_ends_included():
    return AS_OF.format("%(at)s between valid_from and coalesce(valid_to, 'infinity')")


@near_miss("as_of", says="each counted once")
def without_the_versions_of_now():
    return AS_OF.format("valid_from <= %(at)s and valid_to > %(at)s")


@near_miss("as_of", says="customers with")
def always_the_versions_of_now():
    return AS_OF.format("valid_to is null and %(at)s::timestamptz is not null")


@near_miss("as_of", says="%(at)s")
def one_moment_only():
    return AS_OF.format("valid_from <= '2026-05-08' and (valid_to > '2026-05-08' or valid_to is null)")


# --- fast_load --------------------------------------------------------------------------------------------------------

OPTIONS = pacsv.WriteOptions(include_header=False, quoting_style="none")


@right("fast_load")
def copy_from_arrow():
    def load_lines(db, rows):
        with db.cursor() as cursor, cursor.copy("copy lab.order_lines from stdin (format csv)") as copy:
            for batch in rows.to_batches(max_chunksize=20_000):
                text = io.BytesIO()
                pacsv.write_csv(batch, text, OPTIONS)
                copy.write(text.getbuffer())

    return load_lines


@near_miss("fast_load", says="80 % are asked")
def many_statements():
    def load_lines(db, rows):
        values = [list(row.values()) for row in rows.to_pylist()]
        db.cursor().executemany("insert into lab.order_lines values (%s, %s, %s, %s, %s, %s, %s)", values)

    return load_lines


@near_miss("fast_load", says="80 % are asked")
def one_statement_of_text():
    def load_lines(db, rows):
        for first in range(0, len(rows), 1000):
            part = [list(row.values()) for row in rows.slice(first, 1000).to_pylist()]
            marks = ", ".join(["(%s, %s, %s, %s, %s, %s, %s)"] * len(part))
            db.execute(f"insert into lab.order_lines values {marks}", [value for row in part for value in row])

    return load_lines


@near_miss("fast_load", says="is a column misplaced")
def two_columns_swapped():
    def load_lines(db, rows):
        names = ", ".join(["order_id", "product_id", "line_no", *rows.column_names[3:]])
        text = io.BytesIO()
        pacsv.write_csv(rows, text, OPTIONS)
        with db.cursor() as cursor, cursor.copy(f"copy lab.order_lines ({names}) from stdin (format csv)") as copy:
            copy.write(text.getbuffer())

    return load_lines


@near_miss("fast_load", says="rows in lab.order_lines")
def with_the_header_skipped():
    def load_lines(db, rows):
        text = io.BytesIO()
        pacsv.write_csv(rows, text, OPTIONS)
        with db.cursor() as cursor, cursor.copy("copy lab.order_lines from stdin (format csv, header)") as copy:
            copy.write(text.getbuffer())

    return load_lines


# --- write_skew -------------------------------------------------------------------------------------------------------


def evening(level: str, lock: str = "", interleaved: bool = True, names: bool = True) -> list:
    ended, counts = [], {}
    people = {van: clients.postgres() for van in ("VAN-01", "VAN-02")}

    def look(van):
        people[van].isolation_level = IsolationLevel[level]
        seen = people[van].execute(f"select van_id from lab.vans where on_duty {lock}").fetchall()
        counts[van] = len(seen)

    def leave(van):
        try:
            if counts[van] == 2:
                people[van].execute("update lab.vans set on_duty = false where van_id = %s", [van])
            people[van].commit()
            ended.append("committed")
        except psycopg.errors.SerializationFailure as error:
            ended.append(error.sqlstate if names else "committed")
        people[van].close()

    if interleaved:
        for van in people:
            look(van)
        for van in people:
            leave(van)
    else:
        for van in people:
            look(van)
            leave(van)
    return ended


@right("write_skew")
def both_look_first():
    return evening


@near_miss("write_skew", says="did both look before")
def one_after_the_other():
    return lambda level: evening(level, interleaved=False)


@near_miss("write_skew", says="how they ended there")
def errors_not_told():
    return lambda level: evening(level, names=False)


@near_miss("write_skew", says="one session each")
def one_session_for_both():
    def both_leave(level):
        with clients.postgres() as db:
            db.execute("update lab.vans set on_duty = false")
        return ["committed", "committed"]

    return both_leave


left_open = []


@near_miss("write_skew", says="TypeError")
def a_slip_with_open_sessions():
    def both_leave(level):
        people = [clients.postgres(), clients.postgres()]
        left_open.append(people)  # as a notebook keeps them, in the traceback of its last error
        counts = [db.execute("select count(*) from lab.vans where on_duty").fetchone() for db in people]
        return [count >= 2 for count in counts]

    return both_leave


@near_miss("write_skew", says="at SERIALIZABLE expected one van")
def always_the_same_level():
    return lambda level: evening("REPEATABLE_READ")
