"""Checks of 01_sources: the REST service's own account, the vans' replay, the shop's database, the manifest."""

from __future__ import annotations

from flow360.checks.c01_sources.deliveries import paged_client
from flow360.checks.c01_sources.export import export_days, typed_parquet
from flow360.checks.c01_sources.generated import generated_orders
from flow360.checks.c01_sources.quality import RULES, quality_profile
from flow360.checks.c01_sources.readings import sensor_subscriber

__all__ = [
    "RULES",
    "export_days",
    "generated_orders",
    "paged_client",
    "quality_profile",
    "sensor_subscriber",
    "typed_parquet",
]
