"""Checks of 09_secrets: Vault, its audit log, PostgreSQL's roles and git's own memory are asked."""

from __future__ import annotations

from flow360.checks.c09_secrets.audit import who_had_it
from flow360.checks.c09_secrets.history import leaked
from flow360.checks.c09_secrets.leases import short_lease
from flow360.checks.c09_secrets.policies import narrow_policy
from flow360.checks.c09_secrets.reading import patient_reader
from flow360.checks.c09_secrets.rotation import no_downtime
from flow360.checks.c09_secrets.setting import prepare

__all__ = [
    "leaked",
    "narrow_policy",
    "no_downtime",
    "patient_reader",
    "prepare",
    "short_lease",
    "who_had_it",
]
