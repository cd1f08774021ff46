"""Exercise 6: a test that is green again."""

from __future__ import annotations

from typing import Any

from flow360.checks.verdict import exercise, expect, expect_equal, expect_type
from flow360.clients.query import sql


@exercise
def green_again(verdict: Any) -> None:
    """Check that the view in the warehouse keeps the promise; it is computed here once more, by SQL."""
    expect_type("verdict", verdict, str)
    promise = """
        with kept as (
            select r.store_id, count(*) filter (where d.delivered_at > d.promised_to)::float8 / count(*) as late
            from lake.deliveries d join lake.van_routes r using (route_id)
            where d.status <> 'refused' group by r.store_id)
    """
    exists = sql("select to_regclass('app.late_by_store') is not null as there").iat[0, 0]
    expect(exists, "verdict: there is no view app.late_by_store in the warehouse")
    rows = sql("select count(*) as n, count(distinct store_id) as stores from app.late_by_store")
    stores = sql(promise + "select count(*) as n from kept").iat[0, 0]
    expect_equal(
        "app.late_by_store: rows", found=int(rows.at[0, "n"]), expected=int(stores), why="one row for each store"
    )
    off = sql(
        promise + "select store_id from kept left join app.late_by_store v using (store_id) "
        "where v.late is null or abs(v.late - kept.late) > 1e-9 order by store_id"
    )
    expect(
        off.empty, f"app.late_by_store: {len(off)} of {stores} stores have another share: are refused ones left out?"
    )
    expect_equal("verdict", found=verdict, expected="green", why="the view is right, what does the test say?")
