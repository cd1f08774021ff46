"""Exercise 3: each reading with its tour, and none lost."""

from __future__ import annotations

import random
from typing import Any

from flow360.checks.c04a_stream_processing.driven import Sent, Topology, drive, fields_of, some_vans
from flow360.checks.compare import expect_rows
from flow360.checks.draw import draw
from flow360.checks.verdict import NotYet, exercise, expect_equal
from flow360.ingestion.topics import millis

BEGIN = millis("2026-05-07T06:00:00Z")
MINUTE = 60_000
CITIES = ("Paris", "Lyon", "Marseille", "Nîmes")


@exercise
def on_tour(toured: Topology) -> None:
    """Check celsius + tours -> on-tour: {"celsius", "route_id", "city"}, None where the van has no tour."""
    given = _mornings(draw())
    tours: dict[str, dict[str, Any]] = {}
    for sent, found in zip(given, drive("toured", toured, given, "on-tour"), strict=True):
        if sent.topic == "tours":
            tours[sent.key] = sent.value or {}
            expect_equal("toured: records behind a tour", found=len(found), expected=0, why="one for each reading")
            continue
        celsius, tour = sent.value["celsius"], tours.get(sent.key, {})
        if not found:
            why = "it had a tour" if tour else "it had no tour, but it is a reading"
            raise NotYet(f"toured: the reading {celsius} °C of {sent.key} is missing: {why}")
        expect_equal("toured: records behind a reading", found=len(found), expected=1, why="one for each reading")
        value = fields_of("toured", found[0], "celsius", "route_id", "city")
        expect_rows(
            "toured",
            found=[{"van": found[0].key, **value}],
            expected=[
                {"van": sent.key, "celsius": celsius, "route_id": tour.get("route_id"), "city": tour.get("city")}
            ],
            key=("van", "celsius"),
            what="records",
            why="the tour of that van as it is when the reading passes",
        )


def _mornings(chance: random.Random) -> list[Sent]:
    """Draw vans that set out, get another tour, come home and set out again, and what they measure on the way."""
    vans, given = some_vans(chance, 4), []

    def reading(van: str, celsius: float | None = None, late: int = 0) -> None:
        measured = chance.randint(-300, 1500) / 100 if celsius is None else celsius
        given.append(Sent("celsius", van, {"celsius": measured}, BEGIN + (len(given) - late) * MINUTE))

    def tour(van: str) -> None:
        about = {"route_id": chance.randint(1, 400), "half": chance.choice(("am", "pm")), "city": chance.choice(CITIES)}
        given.append(Sent("tours", van, about, BEGIN + len(given) * MINUTE))

    def home(van: str) -> None:
        given.append(Sent("tours", van, None, BEGIN + len(given) * MINUTE))

    first, second, *_ = vans
    reading(first, 0.0)  # it has not had a tour yet
    tour(first)
    reading(first, 0.0)
    reading(first, 4.0)
    reading(first, 4.0)  # the same again is a reading of its own
    reading(second)
    tour(second)
    tour(first)
    reading(first, late=3)  # measured before that tour, but it passes now
    reading(second)
    home(first)
    reading(first)
    reading(second)
    tour(first)
    reading(first)
    for _ in range(60):
        chance.choices((reading, tour, home), weights=(6, 2, 1))[0](chance.choice(vans))
    return given
