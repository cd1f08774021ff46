"""Exercise 7: one change that is carried from the shop to the mart."""

from __future__ import annotations

from typing import Any

from flow360.checks import liberal
from flow360.checks.compare import expect_rows, rows
from flow360.checks.verdict import exercise, expect, expect_equal
from flow360.clients.query import sql

ORDER = 100839
"""Placed and brought on 7 May, reviewed on 8 May; the lab's shop refunds it on 9 May."""

MART = """
    select order_id, status as order_status,
           coalesce(sum(case kind when 'charge' then amount_eur else -amount_eur end), 0) as net_eur
    from lake.orders left join lake.payments using (order_id) group by order_id, status
"""


@exercise
def whole_way(kept: Any) -> None:
    """Check that the refund is in the shop, in what the nights brought, and in the mart, the same in each."""
    kept = liberal.number("kept", kept)
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
    written = sql("select count(distinct xmin::text) from lake.orders_by_day where _day = '2026-05-09'").iat[0, 0]
    expect(
        written == 1,
        f"lake.orders_by_day: a night writes its day whole, and that of 9 May was written {written} times: by hand?",
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
    expect_rows(
        "sandbox_marts.fct_orders",
        found=rows("select order_id, order_status, net_eur from sandbox_marts.fct_orders"),
        expected=rows(MART),
        key=("order_id",),
        what="orders",
        why="the mart holds the other orders, too",
    )
    expect_equal("kept", found=kept, expected=0.0, why="the mart's net_eur")
