"""What was spoilt on purpose, for those who check whether it was found.

from flow360.primeur.manifest import manifest
planted = manifest().defects(channel="files", dataset="orders", kind="duplicate", day="2026-05-07")
{d.keys["order_id"] for d in planted}
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from flow360.errors import FlowError
from flow360.primeur.defects import Defect
from flow360.settings import ROOT

PATH = ROOT / "data" / "seed" / "manifest.json"


@dataclass(frozen=True)
class Incident:
    """The van whose cooling failed: moments are ISO texts in UTC; `refused_orders` were refused at the door."""

    van_id: str
    day: str
    route_id: int
    failed_at: str
    above_limit_from: str
    limit_celsius: float
    readings_above_limit: int
    refused_orders: list[int]


@dataclass(frozen=True)
class Manifest:
    """The committed week's facts. `head` is the JSON file without the defects."""

    head: dict[str, Any]
    all: tuple[Defect, ...]

    @property
    def day(self) -> str:
        """The day of the course, ISO."""
        return self.head["day"]

    @property
    def incident(self) -> Incident:
        return Incident(**self.head["incident"])

    def rows(self, table: str) -> int:
        """Count the rows of a clean table."""
        return self.head["tables"][table]

    def orders_on(self, day: str) -> int:
        """Count the orders that were placed on a day (Paris)."""
        return self.head["orders_by_day"][day]

    def defects(
        self,
        channel: str | None = None,
        dataset: str | None = None,
        kind: str | None = None,
        day: str | None = None,
        where: str | None = None,
    ) -> list[Defect]:
        """List the planted defects that fit all given words (None fits everything)."""
        asked = {"channel": channel, "dataset": dataset, "kind": kind, "day": day, "where": where}
        wanted = {k: v for k, v in asked.items() if v is not None}
        return [d for d in self.all if all(getattr(d, k) == v for k, v in wanted.items())]

    def count(self, **asked: str) -> int:
        """Count the defects that fit."""
        return len(self.defects(**asked))

    def keys(self, column: str, **asked: str) -> set:
        """Collect one key column of the defects that fit: `keys("order_id", channel="api", kind="duplicate")`."""
        return {d.keys[column] for d in self.defects(**asked) if column in d.keys}


@cache
def manifest(path: Path = PATH) -> Manifest:
    """Read the manifest of the committed seed, once."""
    try:
        head = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise FlowError(f"{path} is missing: git checkout -- data/seed") from None
    defects = tuple(Defect(**d) for d in head.pop("defects"))
    return Manifest(head, defects)
