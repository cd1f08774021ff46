"""`flow360 goto CHAPTER`: the services as somebody leaves them who did every chapter before that one.

The first time, the solved labs of those chapters run on empty services, and what they leave is kept as a snapshot;
the next time the snapshot is put back. A snapshot is the native engine's: with docker the solved labs run each time.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from flow360 import run
from flow360.course import Chapter, course
from flow360.settings import ROOT, SECRETS, settings
from flow360.stack import snapshot
from flow360.stack.facade import Stack
from flow360.stack.status import Progress


def before(chapter: Chapter) -> list[Chapter]:
    """The chapters to have done before, in order: what course.toml names as `previous`, link by link."""
    found: list[Chapter] = []
    while chapter.previous:
        chapter = course().chapter(chapter.previous)
        found.insert(0, chapter)
    return found


def goto(stack: Stack, chapter: Chapter, progress: Progress, tell: Callable[[str], None]) -> None:
    """Bring the services to the start of a chapter and start those that it needs. What they held is replaced.

    Args:
        stack: whose services; JupyterLab is left alone.
        chapter: where to go.
        progress: told what each service does.
        tell: told in a line what was done, chapter by chapter.

    Raises:
        FlowError: a solved lab failed, or a service did not start; the line says which.
    """
    services = [service.name for service in stack.model.services.values() if not service.host]
    native = stack.engine is stack.host
    wanted = before(chapter)
    kept = [one for one in wanted if native and place(stack, one).exists()]
    if kept:
        stack.down(services, progress)
        snapshot.load(stack.host, place(stack, kept[-1]))
        tell(f"put back what was kept after {kept[-1].stem}")
        wanted = wanted[wanted.index(kept[-1]) + 1 :]
    else:
        stack.reset(services, progress)
    for one in wanted:
        needed = stack.model.closure(one.services)
        stack.down([name for name in services if name not in needed], progress)  # a laptop's memory is not CI's
        _solve(one)
        tell(f"ran {one.solution}")
    if native and wanted:
        stack.down(services, progress)
        _forget(stack, wanted[-1])
        snapshot.save(stack.host, place(stack, wanted[-1]))
        tell(f"kept what there is after {wanted[-1].stem}, for the next time")
    stack.up(chapter.services, progress)


def place(stack: Stack, chapter: Chapter) -> Path:
    """Where the snapshot after a chapter lies: another folder once a solved lab, the stack or a password changes."""
    digest = hashlib.sha256()
    files = [ROOT / one.solution for one in (*before(chapter), chapter)]
    files += [
        path for folder in ("stack", "data/seed") for path in sorted((ROOT / folder).rglob("*")) if path.is_file()
    ]
    for path in files:
        digest.update(path.read_bytes())
    for name in (*SECRETS, "COMPOSE_FILE"):
        digest.update(str(getattr(settings(), name.lower())).encode())
    return stack.host.state / "snapshots" / f"{chapter.stem}-{digest.hexdigest()[:12]}"


def _forget(stack: Stack, chapter: Chapter) -> None:
    """Remove older snapshots after the same chapter: what they were made from is no more."""
    for old in place(stack, chapter).parent.glob(f"{chapter.stem}-*"):
        shutil.rmtree(old)


def _solve(chapter: Chapter) -> None:
    """Run a solved lab; the learner's own progress is not touched."""
    folder = ROOT / "build" / "goto"
    mine = os.environ.get("FLOW360_PROGRESS")
    os.environ["FLOW360_PROGRESS"] = str(folder / "progress.json")  # the kernel inherits it
    try:
        run.execute(ROOT / chapter.solution, folder / f"{chapter.stem}.ipynb")
    finally:
        if mine is None:
            del os.environ["FLOW360_PROGRESS"]
        else:
            os.environ["FLOW360_PROGRESS"] = mine
