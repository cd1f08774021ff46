"""Each lesson once more: it meets what its first run (the one by nbval, before) left behind, and does not mind."""

from __future__ import annotations

import pytest

from flow360.course import run
from tests.bundles import under_test
from tests.environment import BUILD, ROOT, left_to_full

# Where a second run at other sizes shows more than one at the same.
LARGER = {"04b": {"scale": 0.3, "cost_gb": [0.1, 0.3, 1.0]}}


@pytest.mark.timeout(1500)
@left_to_full("a second run of each lesson")
@pytest.mark.parametrize("chapter", under_test(), ids=lambda chapter: chapter.stem)
def test_each_lesson_runs_twice(chapter):
    """Fault 10."""
    target = BUILD / "notebooks" / "twice" / f"{chapter.stem}.ipynb"
    run.execute(ROOT / chapter.lesson, target, LARGER.get(chapter.number))
