"""Checks of 04c_sql_transformations: each builds what the learner wrote, and asks PostgreSQL what came of it."""

from __future__ import annotations

from flow360.checks.c04c_sql_transformations.fitness import defects_test
from flow360.checks.c04c_sql_transformations.hours import incremental_model
from flow360.checks.c04c_sql_transformations.models import fact_at_grain, staging_model
from flow360.checks.c04c_sql_transformations.rules import unit_test
from flow360.checks.c04c_sql_transformations.setting import (
    prepare,
    prepare_files,
    prepare_readings,
    prepare_rule,
    prepare_sources,
)

__all__ = [
    "defects_test",
    "fact_at_grain",
    "incremental_model",
    "prepare",
    "prepare_files",
    "prepare_readings",
    "prepare_rule",
    "prepare_sources",
    "staging_model",
    "unit_test",
]
