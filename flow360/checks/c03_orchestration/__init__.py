"""Checks of 03_orchestration: each asks Airflow over its API, its metadata, and the tables that its runs wrote."""

from __future__ import annotations

from flow360.checks.c03_orchestration.history import slow_task
from flow360.checks.c03_orchestration.loading import idempotent_load
from flow360.checks.c03_orchestration.quality import quality_branch
from flow360.checks.c03_orchestration.repair import as_it_was_left, repaired_days
from flow360.checks.c03_orchestration.schedule import first_dag

__all__ = ["as_it_was_left", "first_dag", "idempotent_load", "quality_branch", "repaired_days", "slow_task"]
