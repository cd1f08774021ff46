"""Checks of 08_logs: the search engine is asked, with lines and indexes drawn at each call and gone after it."""

from __future__ import annotations

from flow360.checks.c08_logs.belt import kept_and_tagged
from flow360.checks.c08_logs.counting import per_minute
from flow360.checks.c08_logs.formats import every_format
from flow360.checks.c08_logs.incident import exact_line
from flow360.checks.c08_logs.masks import no_people
from flow360.checks.c08_logs.types import two_types

__all__ = [
    "every_format",
    "exact_line",
    "kept_and_tagged",
    "no_people",
    "per_minute",
    "two_types",
]
