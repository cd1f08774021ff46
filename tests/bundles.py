"""What is proved together: a bundle is one run of pytest with the services that it needs.

A chapter's lesson, answers and labs are one, because each meets what the one before left there; so is each file of
tests/live and tests/faults. Such a file names its services in one line, `SERVICES = ("kafka", …)`: services, profiles
or chapters; `started` refuses what is not among them.
"""

from __future__ import annotations

import ast
import json
import os
import random
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from flow360.course.registry import Chapter, course
from flow360.course.services import resolve
from flow360.stack.model import model
from tests.environment import ROOT

TIMES = ROOT / "tests" / "seconds.json"  # what each bundle took when it was last noted
# Seconds for each MB of a service that the bundle before needed, too: about what it would take to stop and start it,
# since the large ones are the slow ones.
KEPT = 0.1
PARTS = {
    "lessons": "{lesson}",
    "answers": "tests/chapters/test_answers.py",
    "mutants": "tests/chapters/test_mutants.py",
    "labs": "tests/chapters/test_labs.py",
    "again": "tests/chapters/test_lessons_again.py",
    "walks": "tests/chapters/test_walks.py",
}
# Airflow reads DAG files out of the checkout (dags/lab): two of it would read each other's.
ALONE = "airflow-dag-processor"


@dataclass(frozen=True)
class Bundle:
    """One run of pytest.

    Attributes:
        name: `chapters/04b`, `faults/spark`, `unit`.
        arguments: pytest's.
        services: all that must run for it, with what these need themselves.
        chapter: the number of the chapter that it is about.
    """

    name: str
    arguments: tuple[str, ...]
    services: frozenset[str] = field(default_factory=frozenset)
    chapter: str = ""

    @property
    def kind(self) -> str:
        return self.name.partition("/")[0]

    @property
    def memory_mb(self) -> int:
        """What its services take at most, as the doctor counts."""
        return sum(model()[name].native.memory_mb for name in self.services)


def under_test() -> list[Chapter]:
    """List the written chapters that this run is about: those whose number begins with FLOW360_TEST_CHAPTER."""
    number = os.environ.get("FLOW360_TEST_CHAPTER", "")
    return [chapter for chapter in course().chapters if chapter.written and chapter.number.startswith(number)]


def chapters(parts: Iterable[str] = PARTS) -> list[Bundle]:
    """Make a bundle for each chapter under test, with these parts of it."""
    wanted = [part for part in PARTS if part in parts]
    found = []
    for chapter in under_test():
        arguments = [PARTS[part].format(lesson=chapter.lesson) for part in wanted]
        lesson = ("--nbval-lax", "--nbval-current-env") if "lessons" in wanted else ()
        found.append(
            Bundle(f"chapters/{chapter.number}", (*lesson, *arguments), _all(chapter.services), chapter.number)
        )
    return found


def files(folder: str, *options: str) -> list[Bundle]:
    """Make a bundle for each test file of a folder."""
    paths = sorted((ROOT / "tests" / folder).glob("test_*.py"))
    return [
        Bundle(
            f"{folder}/{path.stem.removeprefix('test_')}",
            (*options, str(path.relative_to(ROOT))),
            _all(services_of(path)),
        )
        for path in paths
    ]


def services_of(path: Path) -> tuple[str, ...]:
    """Read what a test file says in its line SERVICES, and do not run it, which would take seconds a file.

    Raises:
        ValueError: it has no such line.
    """
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, ast.Assign) and [getattr(target, "id", "") for target in node.targets] == ["SERVICES"]:
            return tuple(ast.literal_eval(node.value))
    raise ValueError(f"{path.name}: say which services it needs: SERVICES = (...)")


def _all(names: Iterable[str]) -> frozenset[str]:
    """Return services with what they need, as far as they run without a container."""
    needed = model().closure(resolve(names))
    return frozenset(name for name in needed if model()[name].native.runs != "compose only")


def all_bundles() -> list[Bundle]:
    """List whatever may run beside another bundle, in no order."""
    shown = ("-rA", "--show-capture=stdout")  # the counts that a fault test prints
    return [
        Bundle("lint", ("tests/lint",)),
        Bundle("unit", ("tests/unit",)),
        *files("goto"),
        *chapters(),
        *files("live"),
        *files("faults", *shown),
    ]


# --- in which order ---------------------------------------------------------------------------------------------------


def last_times(path: Path = TIMES) -> dict[str, float]:
    """Read the seconds of each bundle when they were last noted; {} where there is no such file."""
    return json.loads(path.read_text("utf-8")) if path.exists() else {}


def drawn(names: Iterable[str], seed: int) -> dict[str, float]:
    """Draw times by lot, for a random order."""
    chance = random.Random(seed)
    return {name: chance.uniform(0, 1000) for name in sorted(names)}


def choose(
    waiting: Iterable[Bundle],
    seconds: Mapping[str, float],
    running: frozenset[str] = frozenset(),
    beside: Collection[Bundle] = (),
    room_mb: float = float("inf"),
) -> Bundle | None:
    """Choose the bundle that a lane takes next: the longest, or one nearly as long that finds its services running.

    Args:
        waiting: those that nobody has taken.
        seconds: what each took; one that is not known may be the longest of all, so it goes first.
        running: the services of the lane's last bundle.
        beside: what the other lanes do at the moment.
        room_mb: memory for the services of all.

    Returns:
        None when nothing fits beside the other lanes' bundles: wait until one of them is done.
    """
    others = frozenset().union(*(one.services for one in beside))
    most = room_mb - sum(one.memory_mb for one in beside)
    fit = [one for one in waiting if not (ALONE in one.services & others or (beside and one.memory_mb > most))]

    def worth(one: Bundle) -> tuple[float, str]:
        kept = KEPT * sum(model()[name].native.memory_mb for name in one.services & running)
        return seconds.get(one.name, float("inf")) + kept, one.name

    return max(fit, key=worth, default=None)
