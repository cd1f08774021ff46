"""How punctual a day's deliveries were, store by store."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import psycopg
from psycopg.rows import dict_row

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
    """One row for each store that delivered in [start, end): store_id, deliveries, late, refused."""
    with shop.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(QUERY, (start, end)).fetchall()
