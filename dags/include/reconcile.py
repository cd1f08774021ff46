"""A day in every layer, asked over Airflow's connections, and what is left at the Pushgateway about it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date

from flow360.storage import reconcile
from include import connections

JOB = "reconciliation"


class Differs(ValueError):
    """A day is not the same in all layers; the message names what differs."""


def compare(day: str) -> list[str] | None:
    """List the differences of one day, a line each; None where nothing happened. Print the layers and the account."""
    with connections.connect("shop") as shop, connections.connect("warehouse") as warehouse:
        found = reconcile.compare(shop, connections.lake(), warehouse, date.fromisoformat(day))
    print(found.frame().to_string(index=False))
    print(*reconcile.summary(found), *found.differences, found.verdict, sep="\n")
    return None if found.idle else list(found.differences)


def report(gateway: str, differences: Mapping[str, int]) -> None:
    """Leave at the Pushgateway how many differences each of the days has, in place of what an earlier run left.

    Args:
        gateway: host:port.
    """
    from prometheus_client import CollectorRegistry, Gauge, pushadd_to_gateway

    registry = CollectorRegistry()
    found = Gauge("reconciliation_differences", "Where two layers differ in a day", ["day"], registry=registry)
    for day, count in differences.items():
        found.labels(day).set(count)
    pushadd_to_gateway(gateway, job=JOB, registry=registry, timeout=10)
