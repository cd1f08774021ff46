"""Checks of 04b_big_data: each asks Spark, its own record of what it did, or the files, read by another engine."""

from __future__ import annotations

from flow360.checks.c04b_big_data.files import right_files
from flow360.checks.c04b_big_data.late import late_model
from flow360.checks.c04b_big_data.report import fewer_shuffles
from flow360.checks.c04b_big_data.skew import cured_join
from flow360.checks.c04b_big_data.stream import exact_stream
from flow360.checks.c04b_big_data.tables import guest_orders, lake, read

__all__ = [
    "cured_join",
    "exact_stream",
    "fewer_shuffles",
    "guest_orders",
    "lake",
    "late_model",
    "read",
    "right_files",
]
