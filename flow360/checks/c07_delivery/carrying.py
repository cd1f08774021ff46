"""Exercise 7: one change that is carried from the shop to the mart."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from flow360.checks.verdict import exercise, expect, expect_equal, expect_type
from flow360.clients.query import sql

ORDER = 100839
"""Placed and brought on 7 May, reviewed on 8 May; the lab's shop refunds it on 9 May."""


@exercise
def whole_way(kept: Any) -> None:
    """Check that the refund is in the shop, in what the nights brought, and in the mart, the same in each."""
    expect_type("kept", kept, (Decimal, float, int))
    status = f"select status from {{}} where order_id = {ORDER}"
    shop = sql(status.format("orders"), db="source")["status"].tolist()
    expect_equal(f"the shop's order {ORDER}: status", found=shop, expected=["refunded"], why="run the cell above")
    expect_equal(
        f"lake.orders: status of {ORDER}",
        found=sql(status.format("lake.orders"))["status"].tolist(),
        expected=["refunded"],
        why="of all the nights that have brought it, the latest has the last word",
    )
    nights = sql(f"select _day::text as day from lake.orders_by_day where order_id = {ORDER} and status = 'refunded'")
    expect(
        "2026-05-09" in nights["day"].tolist(),
        f"lake.orders_by_day: the night of 9 May has not brought order {ORDER}, so somebody has written it by hand",
    )
    paid = f"select kind, amount_eur from {{}} where order_id = {ORDER} order by kind"
    expect_equal(
        f"lake.payments: of {ORDER}",
        found=sql(paid.format("lake.payments")).values.tolist(),
        expected=sql(paid.format("payments"), db="source").values.tolist(),
    )
    built = sql("select to_regclass('sandbox_marts.fct_orders') is not null as there").iat[0, 0]
    expect(built, "sandbox_marts.fct_orders: there is no such table: build it after the day has been brought")
    mart = sql(f"select order_status, net_eur from sandbox_marts.fct_orders where order_id = {ORDER}")
    expect_equal(
        f"sandbox_marts.fct_orders: {ORDER}",
        found=mart.values.tolist(),
        expected=[["refunded", 0.0]],
        why="it was built before the refund came in, or not at all",
    )
    expect_equal("kept", found=float(kept), expected=0.0, why="the mart's net_eur")
