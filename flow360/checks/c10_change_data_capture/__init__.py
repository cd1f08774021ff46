"""Checks of 10_change_data_capture: Kafka Connect, its topics and PostgreSQL are asked, by drawn changes."""

from __future__ import annotations

from flow360.checks.c10_change_data_capture.carrying import carry_changes
from flow360.checks.c10_change_data_capture.columns import new_columns
from flow360.checks.c10_change_data_capture.connector import own_capture
from flow360.checks.c10_change_data_capture.lateness import how_late
from flow360.checks.c10_change_data_capture.settling import after_snapshot
from flow360.checks.c10_change_data_capture.slots import forgotten_slots

__all__ = [
    "after_snapshot",
    "carry_changes",
    "forgotten_slots",
    "how_late",
    "new_columns",
    "own_capture",
]
