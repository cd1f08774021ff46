"""Exercise 1: a metric of one's own."""

from __future__ import annotations

from typing import Any

from flow360 import clients
from flow360.checks.c06_metrics.asking import values_by
from flow360.checks.verdict import NotYet, exercise, expect, expect_equal
from flow360.clients.query import sql

ORDERS, GAUGE = "lab06_orders_total", "lab06_largest_order_euros"


@exercise
def own_metric(registry: Any) -> None:
    """Check that a counter by channel and a gauge, pushed, have the warehouse's own numbers in Prometheus."""
    expect(hasattr(registry, "collect"), f"registry: expected a CollectorRegistry, found {type(registry).__name__}")
    mine = {metric.name: metric for metric in registry.collect()}
    counter = mine.get(ORDERS.removesuffix("_total")) or mine.get(ORDERS)
    if counter is None:
        raise NotYet(f"registry: expected a metric {ORDERS}, found {', '.join(mine) or 'none'}")
    expect_equal("registry", found=counter.type, expected="counter", why=f"{ORDERS} only ever rises")
    labels = {key for sample in counter.samples for key in sample.labels}
    expect_equal("registry", found=labels, expected={"channel"}, why="each label with its values multiplies the series")
    gauge = mine.get(GAUGE)
    if gauge is None or gauge.type != "gauge":
        raise NotYet(f"registry: expected a gauge {GAUGE}, found {gauge.type if gauge else 'none of that name'}")
    truth = sql("select channel, count(*) as orders, max(total_eur) as top from lake.orders group by channel")
    prom = clients.prometheus()
    job = '{job="lab06"}'
    orders, top = truth.set_index("channel")["orders"].to_dict(), float(truth["top"].max())
    prom.await_scrape("pushgateway")  # from now on it knows what was pushed just now
    expect(not prom.query(f"push_time_seconds{job}").empty, 'registry: nothing was pushed under the job "lab06"')
    found, largest = values_by(prom.query(ORDERS + job), "channel"), prom.value(GAUGE + job)
    for channel in sorted(orders.keys() | found.keys()):
        expect(
            found.get(channel) == orders.get(channel),
            f"{ORDERS}: of channel {channel} Prometheus has {found.get(channel, 'none')}, which is not the number of "
            "its orders: was it pushed after the counting?",
        )
    expect(largest == top, f"{GAUGE}: Prometheus has {largest}, which is not the largest total_eur of the week")
