"""How punctual a day's deliveries were, store by store."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.rows import dict_row

from flow360.monitoring import lineage
from include.interval import replace_day

if TYPE_CHECKING:
    from pendulum import DateTime

PUNCTUALITY = "staging.punctuality"
TABLE = """
    create table if not exists staging.punctuality (
        day date, store_id int, deliveries int, late int, refused int, primary key (day, store_id)
    )
"""
QUERY = """
    select r.store_id, count(*)::int as deliveries, count(*) filter (where delivered_at > promised_to)::int as late,
           count(*) filter (where d.status = 'refused')::int as refused
    from deliveries d join van_routes r using (route_id)
    where delivered_at >= %s and delivered_at < %s
    group by r.store_id order by r.store_id
"""


def punctuality(shop: psycopg.Connection, start: datetime, end: datetime) -> list[dict[str, Any]]:
    """List each store that delivered in [start, end) in a row: store_id, deliveries, late, refused."""
    with shop.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(QUERY, (start, end)).fetchall()


def load(shop: psycopg.Connection, warehouse: psycopg.Connection, start: DateTime, end: DateTime) -> int:
    """Put the punctuality of the day [start, end) in the place of what the warehouse has of it; how many stores.

    The caller commits.
    """
    read, into = map(lineage.shop, ("deliveries", "van_routes")), lineage.warehouse(PUNCTUALITY)
    with lineage.run("backfill_deliveries", read, to=into) as job:
        count = replace_day(warehouse, PUNCTUALITY, start.to_date_string(), punctuality(shop, start, end))
        job.wrote(into, count)
    return count
