"""Exercises 1 and 2: an index that a plan uses, and partitions of which a plan reads one."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

from psycopg import Connection, errors

from flow360.checks import liberal, scene
from flow360.checks.c05b_data_warehouse.setting import CUSTOMER, expect_kept, lookup
from flow360.checks.compare import rows
from flow360.checks.draw import draw
from flow360.checks.verdict import NotYet, exercise, expect, expect_equal, shown
from flow360.storage import plans

PAGES = 20
INDEXES = """
    select c.relname as name, i.indisvalid as valid, con.oid is not null as of_a_key
    from pg_index i join pg_class c on c.oid = i.indexrelid left join pg_constraint con on con.conindid = i.indexrelid
    where i.indrelid = to_regclass('lab.order_history') order by 1
"""


@exercise
def index_changes_plan(index: Any) -> None:
    """Check an index on lab.order_history: it reads a customer's latest orders with neither scan nor sort."""
    index = liberal.relation("index", index, "lab").removeprefix("lab.")
    found = {row["name"]: row for row in rows(INDEXES)}
    if index not in found:
        there = ", ".join(found) or "none"
        raise NotYet(f"index: lab.order_history has no index {index!r} (it has: {there})")
    expect_kept("index", "order_history")
    scene.free("lab.order_history")
    chance = draw()
    with scene.scene("index") as db:
        # Attempts before this one are out of the way, as if it had come first.
        for name in [name for name, row in found.items() if name != index and not row["of_a_key"]]:
            db.execute(f'drop index lab."{name}"')
        everybody = [one for (one,) in db.execute("select distinct customer_id from lab.order_history order by 1")]
        for customer in [CUSTOMER, *chance.sample(everybody, 4)]:
            _judge(db, index, customer)


def _judge(db: Connection, index: str, customer: int) -> None:
    seen = plans.explain(lookup(customer), db=db)
    caller = "" if customer == CUSTOMER else f" for customer {customer}"
    expect(
        "Seq Scan" not in seen.kinds, f"index: the plan{caller} still reads the whole table: {', '.join(seen.kinds)}"
    )
    expect(
        not any("Sort" in kind for kind in seen.kinds),
        f"index: the plan{caller} still sorts ({', '.join(seen.kinds)}): in which order does your index keep the rows?",
    )
    used = {node.get("Index Name") for node in seen.nodes()} - {None}
    expect(index in used, f"index: the plan{caller} uses {', '.join(used) or 'no index'}, not {index}")
    expect(
        seen.pages <= PAGES,
        f"index: the ten orders{caller} cost {seen.pages} pages; {PAGES} are enough with the right index",
    )


# --- Partitions -------------------------------------------------------------------------------------------------------

TABLE, HISTORY = "lab.deliveries_by_month", "lab.delivery_history"
COLUMNS = """
    select attname as name, format_type(atttypid, atttypmod) as type from pg_attribute
    where attrelid = to_regclass(%s) and attnum > 0 and not attisdropped order by attnum
"""
PARTS = f"""
    select tableoid::regclass::text as part, count(distinct date_trunc('month', delivered_on)) as months,
           min(date_trunc('month', delivered_on)::date)::text as month
    from {TABLE} group by 1 order by 3, 1
"""


EDGE = f"""
    insert into {TABLE} (delivery_id, order_id, delivered_on, is_late, celsius_at_door)
    select %(id)s, order_id, %(day)s, is_late, celsius_at_door from {HISTORY} limit 1
"""


@exercise
def partition_by_month(partitioned: Any) -> None:
    """Check lab.deliveries_by_month: a partition a month, each row in its own, a month's query reading one alone."""
    name = liberal.relation("partitioned", partitioned, "lab")
    expect_equal("partitioned", found=name, expected=TABLE)
    expect_kept("partitioned", "delivery_history")
    key = rows("select pg_get_partkeydef(to_regclass(%s)) as key", [name])[0]["key"]
    expect(key is not None, f"partitioned: {name} is not a partitioned table")
    expect_equal("partitioned", found=key.lower(), expected="range (delivered_on)", why=f"the key of {name}")
    wanted, mine = ({row["name"]: row["type"] for row in rows(COLUMNS, [table])} for table in (HISTORY, TABLE))
    for column in wanted | mine:
        expect_equal(
            f"partitioned: {TABLE}.{column}",
            found=mine.get(column, "no such column"),
            expected=wanted.get(column, "no such column"),
            why="the same columns, of the same types",
        )
    chance = draw()
    with scene.scene("partitioned") as db:
        _same_rows(db, ", ".join(wanted))
        firsts = [
            one
            for (one,) in db.execute(
                f"select distinct date_trunc('month', delivered_on)::date from {HISTORY} order by 1"
            )
        ]
        _edges(db, firsts)
        _read_alone(db, [firsts[0], firsts[-1], chance.choice(firsts[1:-1])])


def _same_rows(db: Connection, columns: str) -> None:
    for one, other, what in (
        (HISTORY, TABLE, "are missing"),
        (TABLE, HISTORY, f"are not in {HISTORY}, or there too often"),
    ):
        differ = f"select {columns} from {one} except all select {columns} from {other}"
        count, first = db.execute(f"select count(*), min(delivery_id) from ({differ}) as d").fetchone()
        expect(
            not count,
            f"partitioned: rows differ from those of {HISTORY}: {shown(count)} {what}, such as delivery_id {first}",
        )


def _edges(db: Connection, firsts: list[date]) -> None:
    """Check that a delivery on the first and on the last day of each month lands in the one partition of that month."""
    planted = 0
    for first in firsts:
        for day in (first, (first + timedelta(days=32)).replace(day=1) - timedelta(days=1)):
            planted += 1
            try:
                with db.transaction():
                    db.execute(EDGE, {"id": -planted, "day": day})
            except errors.IntegrityError as error:
                raise NotYet(f"partitioned: a delivery of {day} is refused: {error.diag.message_primary}") from None
    parts = db.execute(PARTS).fetchall()
    mixed = [part for part, months, _ in parts if months > 1]
    expect(not mixed, f"partitioned: partitions that hold several months: {len(mixed)}, such as {mixed and mixed[0]}")
    months = [month for _, _, month in parts]
    split = [month for month in months if months.count(month) > 1]
    expect(not split, f"partitioned: a month lies in several partitions: {split and split[0]}")


def _read_alone(db: Connection, months: list[date]) -> None:
    query = f"select count(*), avg(celsius_at_door) from {TABLE} where delivered_on >= %s and delivered_on < %s"
    for month in months:
        seen = plans.explain(query, [month, (month + timedelta(days=32)).replace(day=1)], db=db)
        expect_equal("partitioned", found=len(seen.tables), expected=1, why=f"partitions read for the month {month}")
