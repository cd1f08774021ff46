"""Weather at each store, hour by hour. Rain makes deliveries late, so orders ask here whether it rains."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

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
    """Whether it rains at a store on a day (both from 0): bool, about one day in four, the same for a whole city."""
    city = store % len(cities())
    return below(plan.seed, "rain", city * 10_000 + day, 100) < 26


def weather(plan: Plan, chunk: int = 0) -> pa.Table:
    """24 rows for each store and day, the morning after the last day's orders included."""
    hours = (plan.days + 1) * 24
    store, hour = np.divmod(np.arange(plan.stores * hours), hours)
    day, clock = np.divmod(hour, 24)
    draw = rng(plan.seed, "weather")
    midnight = np.array([plan.second(n, 0) for n in range(plan.days + 1)])
    rain = wet(plan, store, day)
    city = store % len(cities())
    drift = below(plan.seed, "warm", city * 10_000 + day, 50) - 25
    tenths = np.array(_MEAN)[city] + _COURSE[clock] + drift - 25 * rain + draw.integers(-5, 6, len(store))
    falling = draw.integers(0, 100, len(store)) < 40
    columns = [
        store + 1,
        moments(midnight[day] + clock * 3600),
        tenths / 10,
        np.where(rain & falling, draw.integers(2, 60, len(store)), 0) / 10,
        draw.integers(20, 320, len(store)) / 10,
    ]
    return TABLES["weather"].build(columns)
