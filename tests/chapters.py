"""Which chapters a run of the tests is about."""

from __future__ import annotations

import os
import random

from flow360.course import Chapter, course


def under_test() -> list[Chapter]:
    """The written chapters, in the course's order or in that of the seed in FLOW360_TEST_ORDER (`--order`)."""
    found = [c for c in course().chapters if c.written]
    if seed := os.environ.get("FLOW360_TEST_ORDER"):
        random.Random(int(seed)).shuffle(found)
    return found
