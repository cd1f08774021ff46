"""What the exercises of 05b begin with: schema `lab`."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from flow360 import clients
from flow360.checks import scene
from flow360.checks.compare import rows
from flow360.checks.verdict import expect
from flow360.primeur import ddl
from flow360.primeur.schema import TABLES
from flow360.primeur.snapshot import seed_table

WEEKS = 52
HISTORY = f"""
    select order_id + 10000 * week as order_id, customer_id, store_id, channel, total_eur,
           ordered_at + week * interval '7 days' as ordered_at
    from generate_series(0, {WEEKS} - 1) as week, lake.orders order by ordered_at
"""
DELIVERIES = f"""
    select delivery_id + 100000 * week as delivery_id, order_id + 10000 * week as order_id,
           ((delivered_at at time zone 'Europe/Paris') + week * interval '7 days')::date as delivered_on,
           delivered_at > promised_to as is_late, celsius_at_door
    from generate_series(0, {WEEKS} - 1) as week, lake.deliveries
"""
VERSIONS = """
    select customer_id, loyalty, registered_on::timestamptz as valid_from,
           case when customer_id % 5 = 0 then '2026-05-07 22:00+00'::timestamptz end as valid_to
    from lake.customers
    union all
    select customer_id, 'saffron', '2026-05-07 22:00+00',
           case when customer_id % 10 = 0 then '2026-05-09 22:00+00'::timestamptz end
    from lake.customers where customer_id % 5 = 0
    union all
    select customer_id, 'none', '2026-05-09 22:00+00', null from lake.customers where customer_id % 10 = 0
"""
MADE = {"order_history": HISTORY, "delivery_history": DELIVERIES, "customers": VERSIONS}
CUSTOMER = 1165
BULK_ROWS = 120_000


def lookup(customer: int) -> str:
    """Write the query of customer service: the ten latest orders of a caller."""
    return f"""
    select order_id, ordered_at, total_eur from lab.order_history
    where customer_id = {customer} order by ordered_at desc limit 10
"""


LOOKUP = lookup(CUSTOMER)


def prepare() -> None:
    """Make schema `lab`: a year of orders and deliveries (the week, 52 times), customers in versions, two vans."""
    names = ", ".join(f"lab.{name}" for name in MADE)
    scene.free(*(f"lab.{name}" for name in (*MADE, "order_lines", "deliveries_by_month")))
    with clients.postgres() as db:
        db.execute("create schema if not exists lab")
        for name, query in MADE.items():
            db.execute(f"drop table if exists lab.{name} cascade")
            db.execute(f"create table lab.{name} as {query}")
            # What the table was like stands beside it: an exercise that may not touch it is held to that.
            count, digest = db.execute(_digest(name)).fetchone()
            db.execute(f"comment on table lab.{name} is '{count} rows of digest {digest}'")
        db.execute("drop table if exists lab.order_lines, lab.deliveries_by_month cascade")
        db.execute(ddl.create("lab", TABLES["order_lines"], False))
    prepare_vans()
    with clients.postgres(autocommit=True) as db:
        db.execute(f"vacuum analyze {names}")


def prepare_vans(on_duty: tuple[str, ...] = ("VAN-01", "VAN-02")) -> None:
    """Make two vans, and put some on duty. Sessions that an attempt has left open are ended."""
    scene.free("lab.vans", busy=True)
    with clients.postgres() as db:
        db.execute("drop table if exists lab.vans cascade")
        db.execute("create table lab.vans (van_id text primary key, on_duty boolean not null)")
        for van in ("VAN-01", "VAN-02"):
            db.execute("insert into lab.vans values (%s, %s)", [van, van in on_duty])


def bulk() -> pa.Table:
    """Return the rows of the exercise `fast_load`: order lines of many weeks, as an Arrow table."""
    one = seed_table("order_lines")
    return pa.concat_tables([one] * (BULK_ROWS // len(one) + 1)).slice(0, BULK_ROWS)


def expect_kept(variable: str, name: str) -> None:
    """Raise NotYet unless a table holds the rows that `prepare` has put there."""
    about = "select obj_description(to_regclass(%s), 'pg_class') as said"
    said: Any = rows(about, [f"lab.{name}"])[0]["said"]
    found = rows(_digest(name))[0] if said else {}
    expect(
        said and said == "{count} rows of digest {digest}".format(**found),
        f"{variable}: the rows of lab.{name} were not to be touched, and they are not as they were: "
        "check.prepare() makes them again",
    )


def _digest(name: str) -> str:
    return f"select count(*) as count, coalesce(sum(hashtextextended(t::text, 0)), 0) as digest from lab.{name} as t"
