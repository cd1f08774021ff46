"""A day at Primeur is a day in Paris."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

PARIS = ZoneInfo("Europe/Paris")


def bounds(day: date) -> tuple[datetime, datetime]:
    """The midnights with which a day begins and ends: two days a year have 23 and 25 hours."""
    begin, end = (datetime(one.year, one.month, one.day, tzinfo=PARIS) for one in (day, day + timedelta(days=1)))
    return begin, end
