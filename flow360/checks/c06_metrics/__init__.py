"""Checks of 06_metrics: each asks Prometheus, and compares with what the services themselves say."""

from __future__ import annotations

from flow360.checks.c06_metrics.backlog import backlog_alert
from flow360.checks.c06_metrics.pushing import own_metric
from flow360.checks.c06_metrics.routes import error_panel, slow_routes
from flow360.checks.c06_metrics.saturation import saturated_service

__all__ = [
    "backlog_alert",
    "error_panel",
    "own_metric",
    "saturated_service",
    "slow_routes",
]
