"""The warehouse project, built by dbt in the task's own process, and what is left at the Pushgateway about it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import psycopg

from flow360.processing import dbt

JOB = "nightly_dbt"
ALWAYS = 3
"""Days that the incremental marts look back anyway: lookback_days of dbt_project.yml."""


class Failed(ValueError):
    """dbt has come to its end, and something in it failed."""


def build(warehouse: Mapping[str, Any], days: Sequence[str] = ()) -> dict[str, Any]:
    """Run `dbt build` over what the lake delivered; what failed is said, not raised.

    Args:
        warehouse: see `flow360.processing.dbt.build`.
        days: which ones came in. An old one is a reason to look back further than every night does.

    Returns:
        seconds; nodes (status -> how many); failed ("name: message").
    """
    began = time.monotonic()
    with psycopg.connect(**warehouse, connect_timeout=5) as db:
        further = lookback(db, days)
    frame = dbt.build(lookback=further, warehouse=warehouse)
    bad = frame[frame["status"].isin(dbt.BAD)]
    return {
        "seconds": round(time.monotonic() - began, 2),
        "nodes": {status: int(count) for status, count in frame["status"].value_counts().items()},
        "failed": [f"{row.node}: {row.message}" for row in bad.itertuples()],
    }


def lookback(db: psycopg.Connection, days: Sequence[str]) -> int | None:
    """Say how many days the incremental marts must look back to see the oldest of these; None: as many as always."""
    if not days or db.execute("select to_regclass('marts.fct_orders')").fetchone()[0] is None:
        return None
    needed = "select extract(day from max(last_event_at) - %s::date)::int + 2 from marts.fct_orders"
    found = db.execute(needed, (min(days),)).fetchone()[0]
    return found if found is not None and found > ALWAYS else None


def orders_of(db: psycopg.Connection, day: str) -> int:
    """Count the orders of one day in the mart."""
    return db.execute("select count(*) from marts.fct_orders where ordered_on = %s", (day,)).fetchone()[0]


def report(gateway: str, built: Mapping[str, Any], day: str = "", orders: Mapping[str, int] | None = None) -> None:
    """Leave a run's numbers at the Pushgateway; of an earlier run only what this one does not tell stays.

    Args:
        gateway: host:port.
        built: what `build` says.
        day: which one came in last, if one did.
        orders: layer -> orders of that day.
    """
    from prometheus_client import CollectorRegistry, Gauge, pushadd_to_gateway

    registry = CollectorRegistry()

    def gauge(name: str, text: str, *labels: str) -> Gauge:
        return Gauge(name, text, labels, registry=registry)

    gauge("nightly_dbt_seconds", "How long dbt took").set(built["seconds"])
    nodes = gauge("nightly_dbt_nodes", "Models, tests, seeds and snapshots, by how they ended", "status")
    for status, count in built["nodes"].items():
        nodes.labels(status).set(count)
    if orders:
        # A label that grows by one value a day is one that Prometheus can bear.
        found = gauge("nightly_orders", "Orders of the day that came in last, in each layer", "day", "layer")
        for layer, count in orders.items():
            found.labels(day, layer).set(count)
    if not built["failed"]:
        gauge("nightly_dbt_last_success_timestamp_seconds", "When all was well").set_to_current_time()
    pushadd_to_gateway(gateway, job=JOB, registry=registry, timeout=10)
