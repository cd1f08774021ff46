"""The figure about the notebooks: the way CI runs the lessons, against papermill one by one."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from flow360.bench.measure import Round, run, timer
from flow360.bench.sandbox import engine_of_its_own
from flow360.course.handout import only_whole
from flow360.course.registry import course
from flow360.settings import ROOT


@contextmanager
def suite_over_papermill() -> Iterator[Round]:
    """Compare the seconds of all written lessons in the suite's lanes with papermill, one by one on one stack.

    Both begin with no service and no data, and end with every service stopped.
    """

    only_whole("bench notebooks")

    def program(*words: str) -> None:
        run(words[0], [sys.executable, "-m", *words], 3600, cwd=ROOT)

    def one() -> tuple[float, float]:
        with timer() as lanes:
            program("tests.suite", "--only", "lessons")
        with timer() as papermill, engine_of_its_own():
            for chapter in course().chapters:
                if chapter.written:
                    program("flow360.cli", "run", chapter.number)
        return lanes[0], papermill[0]

    yield one
