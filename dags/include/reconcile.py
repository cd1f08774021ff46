"""A day in every layer, asked over Airflow's connections, and what is left at the Pushgateway about it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date

from flow360.storage import reconcile
from include import connections

JOB = "reconciliation"


class Differs(ValueError):
    """A day is not the same in all layers; the message names what differs."""


def compare(day: str) -> list[str]:
    """The differences of one day, a line each; prints the layers and the account."""
    with connections.connect("shop") as shop, connections.connect("warehouse") as warehouse:
        found = reconcile.compare(shop, connections.lake(), warehouse, date.fromisoformat(day))
    print(found.frame().to_string(index=False))
    print(*reconcile.summary(found), *found.differences, sep="\n")
    return list(found.differences)


def report(gateway: str, differences: Mapping[str, int]) -> None:
    """Leave at the Pushgateway how many differences each day has; of other days stays what was said of them.

    Args:
        gateway: host:port.
    """
    from prometheus_client import CollectorRegistry, Gauge, pushadd_to_gateway

    for day, count in differences.items():
        registry = CollectorRegistry()
        Gauge("reconciliation_differences", "Where two layers differ in a day", registry=registry).set(count)
        pushadd_to_gateway(gateway, job=JOB, registry=registry, grouping_key={"day": day}, timeout=10)
