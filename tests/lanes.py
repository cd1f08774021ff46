"""Which tests run side by side: two lanes, each with a stack of its own, cut so that both take about as long.

A chapter keeps to its lane from its answers to its second run, because each run meets what the one before left there.
What is not named in SECOND runs in the first lane.
"""

from __future__ import annotations

import os
import random

from flow360.course.registry import Chapter, course
from tests.environment import LANES, ROOT

BOTH = ("test_answers.py", "test_labs.py", "test_lessons_again.py")  # they go through the lane's chapters
SECOND = {
    "chapters": ("04a", "04b", "04c", "05a", "05b", "07"),
    "files": ("test_dbt.py", "test_spark.py", "test_lake.py", "test_streams.py", "test_up.py", "test_delivery.py"),
}


def lane_of(chapter: Chapter) -> int:
    """The lane in which a chapter's notebooks and answers run."""
    return LANES[1] if chapter.number in SECOND["chapters"] else LANES[0]


def under_test(lane: int | None = None) -> list[Chapter]:
    """The written chapters that a run is about, those of a lane only if one is given here or in FLOW360_TEST_LANE.

    The suite's options come as variables: FLOW360_TEST_CHAPTER is the number of one chapter, FLOW360_TEST_ORDER the
    seed of an order other than the course's.
    """
    lane = lane or int(os.environ.get("FLOW360_TEST_LANE", 0))
    number = os.environ.get("FLOW360_TEST_CHAPTER", "")
    found = [c for c in course().chapters if c.written and c.number.startswith(number) and lane in (0, lane_of(c))]
    if seed := os.environ.get("FLOW360_TEST_ORDER"):
        random.Random(int(seed)).shuffle(found)
    return found


def files(folder: str, lane: int) -> list[str]:
    """A folder's test files that run in a lane."""
    found = []
    for path in sorted((ROOT / folder).glob("test_*.py")):
        own = LANES[1] if path.name in SECOND["files"] else LANES[0]
        if path.name in BOTH or own == lane:
            found.append(str(path.relative_to(ROOT)))
    return found
