"""Orders out of the shop's database: what is read, where it goes, and whether both sides agree."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

import psycopg

from flow360.monitoring import lineage
from include.interval import replace_interval

QUERIES = {
    "staging.shop_orders": """
        select order_id, customer_id, store_id, ordered_at, channel, status, items, total_eur
        from orders where ordered_at >= %(start)s and ordered_at < %(end)s
    """,
    "staging.shop_order_lines": """
        select order_id, line_no, ordered_at, product_id, quantity, line_total_eur
        from order_lines join orders using (order_id)
        where ordered_at >= %(start)s and ordered_at < %(end)s
    """,
}
"""What of the shop goes into which table, for one interval."""
READ = {"staging.shop_orders": ("orders",), "staging.shop_order_lines": ("orders", "order_lines")}
"""The shop's tables that each of these queries reads."""
TABLES = """
    create table if not exists staging.shop_orders (
        order_id bigint primary key, customer_id bigint not null, store_id int not null,
        ordered_at timestamptz not null, channel text, status text, items int, total_eur numeric(10, 2)
    );
    create table if not exists staging.shop_order_lines (
        order_id bigint, line_no int, ordered_at timestamptz not null, product_id int not null, quantity int,
        line_total_eur numeric(10, 2), primary key (order_id, line_no)
    );
    create table if not exists staging.store_sales (
        day date, store_id int, orders int, euros numeric(12, 2), primary key (day, store_id)
    );
"""
TOTALS = "select count(*), coalesce(sum({}), 0) from {} where ordered_at >= %s and ordered_at < %s"


class Mismatch(ValueError):
    """What was loaded is not what the source holds."""


def load(shop: psycopg.Connection, warehouse: psycopg.Connection, table: str, start: datetime, end: datetime) -> int:
    """Bring the rows of one interval into a table of `QUERIES`; how many it has now. The caller commits."""
    with lineage.run("hourly_ingestion", map(lineage.shop, READ[table]), to=lineage.warehouse(table)) as job:
        rows = replace_interval(shop, warehouse, QUERIES[table], table, "ordered_at", start, end)
        job.wrote(lineage.warehouse(table), rows)
    return rows


def totals(db: psycopg.Connection, table: str, column: str, start: datetime, end: datetime) -> tuple[int, Decimal]:
    """Count rows and euros of one interval."""
    return db.execute(TOTALS.format(column, table), (start, end)).fetchone()


def reconcile(shop: psycopg.Connection, warehouse: psycopg.Connection, start: datetime, end: datetime) -> int:
    """Compare orders with the shop, and order lines with orders, over one interval.

    Returns:
        The number of orders.

    Raises:
        Mismatch: with both sides in the message.
    """
    theirs = totals(shop, "orders", "total_eur", start, end)
    ours = totals(warehouse, "staging.shop_orders", "total_eur", start, end)
    if theirs != ours:
        raise Mismatch(f"orders: the shop has {theirs[0]} over {theirs[1]} EUR, staging {ours[0]} over {ours[1]} EUR")
    lines = totals(warehouse, "staging.shop_order_lines", "line_total_eur", start, end)
    if lines[1] != ours[1]:
        raise Mismatch(f"order_lines: {lines[1]} EUR, orders: {ours[1]} EUR")
    return ours[0]


def refresh_store_sales(db: psycopg.Connection, start: datetime, end: datetime) -> int:
    """Compute again the days (of Paris) that an interval touches, whole. The caller commits.

    Returns:
        The rows of these days: one for each store that sold something.
    """
    into = lineage.warehouse("staging.store_sales")
    with lineage.run("store_sales", lineage.warehouse("staging.shop_orders"), to=into) as job:
        rows = _refresh_store_sales(db, start, end)
        job.wrote(into, rows)
    return rows


def _refresh_store_sales(db: psycopg.Connection, start: datetime, end: datetime) -> int:
    days = """select generate_series(
        (%(start)s::timestamptz at time zone 'Europe/Paris')::date,
        ((%(end)s::timestamptz - interval '1 microsecond') at time zone 'Europe/Paris')::date, '1 day')::date"""
    within = {"start": start, "end": end}
    db.execute("select pg_advisory_xact_lock(hashtext('staging.store_sales'))")
    db.execute(f"delete from staging.store_sales where day in ({days})", within)
    return db.execute(
        f"""insert into staging.store_sales
            select (ordered_at at time zone 'Europe/Paris')::date as day, store_id, count(*), sum(total_eur)
            from staging.shop_orders
            where (ordered_at at time zone 'Europe/Paris')::date in ({days}) and status <> 'cancelled'
            group by day, store_id""",
        within,
    ).rowcount
