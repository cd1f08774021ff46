"""What the REST service serves: the clean lists, the untidy feeds, and each order with its lines.

The committed week is in memory. A later day that was played comes out of the shop once it is over, and is kept; the
lists without a day are those of the committed week.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from datetime import date
from functools import cached_property

import psycopg

from flow360.primeur import played
from flow360.primeur.api.feed import UNTIDY, Feed, feed
from flow360.primeur.load import loaded_plan
from flow360.primeur.plan import SEED_PLAN
from flow360.primeur.records import Record, outward
from flow360.primeur.snapshot import seed_table

CLEAN = ("customers", "products", "stores", "van_routes")


class Market:
    """The committed week as the service delivers it. Reading it takes a second, once.

    Args:
        shop: opens a connection to the shop, for later days; None knows of none.
    """

    def __init__(self, shop: Callable[[], psycopg.Connection] | None = None) -> None:
        self._shop = shop
        self._played: dict[tuple[str, str], tuple[int, list[Record]]] = {}
        self.lists: dict[str, list[Record]] = {name: outward(seed_table(name)) for name in CLEAN}
        self.feeds: dict[str, Feed] = {name: feed(SEED_PLAN, name, outward(seed_table(name))) for name in UNTIDY}

    def items(self, name: str, day: str | None = None) -> list[Record]:
        """Return the items of a list in delivery order; `day` (ISO) only for the untidy ones.

        Raises:
            FlowError: the day is a later one, and the shop does not answer.
        """
        if name in self.lists:
            return self.lists[name]
        if day and self._shop and played.is_later(when := date.fromisoformat(day), SEED_PLAN):
            with self._shop() as shop:
                found = self._of_play(shop, name, when)
            if found is not None:
                return found
        return self.feeds[name].items(day)

    def _of_play(self, shop: psycopg.Connection, name: str, day: date) -> list[Record] | None:
        number = played.finished(shop, day)
        if number is None:
            return None
        key = (name, day.isoformat())
        if self._played.get(key, (None,))[0] != number:
            self._played[key] = (number, played.items(shop, loaded_plan(shop), name, day))
        return self._played[key][1]

    @cached_property
    def orders(self) -> dict[int, Record]:
        """The true orders by number, each with its lines."""
        lines = defaultdict(list)
        for line in outward(seed_table("order_lines")):
            lines[line.pop("order_id")].append(line)
        return {row["order_id"]: {**row, "lines": lines[row["order_id"]]} for row in outward(seed_table("orders"))}

    @cached_property
    def customers(self) -> dict[int, Record]:
        return {row["customer_id"]: row for row in self.lists["customers"]}

    @cached_property
    def products(self) -> dict[int, Record]:
        return {row["product_id"]: row for row in self.lists["products"]}

    @cached_property
    def store_in(self) -> dict[str, int]:
        """The first store of each city."""
        return {row["city"]: row["store_id"] for row in reversed(self.lists["stores"])}
