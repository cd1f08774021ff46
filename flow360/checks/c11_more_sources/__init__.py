"""Checks of 11_more_sources: MySQL, MongoDB and PostgreSQL are asked, with rows and documents that are drawn."""

from __future__ import annotations

from flow360.checks.c11_more_sources.differing import differences
from flow360.checks.c11_more_sources.following import follow_feed
from flow360.checks.c11_more_sources.landing import land_sheet
from flow360.checks.c11_more_sources.loading import load_van
from flow360.checks.c11_more_sources.netting import net_changes
from flow360.checks.c11_more_sources.scoring import van_scores

__all__ = [
    "differences",
    "follow_feed",
    "land_sheet",
    "load_van",
    "net_changes",
    "van_scores",
]
