"""The fleet: vans, drivers, their tours, and what the workshop does. MySQL owns it, as a business of its own.

It shares its keys with the shop: a van, a store, the number, times and length of a tour are the same in both. A tour
and a van's troubles follow from the seed and the day alone, so a longer plan only adds rows: those of the committed
week stay what they are, but for the odometers of the vans.
"""

from __future__ import annotations

from decimal import Decimal
from string import ascii_uppercase

import numpy as np
import pyarrow as pa

from flow360.primeur.draws import below, dates, take, texts
from flow360.primeur.plan import FAILING_DAY, FAILING_VAN, Plan, van_name
from flow360.primeur.pools import people
from flow360.primeur.schema import FLEET
from flow360.primeur.tours import MINUTES, departure, lengths, van_routes

SHIFT = 3
"""Drivers of each van: on each day one drives in the morning, one in the evening, and one is off."""
FIRST_DRIVER = 501
_LETTERS = "".join(one for one in ascii_uppercase if one not in "IOU")  # those that a French plate has
_MODELS = (
    ("Renault Master E-Tech", "electric", 1_125),
    ("Mercedes eSprinter", "electric", 850),
    ("Iveco Daily", "diesel", 1_400),
)
_TROUBLES = (
    ("tyres", "Pneu avant gauche usé, remplacé", 18_900),
    ("brakes", "Plaquettes avant changées", 24_500),
    ("service", "Niveaux et filtres contrôlés", 9_800),
)
_TROUBLE = 24
"""One evening in so many, a van has something for the workshop, which has it ready in the morning."""
_COOLING = ("cooling", "Compresseur du groupe froid remplacé", 148_000)
_REPORT, _REPAIR = 15 * 60, 9 * 3600  # seconds from the evening's return to the report, and from that to the van's
_OPEN = 4
"""One van in so many has a service that was asked for before the week, and is still to be done."""
_YEAR = 365


def _vans(plan: Plan) -> np.ndarray:
    return np.arange(plan.vans)


def _names(van: np.ndarray) -> pa.Array:
    return texts([van_name(v) for v in van])


def _model(plan: Plan) -> np.ndarray:
    return below(plan.seed, "model", _vans(plan), len(_MODELS))


def _bought_on(plan: Plan) -> np.ndarray:
    """Draw days since 1970: one to five years before the week."""
    return plan.days_since_1970() - _YEAR - below(plan.seed, "bought", _vans(plan), 4 * _YEAR)


def _odometer(plan: Plan) -> np.ndarray:
    """Draw tenths of a kilometre before the first tour: 60 to 90 km a day since the purchase."""
    age = plan.days_since_1970() - _bought_on(plan)
    return age * (600 + below(plan.seed, "odometer", _vans(plan), 300))


def _ways(plan: Plan) -> np.ndarray:
    """Draw tenths of a kilometre of each tour, shape (waves, vans): the shop's distances."""
    return np.stack([lengths(plan, wave) for wave in range(len(plan.waves()))])


def vans(plan: Plan, _chunk: int) -> pa.Table:
    """Make the vans, as the last tour of the plan leaves them."""
    van, model = _vans(plan), _model(plan)
    columns = [
        _names(van),
        van % plan.stores + 1,
        texts([_plate(plan.seed, int(v)) for v in van]),
        texts([_MODELS[m][0] for m in model]),
        texts([_MODELS[m][1] for m in model]),
        [_MODELS[m][2] for m in model],
        dates(_bought_on(plan)),
        (_odometer(plan) + _ways(plan).sum(axis=0)) / 10,
    ]
    return FLEET["vans"].build(columns)


def _plate(seed: int, van: int) -> str:
    """Write a plate; no two are alike: the number goes round all 900 before the first letters change."""
    round_, number = divmod(van, 900)
    last = int(below(seed, "plate", np.array([van]), len(_LETTERS) ** 2)[0])
    first, second = ("".join(_LETTERS[n] for n in divmod(pair, len(_LETTERS))) for pair in (115 + round_, last))
    return f"{first}-{number * 397 % 900 + 100}-{second}"


def drivers(plan: Plan, _chunk: int) -> pa.Table:
    """Draw three drivers for each van."""
    n = plan.vans * SHIFT
    driver, pool = np.arange(n), people(plan.seed)
    first, last = (below(plan.seed, f"driver {name}", driver, len(pool.first)) for name in ("first", "last"))
    columns = [
        driver + FIRST_DRIVER,
        take(pool.first, first),
        take(pool.last, last),
        driver // SHIFT % plan.stores + 1,
        texts([f"{a:06d}{b:06d}" for a, b in zip(below(plan.seed, "licence", driver, 10**6), driver, strict=True)]),
        dates(plan.days_since_1970() - 30 - below(plan.seed, "hired", driver, 6 * _YEAR)),
    ]
    return FLEET["drivers"].build(columns)


def tours(plan: Plan, _chunk: int) -> pa.Table:
    """Build all tours of the plan, wave by wave. In one piece, because an odometer goes on where it stood."""
    ways, routes = _ways(plan), pa.concat_tables(van_routes(plan, wave) for wave in range(len(plan.waves())))
    after = _odometer(plan) + np.cumsum(ways, axis=0)
    van = np.tile(_vans(plan), len(ways))
    electric = np.array([_MODELS[m][1] == "electric" for m in _model(plan)])[van]
    number = routes["route_id"].to_numpy()
    rate = np.where(electric, 25 + below(plan.seed, "kWh", number, 7), 10 + below(plan.seed, "l", number, 4))
    day, half = (np.repeat(np.array(one), plan.vans) for one in zip(*plan.waves(), strict=True))
    columns = [
        *(routes[name].combine_chunks() for name in ("route_id", "van_id")),
        van * SHIFT + (day + half) % SHIFT + FIRST_DRIVER,
        *(routes[name].combine_chunks() for name in ("day", "half", "departed_at", "returned_at")),
        (after - ways).reshape(-1) / 10,
        after.reshape(-1) / 10,
        ways.reshape(-1) * rate // 100 / 10,
    ]
    return FLEET["tours"].build(columns)


def maintenance(plan: Plan, _chunk: int) -> pa.Table:
    """Make a service of each van before the week, and what an evening's return brings to light."""
    van = _vans(plan)
    asked = plan.second(0, 9) - 86_400 * (1 + below(plan.seed, "service", van, 30))
    is_open = below(plan.seed, "open", van, _OPEN) == 0
    rows = [
        (v + 1, v, "service", at, None if is_open[v] else at + 36 * 3600, None if is_open[v] else 24_900, None)
        for v, at in enumerate(asked.tolist())
    ]
    for n in range(plan.days):
        reported = departure(plan, n, 1) + MINUTES * 60 + _REPORT
        troubled = below(plan.seed, f"trouble {n}", van, _TROUBLE) == 0
        which = below(plan.seed, f"kind {n}", van, len(_TROUBLES))
        for v in van.tolist():
            failed = (n, v) == (FAILING_DAY, FAILING_VAN)
            if failed or troubled[v]:
                kind, note, cents = _COOLING if failed else _TROUBLES[which[v]]
                rows.append(((n + 1) * plan.vans + v + 1, v, kind, reported, reported + _REPAIR, cents, note))
    number, v, kind, asked, done, cents, note = zip(*rows, strict=True)
    columns = [
        list(number),
        _names(np.array(v)),
        texts(kind),
        list(asked),
        list(done),
        [None if one is None else Decimal(one).scaleb(-2) for one in cents],
        texts(note),
    ]
    return FLEET["maintenance"].build(columns)
