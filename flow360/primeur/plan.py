"""How much of everything: sizes, days and the demand of each day, from a seed and a scale."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from functools import cached_property
from typing import Any

from flow360.primeur.clock import PARIS, day_of
from flow360.primeur.places import cities, holiday

WEEK = date(2026, 5, 4)
"""The Monday on which the committed week begins."""
DAY = date(2026, 5, 7)
"""The day of the course: the eve of a public holiday, and the day on which a van's cooling fails."""
LAST_DAY = date(2035, 12, 31)
"""Until then the company can be played: far enough for everybody, near enough for numbers of a known size."""
EPOCH = date(1970, 1, 1)

CHUNK = 65_536
"""Rows in one chunk: its arrays stay small enough for the allocator to reuse them (four times as many rows cost a third
more time). A part of the data's definition: another size would give other bytes."""
FIRST_ORDER = 100_001
FIRST_CUSTOMER = 1_001

FAILING_VAN = 2  # VAN-03, at Lyon
FAILING_DAY = 3  # days after the start: DAY
FAILING_MINUTE = 42  # minutes into the evening's tour: 17:12 in Paris
_WEEKDAY = (900, 850, 950, 1000, 1200, 1300, 700)


@dataclass(frozen=True)
class Plan:
    """The size of a company.

    Args:
        seed: every draw follows from it.
        scale: 1.0 is 800,000 customers and as many orders a week, about 1 GB of CSV; the committed week is 0.0025.
        start: first day.
        days: number of days with orders; the vans also drive on the morning after the last one.
    """

    seed: int = 360
    scale: float = 0.0025
    start: date = WEEK
    days: int = 7

    def __post_init__(self) -> None:
        if self.scale <= 0 or self.days < 1:
            raise ValueError(f"scale and days must be positive, found scale={self.scale}, days={self.days}")

    @property
    def customers(self) -> int:
        return max(200, round(800_000 * self.scale))

    @property
    def stores(self) -> int:
        return len(cities()) + int(40 * self.scale)

    @property
    def vans(self) -> int:
        return max(self.stores, round(2_300 * self.scale))

    @cached_property
    def orders_by_day(self) -> tuple[int, ...]:
        """Orders of each day: its share of its week, more on the eve of a holiday, fewer on it; a week's sum is exact.

        So a day has the same orders, of the same numbers, in every plan that goes on for so long.
        """
        return tuple(n for week in range(-(-self.days // 7)) for n in self._week(week))[: self.days]

    def _week(self, number: int) -> list[int]:
        weights = []
        for n in range(number * 7, number * 7 + 7):
            day = self.day(n)
            weight = _WEEKDAY[day.weekday()]
            if holiday(day):
                weight = weight * 55 // 100
            elif holiday(day + timedelta(days=1)):
                weight = weight * 135 // 100
            weights.append(weight)
        total = max(7, round(800_000 * self.scale))
        edges = [sum(weights[: n + 1]) * total // sum(weights) for n in range(7)]
        return [b - a for a, b in zip([0, *edges], edges, strict=False)]

    def until(self, day: date) -> Plan:
        """Make this plan as much longer as it takes to have that day.

        Raises:
            ValueError: the day is before the plan's first, or after `LAST_DAY`.
        """
        if not self.start <= day <= LAST_DAY:
            raise ValueError(f"day: a date from {self.start} to {LAST_DAY}")
        return replace(self, days=max(self.days, (day - self.start).days + 1))

    def day(self, n: int) -> date:
        """Return the n-th day of the plan, from 0."""
        return self.start + timedelta(days=n)

    def days_since_1970(self, n: int = 0) -> int:
        return (self.day(n) - EPOCH).days

    def second(self, n: int, hour: int, minute: int = 0) -> int:
        """Return the seconds since 1970 of a time of day in Paris on the n-th day (no tour crosses a change)."""
        noon = datetime.combine(self.day(n), time(12), PARIS)
        midnight = int(noon.astimezone(UTC).timestamp()) - 12 * 3600
        return midnight + hour * 3600 + minute * 60

    def midnight(self, n: int) -> int:
        """Return the second since 1970 at which the n-th day begins in Paris; two days a year have 23 and 25 hours."""
        return int(datetime.combine(self.day(n), time(0), PARIS).timestamp())

    def waves(self) -> list[tuple[int, int]]:
        """List the tours' times as (day, half): am and pm of each day, and the morning after the last."""
        return [(n, half) for n in range(self.days) for half in (0, 1)] + [(self.days, 0)]


SEED_PLAN = Plan()
"""The plan of the committed week."""


def business_day(wanted: Any) -> date:
    """Read a day of the committed week or a later one out of its ISO text.

    Raises:
        ValueError: it is not a date as 2026-05-07, or not a day that can be played.
    """
    try:
        found = day_of(wanted)
    except ValueError as error:
        raise ValueError(f"day: {error}") from None
    SEED_PLAN.until(found)
    return found


def van_name(n: int) -> str:
    """Name the n-th van, from 0: VAN-01."""
    return f"VAN-{n + 1:02d}"
