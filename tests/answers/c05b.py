"""Answers of 05b_data_warehouse."""

from __future__ import annotations

import io

import psycopg
import pyarrow as pa
import pyarrow.csv as pacsv
from psycopg import IsolationLevel

from flow360 import clients, lesson
from flow360.checks import c05b_data_warehouse as check
from tests.answers import delivered, last_hint, near_miss, right


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


@right("index_changes_plan")
def after_an_attempt_of_the_same_columns():
    """The earlier index would do as well, and the plan may prefer it."""
    lesson.sql("create index attempt on lab.order_history (customer_id)")
    lesson.sql("create index another on lab.order_history (customer_id, ordered_at)")
    return indexed("customer_id, ordered_at desc, order_id")


@near_miss("index_changes_plan", says="for customer")
def for_this_caller_only():
    lesson.sql("create index an_index on lab.order_history (ordered_at) where customer_id = 1165")
    return "an_index"


@near_miss("index_changes_plan", says="sorts")
def time_before_order():
    return indexed("customer_id, store_id, ordered_at")


@near_miss("index_changes_plan", says="not to be touched")
def other_totals():
    lesson.sql("update lab.order_history set total_eur = total_eur + 1 where customer_id = 1165")
    return indexed("customer_id, ordered_at")


@near_miss("index_changes_plan", says="not to be touched")
def a_table_of_its_own():
    with clients.postgres() as db:
        db.execute("create table lab.smaller as select * from lab.order_history order by customer_id, ordered_at")
        db.execute("drop table lab.order_history")
        db.execute("alter table lab.smaller rename to order_history")
    return indexed("customer_id, ordered_at")


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


def partitioned(
    by: str = "range (delivered_on)", months: int = 1, fill: bool = True, begin: str = "2026-05-01", last: str = ""
) -> str:
    with clients.postgres() as db:
        db.execute(f"create table lab.deliveries_by_month (like lab.delivery_history) partition by {by}")
        firsts = db.execute(
            "select generate_series(%s, max(delivered_on), %s)::date from lab.delivery_history",
            [begin, f"{months} months"],
        ).fetchall()
        for (first,) in firsts:
            end = f"date '{first}' + interval '{months} months'"
            if last and first == firsts[-1][0]:
                end = last
            db.execute(
                f"""create table lab.deliveries_by_month_{first:%Y_%m} partition of lab.deliveries_by_month
                    for values from ('{first}') to (({end})::date)"""
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


@right("partition_by_month")
def with_a_key_and_a_rest():
    """An index on it, and an empty partition for what nobody expects."""
    name = partitioned()
    lesson.sql(f"create table {name}_rest partition of {name} default")
    lesson.sql(f"alter table {name} add primary key (delivery_id, delivered_on)")
    return name


@right("partition_by_month")
def made_apart_and_attached():
    with clients.postgres() as db:
        db.execute(
            "create table lab.deliveries_by_month (delivery_id bigint, order_id bigint, delivered_on date, "
            "is_late boolean, celsius_at_door double precision) partition by range (delivered_on)"
        )
        for number in range(13):
            first = f"date '2026-05-01' + interval '{number} months'"
            later = f"date '2026-05-01' + interval '{number + 1} months'"
            db.execute(
                f"create table lab.part_{number} as select * from lab.delivery_history "
                f"where delivered_on >= {first} and delivered_on < {later}"
            )
            db.execute(
                f"alter table lab.deliveries_by_month attach partition lab.part_{number} "
                f"for values from (({first})::date) to (({later})::date)"
            )
    return "deliveries_by_month"


@near_miss("partition_by_month", says="rows differ")
def one_delivery_twice_for_another():
    name = partitioned()
    lesson.sql(f"update {name} set delivery_id = delivery_id + 100000 where delivery_id % 1000 = 4")
    return name


@near_miss("partition_by_month", says="not to be touched")
def the_history_filtered_first():
    lesson.sql("delete from lab.delivery_history where is_late")
    return partitioned()


@near_miss("partition_by_month", says="not to be touched")
def both_are_empty():
    name = partitioned(fill=False)
    lesson.sql("truncate lab.delivery_history")
    return name


@near_miss("partition_by_month", says="several months")
def months_that_begin_on_the_second():
    return partitioned(begin="2026-04-02")


@near_miss("partition_by_month", says="is refused")
def the_last_day_is_nobodys():
    """The history ends before the month does."""
    return partitioned(last="date '2027-05-20'")


@near_miss("partition_by_month", says="lies in several partitions")
def half_a_month_each():
    name = partitioned(fill=False)
    with clients.postgres() as db:
        db.execute(f"drop table {name}_2026_07")
        for begin, end in (("07-01", "07-16"), ("07-16", "08-01")):
            bounds = f"from ('2026-{begin}') to ('2026-{end}')"
            db.execute(f"create table {name}_{begin[3:]} partition of {name} for values {bounds}")
        db.execute(f"insert into {name} select * from lab.delivery_history")
    return name


@near_miss("partition_by_month", says="celsius_at_door")
def a_temperature_in_less():
    name = partitioned(fill=False)
    lesson.sql(f"alter table {name} alter column celsius_at_door type real")
    lesson.sql(f"insert into {name} select * from lab.delivery_history")
    return name


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
    return AS_OF.format(last_hint("05b", "as_of")[0].removeprefix("where "))


@right("as_of")
def by_a_range():
    return AS_OF.format("tstzrange(valid_from, valid_to) @> %(at)s::timestamptz") + ";\n"


@right("as_of")
def the_last_version_begun_by_then():
    return """
        with begun as (
            select distinct on (customer_id) * from lab.customers where valid_from <= %(at)s
            order by customer_id, valid_from desc
        )
        select count(customer_id) as customers, loyalty from begun
        where coalesce(valid_to, 'infinity') > %(at)s group by loyalty order by 2
    """


@right("as_of")
def every_loyalty_with_its_zero():
    return """
        select loyalty, sum((valid_from <= %(at)s and (valid_to is null or valid_to > %(at)s))::int) as customers
        from lab.customers group by loyalty
    """


@near_miss("as_of", says="each counted once")
def until_now_where_no_end_is_known():
    """Right until it is later."""
    return AS_OF.format("valid_from <= %(at)s and coalesce(valid_to, now()) > %(at)s")


@near_miss("as_of", says="customers, more")
def the_last_version_whatever_its_end():
    return """
        select loyalty, count(*) as customers from (
            select distinct on (customer_id) * from lab.customers where valid_from <= %(at)s
            order by customer_id, valid_from desc
        ) as begun group by loyalty
    """


@near_miss("as_of", says="customers, fewer")
def the_beginning_left_out():
    return AS_OF.format("valid_from < %(at)s and (valid_to > %(at)s or valid_to is null)")


@near_miss("as_of", says="query: ")
def by_the_day():
    return AS_OF.format(
        "valid_from::date <= %(at)s::timestamptz::date and coalesce(valid_to, 'infinity')::date > "
        "%(at)s::timestamptz::date"
    )


@near_miss("as_of", says="customers")
def the_loyalties_that_there_are():
    return AS_OF.format(
        "valid_from <= %(at)s and (valid_to > %(at)s or valid_to is null) "
        "and loyalty in ('none', 'basil', 'mint', 'saffron')"
    )


@near_miss("as_of", says="not to be touched")
def without_the_history():
    lesson.sql("delete from lab.customers where valid_to is not null")
    return AS_OF.format("valid_from <= %(at)s and (valid_to > %(at)s or valid_to is null)")


@near_miss("as_of", says="no column customers")
def a_column_of_another_name():
    return AS_OF.format("valid_from <= %(at)s and (valid_to > %(at)s or valid_to is null)").replace(
        "customers from", "n from"
    )


@near_miss("as_of", says="PostgreSQL refuses it")
def a_slip_of_the_pen():
    return AS_OF.format("valid_form <= %(at)s")


@near_miss("as_of", says="each counted once")
def both_ends_included():
    return AS_OF.format("%(at)s between valid_from and coalesce(valid_to, 'infinity')")


@near_miss("as_of", says="each counted once")
def without_the_versions_of_now():
    return AS_OF.format("valid_from <= %(at)s and valid_to > %(at)s")


@near_miss("as_of", says="customers")
def always_the_versions_of_now():
    return AS_OF.format("valid_to is null and %(at)s::timestamptz is not null")


@near_miss("as_of", says="customers")
def the_moment_without_its_zone():
    return AS_OF.format("tsrange(valid_from::timestamp, valid_to::timestamp) @> %(at)s::timestamp")


@near_miss("as_of", says="customers")
def to_the_second():
    until = "coalesce(valid_to, 'infinity')"
    return AS_OF.format(f"tstzrange(date_trunc('second', valid_from), {until}) @> %(at)s::timestamptz")


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


@near_miss("fast_load", says="50 % are asked")
def many_statements():
    def load_lines(db, rows):
        values = [list(row.values()) for row in rows.to_pylist()]
        db.cursor().executemany("insert into lab.order_lines values (%s, %s, %s, %s, %s, %s, %s)", values)

    return load_lines


@near_miss("fast_load", says="50 % are asked")
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


@right("fast_load")
def as_the_last_hint_says():
    def load_lines(db, rows):
        buffer = io.BytesIO()
        pacsv.write_csv(rows, buffer, pacsv.WriteOptions(include_header=False))
        with db.cursor().copy("copy lab.order_lines from stdin (format csv)") as copy:
            copy.write(buffer.getvalue())

    return load_lines


@right("fast_load")
def with_the_names_and_a_header():
    def load_lines(db, rows):
        text = pa.BufferOutputStream()
        pacsv.write_csv(rows.combine_chunks(), text, pacsv.WriteOptions(quoting_style="none"))
        names = ", ".join(rows.column_names)
        with db.cursor().copy(f"copy lab.order_lines ({names}) from stdin with (format csv, header true)") as copy:
            copy.write(text.getvalue().to_pybytes())

    return load_lines


@near_miss("fast_load", says="missing")
def everything_anew():
    def load_lines(db, rows):
        db.execute("truncate lab.order_lines")
        copy_from_arrow()(db, rows)

    return load_lines


@near_miss("fast_load", says="before the caller has committed")
def commits_by_itself():
    def load_lines(db, rows):
        copy_from_arrow()(db, rows)
        db.commit()

    return load_lines


@near_miss("fast_load", says="before the caller has committed")
def over_a_connection_of_its_own():
    def load_lines(db, rows):
        with clients.postgres() as own:
            copy_from_arrow()(own, rows)

    return load_lines


@near_miss("fast_load", says="missing")
def the_first_chunk_only():
    def load_lines(db, rows):
        copy_from_arrow()(db, pa.Table.from_batches(rows.to_batches()[:1], rows.schema))

    return load_lines


@near_miss("fast_load", says="NumericValueOutOfRange")  # the largest amount becomes one too many
def cents_as_floats():
    def load_lines(db, rows):
        table = rows.set_column(6, "line_total_eur", rows["line_total_eur"].cast(pa.float32()))
        copy_from_arrow()(db, table)

    return load_lines


@near_miss("fast_load", says="a file of its own")
def a_file_on_the_server():
    def load_lines(db, rows):
        import tempfile
        from pathlib import Path

        with tempfile.TemporaryDirectory() as folder:
            Path(folder).chmod(0o755)
            pacsv.write_csv(rows, f"{folder}/lines.csv", OPTIONS)
            db.execute(f"copy lab.order_lines from '{folder}/lines.csv' (format csv)")

    return load_lines


@near_miss("fast_load", says="settings of the caller's session")
def pace_for_durability():
    load = copy_from_arrow()

    def load_lines(db, rows):
        db.execute("set synchronous_commit = off")
        load(db, rows)

    return load_lines


@near_miss("fast_load", says="missing")
def with_the_header_skipped():
    def load_lines(db, rows):
        text = io.BytesIO()
        pacsv.write_csv(rows, text, OPTIONS)
        with db.cursor() as cursor, cursor.copy("copy lab.order_lines from stdin (format csv, header)") as copy:
            copy.write(text.getbuffer())

    return load_lines


# --- write_skew -------------------------------------------------------------------------------------------------------


def evening(level: str, lock: str = "", interleaved: bool = True, names: bool = True, least: int = 2) -> list:
    ended, counts = [], {}
    people = {van: clients.postgres() for van in ("VAN-01", "VAN-02")}

    def look(van):
        people[van].isolation_level = IsolationLevel[level]
        seen = people[van].execute(f"select van_id from lab.vans where on_duty {lock}").fetchall()
        counts[van] = len(seen)

    def leave(van):
        try:
            if counts[van] >= least:
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


@right("write_skew")
def both_write_before_either_commits():
    def both_leave(level):
        people = [(van, clients.postgres()) for van in ("VAN-01", "VAN-02")]
        for _, db in people:
            db.isolation_level = IsolationLevel[level]
        counts = [db.execute("select sum(on_duty::int) from lab.vans").fetchone()[0] for _, db in people]
        ended = []
        for (van, db), count in zip(people, counts, strict=True):
            if count >= 2:
                db.execute("update lab.vans set on_duty = not on_duty where van_id = %s", [van])
        for _, db in people:
            try:
                db.commit()
                ended.append("committed")
            except psycopg.Error as error:
                ended.append(error.sqlstate)
            finally:
                db.close()
        return tuple(ended)

    return both_leave


@right("write_skew")
def two_threads():
    from concurrent.futures import ThreadPoolExecutor
    from threading import Barrier

    def both_leave(level):
        looked = Barrier(2, timeout=5)

        def leave(van):
            db = clients.postgres()
            try:
                db.isolation_level = IsolationLevel[level]
                (count,) = db.execute("select count(*) from lab.vans where on_duty").fetchone()
                looked.wait()
                if count == 2:
                    db.execute("update lab.vans set on_duty = false where van_id = %s", [van])
                db.commit()
                return "committed"
            except psycopg.errors.SerializationFailure as error:
                db.rollback()
                return error.sqlstate
            finally:
                db.close()

        with ThreadPoolExecutor(2) as pool:
            return list(pool.map(leave, ("VAN-01", "VAN-02")))

    return both_leave


@near_miss("write_skew", says="had not looked")
def nobody_looks():
    def both_leave(level):
        vans = ("VAN-01", "VAN-02") if level == "REPEATABLE_READ" else ("VAN-01",)
        for van in vans:
            with clients.postgres() as db:
                db.isolation_level = IsolationLevel[level]
                db.execute("update lab.vans set on_duty = false where van_id = %s", [van])
        return ["committed", "committed" if len(vans) == 2 else "40001"]

    return both_leave


@near_miss("write_skew", says="had not looked")
def looks_in_another_transaction():
    def both_leave(level):
        with clients.postgres() as db:
            count = db.execute("select count(*) from lab.vans where on_duty").fetchone()[0]
        for van in ("VAN-01", "VAN-02"):
            with clients.postgres() as db:
                db.isolation_level = IsolationLevel[level]
                if count == 2:
                    db.execute("update lab.vans set on_duty = false where van_id = %s", [van])
        return ["committed", "committed"]

    return both_leave


@near_miss("write_skew", says="expected an update of each")
def the_second_one_is_made_up():
    def both_leave(level):
        if level == "REPEATABLE_READ":
            return evening(level)
        with clients.postgres() as db:
            db.isolation_level = IsolationLevel[level]
            if db.execute("select count(*) from lab.vans where on_duty").fetchone()[0] == 2:
                db.execute("update lab.vans set on_duty = false where van_id = 'VAN-01'")
                return ["committed", "40001"]
        return ["committed", "committed"]

    return both_leave


@near_miss("write_skew", says="it was sent home")
def whatever_it_counted():
    return lambda level: evening(level, least=0)


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


@near_miss("write_skew", says="no answer within")
def each_waits_for_the_other():
    """Both send the same van home, and the first one commits when the second is done."""

    def both_leave(level):
        people = [clients.postgres(), clients.postgres()]
        for db in people:
            db.isolation_level = IsolationLevel[level]
            db.execute("select count(*) from lab.vans where on_duty").fetchone()
        for db in people:
            db.execute("update lab.vans set on_duty = false where van_id = 'VAN-01'")
        for db in people:
            db.commit()
        return ["committed", "committed"]

    return both_leave
