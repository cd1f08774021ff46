"""What a planted defect is, and how rows are chosen for it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from flow360.primeur.draws import rng

KINDS = {
    "duplicate": "the same row, line, item or message a second time",
    "late": "an event that arrives after later ones, or in the next day's file",
    "reordered": "a block of neighbours in the reverse order",
    "wrong_unit": "cents where euros are announced, °F where °C is, percent where stars are",
    "not_a_number": "NaN, null or n.c. where a number belongs",
    "missing_key": "an empty key",
    "orphan": "a key that points at nothing",
    "bad_row": "a line with too many or too few fields, or a broken JSON text",
    "encoding": "bytes that are not of the file's encoding",
    "contradiction": "two sources that say different things of the same one",
    "absent": "nothing where another source has something",
    "cooling_failure": "true readings of a van whose cooling fails: not an error of the data but of the van",
}


@dataclass
class Defect:
    """One planted defect.

    Attributes:
        channel: "files", "api", "mqtt" or "documents".
        dataset: "orders", "reviews", "price_list", "weather", "deliveries", "temperatures" or "sheets".
        kind: one of `KINDS`.
        where: the file's name, the API's path, the topic or the collection.
        keys: the key of the row that it was planted in, e.g. {"order_id": 100123}.
        day: the day (Paris) of the file, page or replay, ISO; "" where the data set has no day.
        column: the column that was changed, or "".
        was, now: its value before and after.
        line: number of the line in its file, from 1 (the header is line 1); of the row in Parquet, from 0.
        note: what was done, in words.
    """

    channel: str
    dataset: str
    kind: str
    where: str
    keys: dict[str, Any]
    day: str = ""
    column: str = ""
    was: Any = None
    now: Any = None
    line: int | None = None
    note: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return the defect without its empty fields."""
        return {k: v for k, v in asdict(self).items() if v is not None and v != ""}


@dataclass
class Chooser:
    """Chooses rows so that none gets two defects."""

    generator: np.random.Generator
    taken: set[int] = field(default_factory=set)

    @classmethod
    def of(cls, seed: int, name: str, *part: int) -> Chooser:
        return cls(rng(seed, f"defects:{name}", *part))

    def rows(self, n: int, allowed: Iterator[int] | range | list[int]) -> list[int]:
        """Choose `n` rows of those allowed, fewer when there are not so many left, in rising order."""
        free = [row for row in allowed if row not in self.taken]
        chosen = sorted(int(i) for i in self.generator.choice(free, min(n, len(free)), replace=False)) if free else []
        self.taken.update(chosen)
        return chosen

    def between(self, low: int, high: int) -> int:
        """Draw a whole number, both ends included."""
        return int(self.generator.integers(low, high + 1))


def fahrenheit(celsius: float) -> float:
    """Convert °C to °F with two decimals."""
    return round(celsius * 9 / 5 + 32, 2)
