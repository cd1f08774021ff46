"""What the REST service delivers: lists of items in delivery order, with the defects of the untidy ones.

Orders, deliveries and reviews are lists of days; within a day some items come twice, some blocks are reversed, some
amounts are lost or in another unit. Customers, products, stores and routes are as they should be.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from flow360.primeur.defects import Chooser, Defect, fahrenheit
from flow360.primeur.plan import Plan
from flow360.primeur.records import Record, by_day
from flow360.primeur.schema import TABLES

UNTIDY = ("orders", "deliveries", "reviews")
"""The untidy lists; each is a list of days."""
BLOCK = 10
KEYS = {"orders": "order_id", "deliveries": "delivery_id", "reviews": "review_id"}


@dataclass
class Feed:
    """The items of one list by day, in delivery order, and their defects."""

    days: dict[str, list[Record]]
    defects: list[Defect]

    def items(self, day: str | None = None) -> list[Record]:
        """Return all items, or those of one day (none for an unknown day)."""
        return [row for rows in self.days.values() for row in rows] if day is None else self.days.get(day, [])


def feed(plan: Plan, name: str, rows: list[Record]) -> Feed:
    """Build the delivery order of one untidy list.

    Args:
        name: "orders", "deliveries" or "reviews".
        rows: the true rows, in the form of `records.outward`.
    """
    days, defects = {}, []
    for number, (day, todays) in enumerate(by_day(rows, TABLES[name].moment).items()):
        days[day], planted = feed_of_day(plan, name, day, todays, number)
        defects += planted
    return Feed(days, defects)


def feed_of_day(plan: Plan, name: str, day: str, rows: list[Record], number: int) -> tuple[list[Record], list[Defect]]:
    """Build one day of an untidy list: its items in delivery order, and what is wrong with them.

    Args:
        day: ISO date.
        rows: the day's true rows.
        number: of the day, from 0; its draws follow from it.
    """
    rows = sorted(rows, key=lambda r: (r[TABLES[name].moment], r[KEYS[name]]))
    day_feed = _Day(name, day, [dict(row) for row in rows], Chooser.of(plan.seed, f"api {name}", number))
    _SPOIL[name](day_feed)
    return day_feed.finished(), day_feed.defects


class _Day:
    """One day of one list while it is being spoilt."""

    def __init__(self, name: str, day: str, rows: list[Record], chooser: Chooser) -> None:
        self.name, self.day, self.rows, self.chooser = name, day, rows, chooser
        self.key = KEYS[name]
        self.defects: list[Defect] = []
        self.copies: list[tuple[int, Record]] = []

    def _note(self, kind: str, keys: dict[str, Any], **more: Any) -> None:
        self.defects.append(Defect("api", self.name, kind, f"/{self.name}", keys, self.day, **more))

    def change(self, n: int, kind: str, column: str, new: Callable[[Any], Any], note: str) -> None:
        for row in self.chooser.rows(n, range(len(self.rows))):
            was = self.rows[row][column]
            self.rows[row][column] = new(was)
            keys = {self.key: self.rows[row][self.key]}
            self._note(kind, keys, column=column, was=was, now=self.rows[row][column], note=note)

    def twice(self, n: int) -> None:
        for row in self.chooser.rows(n, range(len(self.rows))):
            self.copies.append((row + self.chooser.between(5, 60), self.rows[row]))
            self._note(
                "duplicate", {self.key: self.rows[row][self.key]}, note="the same item again, on this or a later page"
            )

    def reverse(self, n: int) -> None:
        """Reverse `n` blocks of ten, each within its own part of the day, so that two never overlap."""
        part = len(self.rows) // n
        if part < BLOCK:
            return
        for number in range(n):
            first = number * part + self.chooser.between(0, part - BLOCK)
            block = slice(first, first + BLOCK)
            keys = {self.key: [row[self.key] for row in self.rows[block]]}
            self.rows[block] = self.rows[block][::-1]
            self._note("reordered", keys, note="these ten came in the reverse order")

    def finished(self) -> list[Record]:
        placed = [(float(n), row) for n, row in enumerate(self.rows)]
        placed += [(min(at, len(self.rows)) + 0.5, row) for at, row in self.copies]
        return [row for _, row in sorted(placed, key=lambda item: item[0])]


def _orders(day: _Day) -> None:
    day.reverse(2)
    day.change(4, "wrong_unit", "total_eur", lambda v: round(v * 100), "cents instead of euros")
    day.change(2, "not_a_number", "total_eur", lambda v: None, "the amount is null")
    day.change(2, "not_a_number", "total_eur", lambda v: "NaN", "the amount is a text")
    day.twice(6)


def _deliveries(day: _Day) -> None:
    day.reverse(1)
    day.change(4, "wrong_unit", "celsius_at_door", fahrenheit, "°F instead of °C")
    day.change(2, "not_a_number", "celsius_at_door", lambda v: None, "the temperature is null")
    day.twice(4)


def _reviews(day: _Day) -> None:
    day.change(1, "not_a_number", "rating", lambda v: None, "the rating is null")
    day.change(1, "wrong_unit", "rating", lambda v: v * 20, "percent instead of stars")
    day.twice(2)


_SPOIL: dict[str, Callable[[_Day], None]] = {"orders": _orders, "deliveries": _deliveries, "reviews": _reviews}
