"""Checks of 02_ingestion: each calls the learner's function and then asks the broker and the warehouse."""

from __future__ import annotations

from flow360.checks.c02_ingestion.group import safe_group
from flow360.checks.c02_ingestion.lag import lag_by_hand
from flow360.checks.c02_ingestion.letters import dead_letters
from flow360.checks.c02_ingestion.loading import idempotent_load
from flow360.checks.c02_ingestion.sending import keyed_producer

__all__ = ["dead_letters", "idempotent_load", "keyed_producer", "lag_by_hand", "safe_group"]
