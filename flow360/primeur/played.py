"""What others see of a day that was played, once it is over: the API's lists and the branches' file, out of the shop.

The committed week has all of it in data/seed. What is here is made of the shop's rows in the same way, with the same
kinds of defects, drawn from the same seed: the same day is the same list and the same file, whenever it is played.
"""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import psycopg
from psycopg.rows import dict_row

from flow360.errors import FlowError
from flow360.files import write
from flow360.primeur.api.feed import KEYS, feed_of_day
from flow360.primeur.clock import bounds
from flow360.primeur.files import held_back, order_file
from flow360.primeur.plan import Plan
from flow360.primeur.records import Record, outward_row
from flow360.primeur.schema import TABLES
from flow360.primeur.snapshot import PLAYED

LAST = """
    select play_id, state from play.plays where day = %s order by play_id desc limit 1
"""


def is_later(day: date, plan: Plan) -> bool:
    """Say whether a day is not one of those that the shop was loaded with."""
    return day > plan.day(plan.days - 1)


def finished(shop: psycopg.Connection, day: date) -> int | None:
    """Read the number of the play by which a day has ended; None where it was not played, or is being played."""
    if shop.execute("select to_regclass('play.plays')").fetchone()[0] is None:
        return None
    row = shop.execute(LAST, [day]).fetchone()
    return row[0] if row and row[1] == "done" else None


def rows(shop: psycopg.Connection, table: str, day: date) -> list[Record]:
    """Read the shop's rows of an untidy list that belong to a day, as they leave the company, by their keys."""
    query = "select {} from public.{} where {moment} >= %s and {moment} < %s order by {}"
    query = query.format(", ".join(TABLES[table].names), table, KEYS[table], moment=TABLES[table].moment)
    with shop.cursor(row_factory=dict_row) as cursor:
        return [outward_row(row) for row in cursor.execute(query, bounds(day))]


def items(shop: psycopg.Connection, plan: Plan, name: str, day: date) -> list[Record]:
    """Build the items of one of the API's untidy lists, in delivery order.

    Args:
        name: orders, deliveries or reviews.
        day: one that has come to its end.
    """
    return feed_of_day(plan, name, day.isoformat(), rows(shop, name, day), (day - plan.start).days)[0]


def drop(shop: psycopg.Connection, plan: Plan, day: date, folder: Path = PLAYED) -> Path:
    """Leave the branches' orders of a later day in the drop zone, as they did in the committed week.

    Raises:
        FlowError: it cannot be written.
    """
    before, number = day - timedelta(days=1), (day - plan.start).days
    late = held_back(plan, number - 1, rows(shop, "orders", before)) if is_later(before, plan) else []
    made = order_file(plan, number, day.isoformat(), rows(shop, "orders", day), late)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write(folder / made.name, made.data)
    except OSError as error:
        line = f"{folder / made.name} cannot be written ({error.strerror}): make room, and play {day} again"
        raise FlowError(line) from None
    return folder / made.name
