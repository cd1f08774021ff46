"""Exercise 2: nothing falls off the belt."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from flow360.checks.c08_logs.setting import moment_of, simulated
from flow360.checks.draw import draw
from flow360.checks.verdict import NotYet, exercise, expect, expect_equal, expect_type, shown
from flow360.primeur.clock import PARIS


@exercise
def kept_and_tagged(pipeline: Any) -> None:
    """Check that good documents become typed, and bad ones are kept with the tag of what is wrong; none is dropped."""
    expect_type("pipeline", pipeline, Mapping)
    chance = draw()
    cases = [_case(chance, kind) for kind in ("good", *KINDS) for _ in range(4)]
    found = simulated("pipeline", pipeline, [before for before, _ in cases])
    for (before, wanted), after in zip(cases, found, strict=True):
        about = shown(before["message"])
        if after is None:
            raise NotYet(f"pipeline: the document of {about} was dropped")
        if isinstance(after, str):
            raise NotYet(f"pipeline: the document of {about} was refused: {after}")
        expect_equal(f"pipeline: message of {about}", found=after.get("message"), expected=before["message"])
        tags = after.get("tags") or []
        tags = [tags] if isinstance(tags, str) else list(tags)
        expect_equal(f"pipeline: tags of {about}", found=sorted(tags), expected=sorted(wanted["tags"]))
        expect_equal(f"pipeline: van_id of {about}", found=after.get("van_id"), expected=wanted["van_id"])
        celsius = after.get("celsius")
        number = isinstance(celsius, int | float) and not isinstance(celsius, bool)
        expect(
            celsius is None or number,
            f"pipeline: celsius of {about}: expected a number or nothing, found {type(celsius).__name__}",
        )
        expect_equal(f"pipeline: celsius of {about}", found=celsius, expected=wanted["celsius"])
        at = moment_of(after.get("@timestamp"))
        at = at and at.astimezone(UTC).isoformat()
        expect_equal(f"pipeline: @timestamp of {about}", found=at, expected=wanted["at"].isoformat())


KINDS = ("notjson", "cut", "nodate", "noat", "nonumber", "both", "tagged", "text", "nocelsius")


def _case(chance: random.Random, kind: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Draw a document as the shipper sends it, and what has to come of it."""
    came = datetime(2026, 6, 1, chance.randrange(24), chance.randrange(60), tzinfo=UTC)
    at = (came - timedelta(seconds=chance.randrange(1, 5000))).astimezone(PARIS)
    celsius, van = round(chance.uniform(-20, 20), 9), f"VAN-{chance.randrange(100):02}"
    row: dict[str, Any] = {"at": at.isoformat(), "van_id": van, "celsius": celsius}
    wanted: dict[str, Any] = {"tags": [], "van_id": van, "celsius": celsius, "at": at.astimezone(UTC)}
    before: dict[str, Any] = {"@timestamp": came.isoformat()}
    if kind in ("nodate", "both"):
        row["at"] = chance.choice(["2026-13-01T00:00:00Z", "yesterday", "07/05/2026 10:00"])
    if kind == "noat":
        del row["at"]
    if kind in ("nodate", "both", "noat"):
        wanted |= {"at": came, "tags": ["nodate"]}
    if kind in ("nonumber", "both"):
        row["celsius"] = chance.choice(["n/a", "4,5", "--", "4.5 °C"])
        wanted |= {"celsius": None, "tags": [*wanted["tags"], "nonumber"]}
    if kind == "text":
        row["celsius"] = str(celsius)
    if kind == "nocelsius":
        del row["celsius"]
        wanted |= {"celsius": None, "tags": ["nonumber"]}
    if kind == "tagged":
        before["tags"] = ["depot"]
        row["at"] = "soon"
        wanted |= {"at": came, "tags": ["depot", "nodate"]}
    before["message"] = json.dumps(row)
    if kind in ("notjson", "cut"):
        before["message"] = "door open" if kind == "notjson" else before["message"][: chance.randrange(5, 30)]
        wanted = {"tags": ["notjson"], "van_id": None, "celsius": None, "at": came}
    return before, wanted
