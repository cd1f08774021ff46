"""Each lesson once more: it meets what its first run (the one by nbval, before) left behind, and does not mind."""

from __future__ import annotations

import pytest

from flow360.course import run
from tests.bundles import under_test
from tests.environment import BUILD, ROOT, left_to_full


@pytest.mark.timeout(1500)
@left_to_full("a second run of each lesson")
@pytest.mark.parametrize("chapter", under_test(), ids=lambda chapter: chapter.stem)
def test_each_lesson_runs_twice(chapter):
    """Fault 10."""
    run.execute(ROOT / chapter.lesson, BUILD / "notebooks" / "twice" / f"{chapter.stem}.ipynb")
