"""The figure about the notebooks: the way CI runs the lessons, against papermill one by one."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flow360.bench import Round, run
from flow360.course import course
from flow360.settings import ROOT
from flow360.stack import open_stack


@contextmanager
def suite_over_papermill() -> Iterator[Round]:
    """Seconds for all written lessons in one nbval session, against papermill in a program of its own for each."""
    written = [chapter for chapter in course().chapters if chapter.written]
    lessons = [ROOT / "notebooks" / f"{chapter.stem}.ipynb" for chapter in written]
    open_stack().up([name for chapter in written for name in chapter.services])

    def module(name: str, *arguments: str | Path) -> float:
        return run(name, [sys.executable, "-m", name, *arguments], 1800, cwd=ROOT)

    def one() -> tuple[float, float]:
        ours = module("pytest", "-q", "--nbval-lax", "--nbval-current-env", "--nbval-cell-timeout=300", *lessons)
        return ours, sum(module("flow360.cli", "run", chapter.number) for chapter in written)

    yield one
