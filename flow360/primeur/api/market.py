"""What the REST service serves, in memory: the clean lists, the untidy feeds, and each order with its lines."""

from __future__ import annotations

from collections import defaultdict
from functools import cached_property

from flow360.primeur.api.feed import UNTIDY, Feed, feed
from flow360.primeur.plan import SEED_PLAN
from flow360.primeur.records import Record, outward
from flow360.primeur.snapshot import seed_table

CLEAN = ("customers", "products", "stores", "van_routes")


class Market:
    """The committed week as the service delivers it. Reading it takes a second, once."""

    def __init__(self) -> None:
        self.lists: dict[str, list[Record]] = {name: outward(seed_table(name)) for name in CLEAN}
        self.feeds: dict[str, Feed] = {name: feed(SEED_PLAN, name, outward(seed_table(name))) for name in UNTIDY}

    def items(self, name: str, day: str | None = None) -> list[Record]:
        """The items of a list in delivery order; `day` (ISO) only for the untidy ones."""
        return self.lists[name] if name in self.lists else self.feeds[name].items(day)

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
