"""What became of the rows of a day: the account that the clean zone keeps of what was delivered to it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING

from flow360.storage.raw import Manifest

if TYPE_CHECKING:
    import pandas as pd

OUTCOMES = ("clean", "doubled", "quarantined", "other_day")
"""What can become of a row: `flow360/processing/clean.py` says what each of them means."""


@dataclass(frozen=True)
class Entry:
    """So many rows of a file with one outcome; `euros` is None where rows have no amount, or none that can be read."""

    table: str
    source: str
    file: str
    outcome: str
    reason: str | None
    rows: int
    euros: Decimal | None = None


@dataclass(frozen=True)
class Ledger:
    """One day's account: each delivered row is in one entry."""

    day: date
    entries: tuple[Entry, ...]

    def count(self, **wanted: str) -> int:
        """Count the rows of the entries that have these values: `count(table="orders", outcome="clean")`."""
        return sum(
            one.rows for one in self.entries if all(getattr(one, name) == value for name, value in wanted.items())
        )

    def gaps(self, manifests: Iterable[Manifest]) -> list[str]:
        """List where more or fewer rows were read than a source says it gave, and what did not come; [] is well."""
        found = []
        for one in manifests:
            found += [f"{one.source}: {name} {why}" for name, why in one.missing.items()]
            for file in one.files:
                read = self.count(source=one.source, file=file.name)
                if file.rows is not None and read != file.rows:
                    found.append(f"{one.source}: {file.name} had {file.rows:,} rows, {read:,} were read")
        return found

    def frame(self) -> pd.DataFrame:
        """List each table and source in a row: delivered, and how many of them had which outcome."""
        import pandas as pd

        pairs = sorted({(one.table, one.source) for one in self.entries})
        rows = [
            (table, source, self.count(table=table, source=source))
            + tuple(self.count(table=table, source=source, outcome=outcome) for outcome in OUTCOMES)
            for table, source in pairs
        ]
        return pd.DataFrame(rows, columns=["table", "source", "delivered", *OUTCOMES])
