"""Each lesson once more: it meets what its first run left behind, and does not mind."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import pytest

from flow360.course import run
from flow360.course.registry import Chapter
from tests.environment import BUILD, ROOT, report_of
from tests.faults.support import report
from tests.lanes import lane_of, under_test


def ran_before(chapter: Chapter) -> bool:
    """Whether the phase `lessons` of this run of the suite has been through it."""
    found = report_of("lessons", lane_of(chapter))
    return found.exists() and any(
        chapter.stem in case.get("classname", "") for case in ElementTree.parse(found).iter("testcase")
    )


@pytest.mark.timeout(1500)
@pytest.mark.parametrize("chapter", under_test(), ids=lambda chapter: chapter.stem)
def test_each_lesson_runs_twice(chapter):
    """Fault 10."""
    before = ran_before(chapter)
    for number in (2,) if before else (1, 2):
        run.execute(ROOT / chapter.lesson, BUILD / "notebooks" / "twice" / f"{chapter.stem}-{number}.ipynb")
    report(f"10 {chapter.stem} twice", runs=2, by_nbval=int(before), failed=0)
