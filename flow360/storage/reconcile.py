"""A day's orders in every layer, side by side: `reconcile(date(2026, 5, 7)).equal`.

Each layer is asked for the orders that were placed on that day, and what they come to: the shop, the lake's clean zone,
what the lake delivered to the warehouse, and the mart. Beside it stands the account of the night: what was delivered by
which source, and what of it was clean, doubled or quarantined.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING

from flow360 import clients
from flow360.errors import FlowError
from flow360.primeur.clock import bounds
from flow360.storage import clean_zone, raw
from flow360.storage.ledger import OUTCOMES, Entry, Ledger
from flow360.storage.raw import SOURCES

if TYPE_CHECKING:
    import pandas as pd
    import psycopg

    from flow360.clients.webhdfs import Lake

Orders = Mapping[int, Decimal]
"""Number of an order -> euros."""
NAMED = 10
"""Differences between two layers that are named one by one; of the rest, how many."""


@dataclass(frozen=True)
class Reconciled:
    """A day, compared.

    Attributes:
        layers: layer -> its orders, in the order in which they travel.
        ledger: the account of the night that brought the day.
        differences: each in a line.
    """

    day: date
    layers: Mapping[str, Orders]
    ledger: Ledger
    differences: tuple[str, ...]

    @property
    def idle(self) -> bool:
        """Whether nobody has heard of an order of this day: it was not played, and there is nothing to compare."""
        return not self.differences and _unheard(self.layers, self.ledger)

    @property
    def equal(self) -> bool:
        return not self.differences and not self.idle

    @property
    def verdict(self) -> str:
        """What came of the comparison, in a line."""
        if self.idle:
            return f"nothing happened on {self.day}, in no layer: flow360 play {self.day} plays it"
        if self.differences:
            return f"{self.day} is not the same in all layers: {len(self.differences)} differences"
        return f"{self.day} is the same in all layers"

    def frame(self) -> pd.DataFrame:
        """List the layers, one a row: orders, euros."""
        import pandas as pd

        rows = [(name, len(orders), sum(orders.values(), Decimal())) for name, orders in self.layers.items()]
        return pd.DataFrame(rows, columns=["layer", "orders", "euros"])


def differences(layers: Mapping[str, Orders]) -> list[str]:
    """List where a layer does not hold what the one before holds: orders missing, too many, or of other euros."""
    names, found = list(layers), []
    for before, after in zip(names, names[1:], strict=False):
        left, right = layers[before], layers[after]
        lines = [f"order {number}: in {before}, not in {after}" for number in sorted(set(left) - set(right))]
        lines += [f"order {number}: in {after}, not in {before}" for number in sorted(set(right) - set(left))]
        lines += [
            f"order {number}: {left[number]} EUR in {before}, {right[number]} EUR in {after}"
            for number in sorted(set(left) & set(right))
            if left[number] != right[number]
        ]
        found += lines[:NAMED]
        if len(lines) > NAMED:
            found.append(f"{len(lines) - NAMED:,} more orders differ between {before} and {after}")
    return found


def reconcile(day: date) -> Reconciled:
    """Compare a day in all layers.

    Raises:
        FlowError: a layer is down, or no night has brought this day.
    """
    with clients.postgres("source") as shop, clients.postgres() as warehouse:
        return compare(shop, clients.lake(), warehouse, day)


def compare(shop: psycopg.Connection, lake: Lake, warehouse: psycopg.Connection, day: date) -> Reconciled:
    """Compare as `reconcile` does, over connections that somebody has opened.

    Raises:
        FlowError: no night has brought this day.
    """
    if not lake.exists(clean_zone.partition("ledger", day)):
        raise FlowError(f"no night has brought {day} into the clean zone: run nightly_lake for it")
    ledger, within = _ledger(lake, day), bounds(day)
    placed = "select order_id, total_eur from {} where ordered_at >= %s and ordered_at < %s"
    layers = {"shop": dict(shop.execute(placed.format("orders"), within).fetchall()), "clean": _clean(lake, day)}
    for name, table in (("warehouse", "lake.orders"), ("mart", "marts.fct_orders")):
        if warehouse.execute("select to_regclass(%s)", [table]).fetchone()[0] is None:
            raise FlowError(f"{table} is not there yet: run nightly_lake, and nightly_dbt after it")
        layers[name] = dict(warehouse.execute(placed.format(table), within).fetchall())
    manifests = [raw.latest(lake, source, day) for source in SOURCES]
    if _unheard(layers, ledger):  # then no branch leaves a file
        manifests = [replace(one, missing={}) for one in manifests]
    return Reconciled(day, layers, ledger, (*ledger.gaps(manifests), *differences(layers)))


def _unheard(layers: Mapping[str, Orders], ledger: Ledger) -> bool:
    return not any(layers.values()) and not ledger.count(table="orders")


def _ledger(lake: Lake, day: date) -> Ledger:
    return Ledger(day, tuple(Entry(**row) for row in clean_zone.read(lake, "ledger", day).to_pylist()))


def _clean(lake: Lake, day: date) -> Orders:
    start, end = bounds(day)
    found = clean_zone.read(lake, "orders", day, columns=["order_id", "total_eur", "ordered_at"])
    return {row["order_id"]: row["total_eur"] for row in found.to_pylist() if start <= row["ordered_at"] < end}


def summary(found: Reconciled) -> list[str]:
    """Sum the account up in a few lines: of each table what was delivered, and what became of it."""
    lines = []
    for table in dict.fromkeys(one.table for one in sorted(found.ledger.entries, key=lambda one: one.table)):
        counts = {one.replace("_", " "): found.ledger.count(table=table, outcome=one) for one in OUTCOMES}
        said = ", ".join(f"{count:,} {one}" for one, count in counts.items() if count)
        lines.append(f"{table}: {found.ledger.count(table=table):,} delivered = {said}")
    return lines
