"""Exercise 1: readings in one unit, and none without a value."""

from __future__ import annotations

import random
from fractions import Fraction
from typing import Any

from flow360.checks import liberal
from flow360.checks.c04a_stream_processing.driven import Sent, Topology, drive, fields_of, some_vans
from flow360.checks.draw import draw
from flow360.checks.verdict import NotYet, exercise, expect, expect_equal
from flow360.ingestion.topics import millis

BEGIN = millis("2026-05-07T10:00:00Z")


@exercise
def clean_celsius(clean: Topology) -> None:
    """Check readings -> celsius: {"celsius": …} for each reading with a value, °F converted."""
    given = _readings(draw())
    for sent, found in zip(given, drive("clean", clean, given, "celsius"), strict=True):
        value, unit = sent.value["value"], sent.value["unit"]
        if value is None:
            expect(not found, "clean: a reading without a value came out; nothing can be computed with it")
            continue
        if not found:
            why = ": it is a temperature, and None is not" if value == 0 else ""
            raise NotYet(f"clean: the reading of {float(value)} °{unit} is missing{why}")
        expect_equal(f"clean: records on `celsius` behind one of {sent.key}", found=len(found), expected=1)
        expect_equal("clean: the key on `celsius`", found=found[0].key, expected=sent.key, why="the van, as it was")
        celsius = liberal.number("clean: celsius", fields_of("clean", found[0], "celsius")["celsius"])
        why = "what is °C stays as it is" if unit == "C" else "°C = (°F - 32) / 1.8, to two decimals"
        if celsius != _celsius(value, unit):
            raise NotYet(
                f"clean: {value} °{unit} of {sent.key}: expected {_celsius(value, unit)} °C, found {celsius}: {why}"
            )


def _celsius(value: float, unit: str) -> float:
    """Convert exactly; no value of at most two decimals lies in the middle between two results."""
    return float(value) if unit == "C" else float(round((Fraction(str(value)) - 32) * 5 / 9, 2))


def _readings(chance: random.Random) -> list[Sent]:
    """Draw readings of vans that measure now in this unit and now in that, in an order of their own."""
    celsius = [0.0, 4, -0.5, *(chance.randint(-30_000, 30_000) / 1000 for _ in range(8))]
    fahrenheit = [0.0, 32, -40.0, *(chance.randint(-4_000, 12_000) / 100 for _ in range(25))]
    values: list[tuple[Any, str]] = [(value, "C") for value in celsius] + [(value, "F") for value in fahrenheit]
    values += 2 * [(None, "C"), (None, "F")]
    chance.shuffle(values)
    vans = [*some_vans(chance, 3), "VAN-08"]
    given = [
        Sent("readings", chance.choice(vans), {"value": value, "unit": unit}, BEGIN + 1000 * n)
        for n, (value, unit) in enumerate(values)
    ]
    return [*given, next(sent for sent in given if sent.value["value"] is not None)]  # the same once more is one more
