"""Checks of 05b_data_warehouse: each asks PostgreSQL for its plan, its catalogue, its rows or its locks."""

from __future__ import annotations

from flow360.checks.c05b_data_warehouse.layout import index_changes_plan, partition_by_month
from flow360.checks.c05b_data_warehouse.loading import fast_load
from flow360.checks.c05b_data_warehouse.setting import LOOKUP, bulk, prepare
from flow360.checks.c05b_data_warehouse.skew import write_skew
from flow360.checks.c05b_data_warehouse.versions import as_of

__all__ = [
    "LOOKUP",
    "as_of",
    "bulk",
    "fast_load",
    "index_changes_plan",
    "partition_by_month",
    "prepare",
    "write_skew",
]
