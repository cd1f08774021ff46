"""Exercise 2: a join that no single customer holds up."""

from __future__ import annotations

import random
from statistics import median
from typing import Any

from flow360 import clients
from flow360.checks.c04b_big_data.tables import (
    GUEST,
    LAKE,
    TEXT,
    WHOLE,
    duck,
    expect_columns,
    expect_given,
    expect_same,
    frame,
    more_rows,
)
from flow360.checks.compare import Row
from flow360.checks.draw import draw
from flow360.checks.verdict import NotYet, exercise, expect
from flow360.errors import FlowError
from flow360.processing.spark import Work, configured, rest, watch
from flow360.waiting import patient, rounds

MOST_BROADCAST = 100
"""Rows that a broadcast may carry: single customers, not the table."""
MOST_MOVED = 1.5
JOINED = f"""
    with guests as (
        select order_id, case when order_id % 10 < 6 then {GUEST} else customer_id end as customer_id
        from '{LAKE}/orders/*.parquet'
    )
    select order_id, customer_id, loyalty from guests join '{LAKE}/customers/*.parquet' using (customer_id)
"""
SIZES = f"""
    select (select count(*) from '{LAKE}/orders/*.parquet') as orders,
           (select count(*) from '{LAKE}/customers/*.parquet') as customers
"""
_COLUMNS = {"order_id": WHOLE, "customer_id": WHOLE, "loyalty": TEXT}


@exercise
def cured_join(cured: Any) -> None:
    """Check the skewed join: its rows, the largest task (twice the median at most), the rows moved (1.5 times)."""
    cured = frame("cured", cured)
    expect_given("cured", "orders", "customers")
    expect_columns("cured", cured, _COLUMNS)
    spark = clients.spark()
    with more_rows(_more(draw())):
        with skew_settings(), watch(spark) as work:
            mine = cured.select(*_COLUMNS).toArrow()
        expect_same(
            "cured, after new orders and customers came in",
            found="select order_id, customer_id, loyalty from mine",
            expected=JOINED,
            key=("order_id",),
            why="does each row find its customer, once, in the tables as they are?",
            mine=mine,
        )
        (sizes,) = duck(SIZES)
    _expect_no_broadcast(spark, work)
    _expect_spread(spark, work, least=sizes["orders"] // 10)
    before = sizes["orders"] + sizes["customers"]
    moved = int(work.stages["shuffle_write"].sum())
    expect(
        moved <= MOST_MOVED * before,
        f"cured: {moved / before:.1f} times as many rows are shuffled as before, expected at most {MOST_MOVED}: "
        "only one customer needs copies",
    )


def skew_settings() -> Any:
    """Set what the lab sets: no broadcast, eight partitions, no help from AQE."""
    return configured(clients.spark(), autoBroadcastJoinThreshold=-1, shuffle_partitions=8, adaptive_enabled="false")


def _more(chance: random.Random) -> dict[str, list[Row]]:
    """Draw new customers with new orders, of all kinds of numbers; orders of an unknown customer, and of nobody."""
    first = chance.randrange(10**8, 10**9)
    customers = [{"customer_id": first + n, "loyalty": f"new-{chance.randrange(99)}"} for n in range(40)]
    whose = [*(one["customer_id"] for one in customers), first + 999, None, GUEST]
    orders = [{"order_id": 10 * first + n, "customer_id": whose[n // 10 % len(whose)]} for n in range(10 * len(whose))]
    return {"customers": customers, "orders": orders}


def _expect_no_broadcast(spark: Any, work: Work) -> None:
    """Raise NotYet when more rows were sent to every executor than single customers have."""
    for execution in _ended(spark, work):
        plan = rest(spark, f"sql/{execution['id']}?details=true&planDescription=false")
        for node in plan["nodes"]:
            if node["nodeName"].startswith("BroadcastExchange"):
                said = {one["name"]: one["value"] for one in node["metrics"]}
                carried = int(said.get("number of output rows", "0").replace(",", ""))
                expect(
                    carried <= MOST_BROADCAST,
                    f"cured: a broadcast carries {carried:,} rows to every executor, expected {MOST_BROADCAST} at most",
                )


def _ended(spark: Any, work: Work) -> list[dict[str, Any]]:
    """Wait until Spark has counted up what each step of the block's SQL executions did, and return these.

    Raises:
        FlowError: some are shown as running long after their jobs have ended.
    """
    ours = set(work.jobs)
    for _ in rounds(patient(20), every=0.1):
        found = [
            one
            for one in rest(spark, "sql?details=false&planDescription=false&length=100000")
            if ours & {*one["successJobIds"], *one["runningJobIds"], *one["failedJobIds"]}
        ]
        if all(one["status"] != "RUNNING" for one in found):
            return found
    raise FlowError("Spark still counts what the query did, 20 s after its end: see `flow360 logs spark-connect`")


def _expect_spread(spark: Any, work: Work, least: int) -> None:
    """Raise NotYet when a task that reads from a shuffle has more than twice the rows of the median one."""
    stages = work.stages[work.stages["shuffle_read"] > least]
    if stages.empty:
        raise NotYet(
            "cured: no join by shuffle was seen while it was computed: who brought its rows together, and when?"
        )
    for stage in stages["stage"]:
        tasks = rest(spark, f"stages/{stage}/0/taskList?length=100000")
        tasks = [task["taskMetrics"] for task in tasks if task["status"] == "SUCCESS"]
        scans = [task for task in tasks if task["inputMetrics"]["recordsRead"]]
        read = [task["shuffleReadMetrics"]["recordsRead"] for task in tasks]
        # Beside tasks that read files, as below a union, one that reads nothing may be of either kind.
        read = [number for number in read if number or not scans]
        middle = max(median(read), 1)
        expect(
            max(read) <= 2 * middle,
            f"cured: the largest task reads {max(read):,} rows, the median {middle:,.0f}: "
            f"expected at most twice the median, found {max(read) / middle:.1f} times",
        )
