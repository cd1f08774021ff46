"""Checks of chapter 07: the linters, GitHub's rules, the rule of Docker's cache, and the warehouse are asked."""

from __future__ import annotations

from flow360.checks.c07_delivery.caching import cache_key
from flow360.checks.c07_delivery.carrying import whole_way
from flow360.checks.c07_delivery.greening import green_again
from flow360.checks.c07_delivery.images import safe_dockerfile
from flow360.checks.c07_delivery.services import compose_service
from flow360.checks.c07_delivery.workflows import BROKEN, broken_workflow, version_matrix

__all__ = [
    "BROKEN",
    "broken_workflow",
    "cache_key",
    "compose_service",
    "green_again",
    "safe_dockerfile",
    "version_matrix",
    "whole_way",
]
