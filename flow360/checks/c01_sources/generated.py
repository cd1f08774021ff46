"""Exercise 5: orders that nobody placed."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

from flow360 import clients
from flow360.checks import liberal
from flow360.checks.draw import PARIS, draw
from flow360.checks.verdict import NotYet, exercise, expect, expect_equal, expect_type, limited
from flow360.waiting import patient

FIRST, END = datetime(2026, 5, 4, tzinfo=PARIS), datetime(2026, 5, 11, tzinfo=PARIS)
DAYS = (END - FIRST).days
MANY, SECONDS = 500_000, 1
"""Orders among which the ends of the week are looked for; once fewer took so long, on an idle machine, they must do."""
COLUMNS = ["order_id", "customer_id", "store_id", "ordered_at", "channel", "status", "items", "total_eur"]


@exercise
def generated_orders(generate_orders: Any) -> None:
    """Check that the shop's own table takes the orders, of real customers, in their store, repeatable by the seed."""
    import pandas as pd

    make = limited(liberal.function("generate_orders", generate_orders), 60, "generate_orders")
    chance = draw()
    size, (seed, another) = chance.randint(4_000, 6_000), chance.sample(range(10**6), 2)
    called = f"generate_orders({size}, {seed})"
    orders = make(size, seed)
    expect_type(called, orders, pd.DataFrame)
    missing = sorted(set(COLUMNS) - set(orders.columns))
    expect(not missing, f"generate_orders: the columns {', '.join(missing)} are missing")
    expect_equal(f"rows of {called}", found=len(orders), expected=size)
    orders = orders[COLUMNS].reset_index(drop=True)
    again, other = (make(size, of)[COLUMNS].reset_index(drop=True) for of in (seed, another))
    expect(orders.equals(again), "generate_orders: the same seed gave two different tables: is every draw seeded?")
    expect(not orders.equals(other), "generate_orders: two seeds gave the same table: is the seed used at all?")
    customers = orders["customer_id"].nunique()
    expect(
        customers >= size / 10, f"customer_id: only {customers} customers ordered {size:,} times: draw from all of them"
    )
    _insert_and_forget(orders)
    _expect_the_week(make, size, chance.randrange(10**6))


def _expect_the_week(make: Callable[[int, int], Any], size: int, seed: int) -> None:
    """Look at both ends of the week, among as many orders as come in seconds: of few, none may lie near them."""
    many, took = size, 0.0
    while many < MANY and took < patient(SECONDS):
        many = min(2 * many, MANY)  # step by step: what is slow with many orders is not asked for too many
        began = time.monotonic()
        ordered = make(many, seed)["ordered_at"]
        took = time.monotonic() - began
    with clients.postgres("source") as db:
        early, late = db.execute(
            "select %s::timestamptz < %s, %s::timestamptz >= %s",
            [str(ordered.min()), FIRST, str(ordered.max()), END],
        ).fetchone()
    called = f"ordered_at: of {len(ordered):,} orders"
    expect(not early, f"{called} the first is from before 4 May 2026 in Paris: {ordered.min()}")
    expect(not late, f"{called} the last is from after 10 May 2026 in Paris: {ordered.max()}")


def _insert_and_forget(orders: Any) -> None:
    """Put the rows into the shop's table, ask about them, and roll back: the server judges, and nothing stays."""
    import psycopg

    text = io.StringIO()
    orders.to_csv(text, index=False, header=False)
    with clients.postgres("source") as db:
        try:
            last = db.execute("select max(order_id) from orders").fetchone()[0]
            with (
                db.cursor() as cursor,
                cursor.copy(f"copy orders ({', '.join(COLUMNS)}) from stdin (format csv)") as copy,
            ):
                copy.write(text.getvalue())
            strangers, early, older, later, days, channels = db.execute(
                """
                select count(*) filter (where s.city <> c.city),
                       count(*) filter (where o.ordered_at < c.registered_on),
                       count(*) filter (where o.ordered_at < %(first)s),
                       count(*) filter (where o.ordered_at >= %(end)s),
                       count(distinct (o.ordered_at at time zone 'Europe/Paris')::date),
                       (select array_agg(distinct channel) from orders where order_id <= %(last)s
                        and channel not in (select channel from orders where order_id > %(last)s))
                from orders o join customers c using (customer_id) join stores s using (store_id)
                where o.order_id > %(last)s
                """,
                {"first": FIRST, "end": END, "last": last},
            ).fetchone()
            old = len(orders) - db.execute("select count(*) from orders where order_id > %s", [last]).fetchone()[0]
        except (psycopg.IntegrityError, psycopg.DataError) as error:
            tells_key = isinstance(error, psycopg.errors.ForeignKeyViolation | psycopg.errors.UniqueViolation)
            said = error.diag.message_detail if tells_key else error.diag.message_primary
            raise NotYet(f"generate_orders: the shop's table refuses the rows: {said}") from None
        finally:
            db.rollback()
    expect(not old, f"order_id: {old} numbers are not above {last:,}, the last order of the shop")
    expect(not strangers, f"store_id: {strangers} orders are not in the store of their customer's city")
    expect(not early, f"ordered_at: {early} orders are older than their customer's registration")
    expect(not older, f"ordered_at: {older} orders are from before 4 May 2026 in Paris")
    expect(not later, f"ordered_at: {later} orders are from after 10 May 2026 in Paris")
    expect(
        days == DAYS, f"ordered_at: of the {DAYS} days {days} have an order: in which unit did you draw the moments?"
    )
    expect(not channels, f"channel: nobody orders by {', '.join(channels or [])}: draw one for each order")
