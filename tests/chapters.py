"""Which chapters a run of the tests is about."""

from __future__ import annotations

import os
import random

import pytest

from flow360.course import Chapter, course


def under_test() -> list[Chapter]:
    """The written chapters, those in trial only when `./scripts/test --chapter` asks for one.

    In the course's order, or in that of the seed FLOW360_TEST_ORDER (`./scripts/test --order random` draws one).
    """
    found = [c for c in course().chapters if c.written and (not c.trial or _asked())]
    if seed := os.environ.get("FLOW360_TEST_ORDER"):
        random.Random(int(seed)).shuffle(found)
    return found


def in_trial() -> list[Chapter]:
    """The chapters that this run leaves out."""
    return [c for c in course().chapters if c.trial and not _asked()]


def only_with(number: str) -> None:
    """Skip the tests of a module while the chapter that they belong to is left out."""
    if number in [c.number for c in in_trial()]:
        pytest.skip(f"chapter {number} is in trial: ./scripts/test --chapter {number}", allow_module_level=True)


def _asked() -> bool:
    return os.environ.get("FLOW360_TEST_TRIAL") == "1"
