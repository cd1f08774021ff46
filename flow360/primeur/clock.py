"""A day at Primeur is a day in Paris."""

from __future__ import annotations

import contextlib
from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

PARIS = ZoneInfo("Europe/Paris")


def day_of(wanted: Any) -> date:
    """Read a day out of its text, or take it as it is.

    Raises:
        ValueError: it is not a date as 2026-05-07.
    """
    found = None
    with contextlib.suppress(TypeError, ValueError):
        found = wanted if isinstance(wanted, date) else date.fromisoformat(wanted)
    if found is None or str(wanted) != found.isoformat():  # Python also reads 20260507 and 2026-W19-4
        raise ValueError("a date, as 2026-05-07")
    return found


def bounds(day: date) -> tuple[datetime, datetime]:
    """Return the midnights with which a day begins and ends: two days a year have 23 and 25 hours."""
    begin, end = (datetime(one.year, one.month, one.day, tzinfo=PARIS) for one in (day, day + timedelta(days=1)))
    return begin, end
