"""Customers: the table that the generator's speed is measured on."""

from __future__ import annotations

from functools import cache

import numpy as np
import pyarrow as pa

from flow360.primeur.draws import below, dates, joined, pick, rng, take, texts
from flow360.primeur.places import cities
from flow360.primeur.plan import CHUNK, FIRST_CUSTOMER, Plan
from flow360.primeur.pools import people
from flow360.primeur.schema import TABLES

LOYALTY = ("none", "basil", "mint", "saffron")
_OLDEST, _YOUNGEST = -12_000, 13_000  # birth dates, days from 1970: 1937 to 2005
_FIRST_REGISTRATION = 18_993  # 2022-01-01


@cache
def _addresses() -> tuple[np.ndarray, np.ndarray, pa.Array, pa.Array]:
    """List every (city, postcode) once: edges of their shares, index of the city, and both names."""
    weights, index, postcodes, names = [], [], [], []
    for n, city in enumerate(cities()):
        for postcode in city.postcodes:
            weights.append(city.weight * 60 // len(city.postcodes))
            index.append(n)
            postcodes.append(postcode)
            names.append(city.name)
    return np.cumsum(weights), np.array(index), texts(postcodes), texts(names)


def address_of(plan: Plan, ids: np.ndarray) -> np.ndarray:
    """Return the index of each customer's (city, postcode): a hash of the id, so orders find it without a look-up."""
    edges = _addresses()[0]
    return np.searchsorted(edges, below(plan.seed, "address", ids, int(edges[-1])), side="right")


def store_of(plan: Plan, ids: np.ndarray) -> np.ndarray:
    """Return the store, counted from 0, that serves each customer: one of those in the customer's city."""
    city = _addresses()[1][address_of(plan, ids)]
    n = len(cities())
    here = (plan.stores - 1 - city) // n + 1
    return city + n * (below(plan.seed, "store", ids, 1 << 30) % here)


def customers(plan: Plan, chunk: int) -> pa.Table:
    """Draw one chunk of customers.

    Args:
        plan: sizes and seed.
        chunk: from 0; the last chunk is short.

    Returns:
        At most `CHUNK` rows, ordered by customer_id.
    """
    first = chunk * CHUNK
    n = min(CHUNK, plan.customers - first)
    pool, draw = people(plan.seed), rng(plan.seed, "customers", chunk)
    ids = np.arange(first, first + n, dtype=np.int64) + FIRST_CUSTOMER
    address = address_of(plan, ids)
    _, _, postcodes, city_names = _addresses()
    given, family = (draw.integers(0, len(pool.first), n, dtype=np.uint16) for _ in range(2))
    number = pa.array(ids)
    columns = [
        number,
        take(pool.first, given),
        take(pool.last, family),
        joined(
            take(pool.first_plain, given),
            ".",
            take(pool.last_plain, family),
            number.cast(pa.string()),
            take(pool.hosts, draw.integers(0, len(pool.hosts), n, dtype=np.uint16)),
        ),
        joined(
            take(pool.phone_starts, draw.integers(0, len(pool.phone_starts), n, dtype=np.uint16)),
            take(pool.phone_ends, draw.integers(0, len(pool.phone_ends), n, dtype=np.uint16)),
            by=" ",
        ),
        take(pool.streets, draw.integers(0, len(pool.streets), n, dtype=np.uint16)),
        take(postcodes, address),
        take(city_names, address),
        dates(draw.integers(_OLDEST, _YOUNGEST, n, dtype=np.int32)),
        dates(draw.integers(_FIRST_REGISTRATION, plan.days_since_1970(), n, dtype=np.int32)),
        take(texts(LOYALTY), pick(draw, n, (60, 20, 14, 6))),
        pa.array(draw.integers(0, 2, n, dtype=np.uint8)).cast(pa.bool_()),
    ]
    return TABLES["customers"].build(columns)
