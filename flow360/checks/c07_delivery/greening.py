"""Exercise 6: a test that is green again."""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING, Any

from flow360.checks import liberal
from flow360.checks.draw import draw
from flow360.checks.scene import ask, scene
from flow360.checks.verdict import exercise, expect, expect_equal

if TYPE_CHECKING:
    from psycopg import Connection

VIEW = "app.late_by_store"
PROMISE = """
    select r.store_id, count(*) filter (where d.delivered_at > d.promised_to)::float8 / count(*) as late
    from lake.deliveries d join lake.van_routes r using (route_id)
    where d.status <> 'refused' group by r.store_id
"""


@exercise
def green_again(verdict: Any) -> None:
    """Check that the view in the warehouse keeps the promise, of the week as it is and of another one."""
    verdict = liberal.text("verdict", verdict)
    with scene(VIEW) as db:
        there = db.execute("select to_regclass(%s) is not null", [VIEW]).fetchone()[0]
        expect(there, f"verdict: there is no view {VIEW} in the warehouse")
        _expect_promise(db, VIEW)
        _another_week(db, draw())
        _expect_promise(db, f"{VIEW}: right for this week, but in one with other deliveries")
    expect_equal("verdict", found=verdict, expected="green", why="the view is right, what does the test say?")


def _another_week(db: Connection, chance: random.Random) -> None:
    """Let a third of the deliveries be refused, a third a second late, and some as late as they may be."""
    ids = [row[0] for row in db.execute("select delivery_id from lake.deliveries order by delivery_id")]
    for change in ("status = 'refused'", "delivered_at = promised_to + interval '1 s'", "delivered_at = promised_to"):
        drawn = chance.sample(ids, len(ids) // 3)
        db.execute(f"update lake.deliveries_by_day set {change} where delivery_id = any(%s)", [drawn])


def _expect_promise(db: Connection, called: str) -> None:
    wanted = {row["store_id"]: row["late"] for row in ask(db, VIEW, PROMISE).rows}
    rows = ask(db, VIEW, f"select store_id, late from {VIEW}").rows
    expect_equal(f"{called}: rows", found=len(rows), expected=len(wanted), why="one row for each store")
    found = {row["store_id"]: row["late"] for row in rows}
    off = [
        store
        for store, late in wanted.items()
        if found.get(store) is None or not math.isclose(found[store], late, abs_tol=1e-9)
    ]
    expect(
        not off,
        f"{called}: {len(off)} of {len(wanted)} stores have another share: are refused ones left out?",
    )
