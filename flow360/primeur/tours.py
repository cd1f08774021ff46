"""The vans: their tours, and the temperature of the cold room minute by minute.

A door that is opened lets warm air in for some minutes, and a long stop in the morning brings VAN-09 just above 8 °C
for three of them. Only one van is really ill: the cooling of VAN-03 fails in the evening of the known day.
"""

from __future__ import annotations

from datetime import date
from typing import Any

import numpy as np
import pyarrow as pa

from flow360.primeur.draws import below, dates, moments, rng, take, texts
from flow360.primeur.plan import FAILING_DAY, FAILING_MINUTE, FAILING_VAN, Plan, van_name
from flow360.primeur.schema import TABLES

MINUTES = 240
"""Length of a tour, and readings in it."""
VANS_IN_CHUNK = 1_024
STARTS = ((10, 30), (16, 30))
LIMIT = 8.0
"""A van above this for more than five minutes has lost its cold chain: °C."""
LONG_STOP_VAN, LONG_STOP_MINUTES = 8, (100, 103)


def wave_number(day: np.ndarray | int, half: np.ndarray | int) -> np.ndarray | int:
    return day * 2 + half


def route_id(plan: Plan, wave: np.ndarray | int, van: np.ndarray | int) -> np.ndarray | int:
    """Compute the number of a van's tour: wave 0 is the first morning."""
    return wave * plan.vans + van + 1


def van_of(plan: Plan, store: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Choose the van, from 0, that carries each order: one of those of its store."""
    here = (plan.vans - 1 - store) // plan.stores + 1
    return store + plan.stores * (below(plan.seed, "van", ids, 1 << 30) % here)


def departure(plan: Plan, day: int, half: int) -> int:
    """Start of a tour: seconds since 1970."""
    return plan.second(day, *STARTS[half])


def failed(plan: Plan, day: int, half: int) -> bool:
    """Say whether this is the wave in which the cooling fails."""
    return (day, half) == (FAILING_DAY, 1)


def lengths(plan: Plan, wave: int) -> np.ndarray:
    """Draw how far each van drives in a wave, in tenths of a kilometre."""
    return rng(plan.seed, "van_routes", wave).integers(280, 960, plan.vans)


def van_routes(plan: Plan, chunk: int) -> pa.Table:
    """Build the tours of one wave (`chunk` counts the waves): one row a van."""
    day, half = plan.waves()[chunk]
    van = np.arange(plan.vans)
    start = departure(plan, day, half)
    n = len(van)
    columns = [
        route_id(plan, chunk, van),
        texts([van_name(v) for v in van]),
        van % plan.stores + 1,
        dates(np.full(n, plan.days_since_1970(day))),
        texts([("am", "pm")[half]] * n),
        moments(np.full(n, start)),
        moments(np.full(n, start + MINUTES * 60)),
        lengths(plan, chunk) / 10,
    ]
    return TABLES["van_routes"].build(columns)


def temperature_chunks(plan: Plan) -> int:
    return len(plan.waves()) * _blocks(plan)


def _blocks(plan: Plan) -> int:
    return -(-plan.vans // VANS_IN_CHUNK)


def temperatures(plan: Plan, chunk: int) -> pa.Table:
    """Draw the readings of at most 1,024 vans in one wave, van by van, 240 each."""
    wave, block = divmod(chunk, _blocks(plan))
    day, half = plan.waves()[wave]
    vans = np.arange(block * VANS_IN_CHUNK, min((block + 1) * VANS_IN_CHUNK, plan.vans))
    n = len(vans)
    minute = np.tile(np.arange(MINUTES), n)
    van = np.repeat(vans, MINUTES)
    columns = [
        (wave * plan.vans + van) * MINUTES + minute + 1,
        take(texts([van_name(v) for v in vans]), np.repeat(np.arange(n), MINUTES)),
        route_id(plan, wave, van),
        half * MINUTES + minute + 1,
        moments(departure(plan, day, half) + minute * 60),
        _hundredths(plan, day, half, vans, chunk).reshape(-1) / 100,
    ]
    return TABLES["temperatures"].build(columns)


def readings(plan: Plan, day: date) -> list[dict[str, Any]]:
    """List the rows of `temperatures` of a day, the plan's or a later one: van by van, morning before evening.

    Raises:
        ValueError: the day is before the plan's first, or too far away.
    """
    longer, n = plan.until(day), (day - plan.start).days
    blocks = _blocks(longer)
    chunks = range(n * 2 * blocks, (n + 1) * 2 * blocks)
    return [row for chunk in chunks for row in temperatures(longer, chunk).to_pylist()]


def _hundredths(plan: Plan, day: int, half: int, vans: np.ndarray, chunk: int) -> np.ndarray:
    """Draw the hundredths of a degree, shape (vans, minutes)."""
    draw = rng(plan.seed, "temperatures", chunk)
    shape = (len(vans), MINUTES)
    base = 280 + below(plan.seed, "cold", vans, 140)[:, None]
    opened = (draw.integers(0, 28, shape) == 0).astype(np.int64)
    warm = 200 * opened
    for lag, part in ((1, 150), (2, 90), (3, 40)):
        warm[:, lag:] += part * opened[:, :-lag]
    value = np.minimum(base + warm + draw.integers(-25, 26, shape), 760)
    if half == 0 and day == FAILING_DAY:
        value[vans == LONG_STOP_VAN, slice(*LONG_STOP_MINUTES)] = 861
    if failed(plan, day, half):
        ramp = np.clip((np.arange(MINUTES) - FAILING_MINUTE + 1) * 24, 0, 1_500)
        value[vans == FAILING_VAN] += ramp
    return value
