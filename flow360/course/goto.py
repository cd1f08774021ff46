"""`flow360 goto CHAPTER`: the services as somebody leaves them who did every chapter before that one.

The first time, the solved labs of those chapters run on empty services, and what they leave is kept as a snapshot;
the next time the snapshot is put back. A snapshot is the native engine's: with docker the solved labs run each time.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from flow360.course import desk, run
from flow360.course.registry import Chapter, course
from flow360.settings import ROOT, SECRETS, settings, variables
from flow360.stack.facade import Stack
from flow360.stack.native import snapshot
from flow360.stack.status import Progress

GOTO = ROOT / "build" / "goto"
"""Where the solved labs are run, and where the learner's own files wait meanwhile."""

MAKERS = ("dags", "data/seed", "dbt", "flow360", "stack")
"""The folders whose files decide, beside the solved labs, what the services hold."""
NOT_OURS = ("dags/lab", "dbt/lab", "dbt/logs", "dbt/target", "stack/prometheus/learner")
"""The folders below them in which a learner or dbt writes."""


def before(chapter: Chapter) -> list[Chapter]:
    """List the chapters to have done before, in order: what course.toml names as `previous`, link by link."""
    found: list[Chapter] = []
    while chapter.previous:
        chapter = course().chapter(chapter.previous)
        found.insert(0, chapter)
    return found


def goto(stack: Stack, chapter: Chapter, progress: Progress, tell: Callable[[str], None]) -> None:
    """Bring the services to the start of a chapter and start those that it needs. What they held is replaced.

    Args:
        stack: whose services; JupyterLab keeps running, and is started if it does not.
        chapter: where to go.
        progress: hears what each service does.
        tell: hears in a line what was done, chapter by chapter.

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
        _solve(stack, one)
        tell(f"ran {one.solution}")
    if native and wanted:
        stack.down(services, progress)
        _forget(stack, wanted[-1])
        snapshot.save(stack.host, place(stack, wanted[-1]))
        tell(f"kept what there is after {wanted[-1].stem}, for the next time")
    stack.up([*desk.services(), *chapter.services], progress, asked=())


def place(stack: Stack, chapter: Chapter) -> Path:
    """Find where the snapshot after a chapter lies: another folder once what made its data, or a password, changes."""
    digest = hashlib.sha256()
    files = [ROOT / one.solution for one in (*before(chapter), chapter)]
    files += [path for folder in MAKERS for path in sorted((ROOT / folder).rglob("*")) if _makes_data(path)]
    for path in files:
        digest.update(f"{path.relative_to(ROOT)}\n".encode() + path.read_bytes())
    for name in (*SECRETS, "COMPOSE_FILE", "NAMENODE_PORT"):
        digest.update(str(getattr(settings(), name.lower())).encode())
    return stack.host.state / "snapshots" / f"{chapter.stem}-{digest.hexdigest()[:12]}"


def _makes_data(path: Path) -> bool:
    """Say whether it is a file of the course's own. What a learner writes, and Python or dbt leaves, made no data."""
    name = path.relative_to(ROOT)
    hidden = any(part == "__pycache__" or part.startswith(".") for part in name.parts)
    return path.is_file() and not hidden and not any(name.is_relative_to(folder) for folder in NOT_OURS)


def _forget(stack: Stack, chapter: Chapter) -> None:
    """Remove older snapshots after the same chapter: what they were made from is gone."""
    for old in place(stack, chapter).parent.glob(f"{chapter.stem}-*"):
        shutil.rmtree(old)


def _solve(stack: Stack, chapter: Chapter) -> None:
    """Run a solved lab on this very stack; the learner's own answers and progress are not touched."""
    mine = {"FLOW360_PROGRESS": str(GOTO / "progress.json"), "FLOW360_ENGINE": stack.engine.name}
    answers = [ROOT / "dags" / "lab", settings().dbt_dir / "lab", settings().rules_dir]
    with variables(mine), _put_aside(answers, GOTO / "mine"):
        run.execute(ROOT / chapter.solution, GOTO / f"{chapter.stem}.ipynb")


@contextmanager
def _put_aside(folders: list[Path], place: Path) -> Iterator[None]:
    """Keep these folders, whatever happens to them in the block: afterwards they are as they were before.

    Their copies wait in `place`; what a killed run has left there is put back first.
    """
    _put_back(folders, place)
    part = place.with_name(place.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    for number, folder in enumerate(folders):
        if folder.exists():
            shutil.copytree(folder, part / str(number))
    part.replace(place)
    try:
        yield
    finally:
        _put_back(folders, place)


def _put_back(folders: list[Path], place: Path) -> None:
    if not place.exists():
        return
    for number, folder in enumerate(folders):
        shutil.rmtree(folder, ignore_errors=True)
        if (place / str(number)).exists():
            shutil.copytree(place / str(number), folder)
    shutil.rmtree(place)
