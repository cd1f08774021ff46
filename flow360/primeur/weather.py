"""Weather at each store, hour by hour. Rain makes deliveries late, so orders ask here whether it rains."""

from __future__ import annotations

from datetime import datetime

import numpy as np
import pyarrow as pa

from flow360.primeur.clock import PARIS
from flow360.primeur.draws import below, moments, rng
from flow360.primeur.places import cities
from flow360.primeur.plan import Plan
from flow360.primeur.schema import TABLES

# May in the twelve cities, tenths of a degree: the mean of the day
_MEAN = (142, 172, 158, 168, 175, 146, 149, 160, 178, 134, 138, 136)
# the course of a day, tenths of a degree from the mean, local hour by hour
_COURSE = np.array(
    [-30, -35, -40, -44, -47, -46, -40, -30, -18, -5, 8, 20, 30, 38, 43, 45, 43, 38, 30, 20, 8, -4, -14, -23]
)


def wet(plan: Plan, store: np.ndarray, day: np.ndarray) -> np.ndarray:
    """Say whether it rains at a store on a day (both from 0): bool, about one day in four, the same for a city."""
    city = store % len(cities())
    return below(plan.seed, "rain", city * 10_000 + day, 100) < 26


def weather(plan: Plan, chunk: int = 0) -> pa.Table:
    """Draw 24 rows for each store and day, the morning after the last day's orders included."""
    hours = [(day, clock, plan.second(day, clock)) for day in range(plan.days + 1) for clock in range(24)]
    return _rows(plan, hours, rng(plan.seed, "weather"))


def later(plan: Plan, day: int) -> pa.Table:
    """Draw the hours of a day (from 0) that `weather` does not have; there are 23 or 25 when the clocks change."""
    begins = range(plan.midnight(day), plan.midnight(day + 1), 3600)
    hours = [(day, datetime.fromtimestamp(second, PARIS).hour, second) for second in begins]
    return _rows(plan, hours, rng(plan.seed, "weather", day))


def _rows(plan: Plan, hours: list[tuple[int, int, int]], draw: np.random.Generator) -> pa.Table:
    """Draw a row for each store and hour; an hour is (day, hour in Paris, second since 1970 at its start)."""
    store, hour = np.divmod(np.arange(plan.stores * len(hours)), len(hours))
    day, clock, begin = np.array(hours)[hour].T
    rain = wet(plan, store, day)
    city = store % len(cities())
    drift = below(plan.seed, "warm", city * 10_000 + day, 50) - 25
    tenths = np.array(_MEAN)[city] + _COURSE[clock] + drift - 25 * rain + draw.integers(-5, 6, len(store))
    falling = draw.integers(0, 100, len(store)) < 40
    columns = [
        store + 1,
        moments(begin),
        tenths / 10,
        np.where(rain & falling, draw.integers(2, 60, len(store)), 0) / 10,
        draw.integers(20, 320, len(store)) / 10,
    ]
    return TABLES["weather"].build(columns)
