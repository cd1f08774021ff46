"""The figure about the notebooks: the way CI runs the lessons, against papermill one by one."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flow360.bench import Round, timer
from flow360.course import course
from flow360.errors import FlowError
from flow360.settings import ROOT
from flow360.stack import open_stack


@contextmanager
def suite_over_papermill() -> Iterator[Round]:
    """Seconds for all written lessons in one nbval session, against papermill in a program of its own for each."""
    written = [chapter for chapter in course().chapters if chapter.written]
    lessons = [ROOT / "notebooks" / f"{chapter.stem}.ipynb" for chapter in written]
    open_stack().up([name for chapter in written for name in chapter.services])

    def run(*command: str | Path) -> None:
        done = subprocess.run(
            [sys.executable, "-m", *map(str, command)], cwd=ROOT, capture_output=True, text=True, timeout=1800
        )
        if done.returncode:
            raise FlowError(f"{command[0]}: {(done.stderr or done.stdout).strip().splitlines()[-1][:200]}")

    def one() -> tuple[float, float]:
        with timer() as ours:
            run("pytest", "-q", "--nbval-lax", "--nbval-current-env", "--nbval-cell-timeout=300", *lessons)
        with timer() as theirs:
            for chapter in written:
                run("flow360.cli", "run", chapter.number)
        return ours[0], theirs[0]

    yield one
