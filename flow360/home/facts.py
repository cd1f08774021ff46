"""What home shows, asked where the command line asks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from logging import Logger
from typing import Any, Generic, TypeVar

from flow360.course.desk import own
from flow360.course.progress import Next, lab_rows, next_exercise
from flow360.course.registry import Chapter, course
from flow360.course.services import resolve, together
from flow360.errors import FlowError
from flow360.monitoring.lineage import graph, journal
from flow360.stack import doctor, open_stack
from flow360.stack.model import model
from flow360.stack.status import ServiceStatus

T = TypeVar("T")
PATIENCE = 0.05
"""Seconds that an answer waits for news; after that it shows what was known before, and the page asks again."""
UP = ("running", "done")


class Kept(Generic[T]):
    """A fact that takes its time to find out: a thread asks again when it is old; until then the last answer holds.

    Attributes:
        value: the last answer; None before the first.
        problem: why there is no new one, in a line; "" when all is well.
    """

    def __init__(self, ask: Callable[[], T], seconds: float, threads: ThreadPoolExecutor, log: Logger) -> None:
        self.value: T | None = None
        self.problem = ""
        self._ask, self._seconds, self._threads, self._log = ask, seconds, threads, log
        self._stale, self._told = True, 0.0
        self._future: Future[None] | None = None

    def asking(self) -> Future[None] | None:
        """Ask again where the last answer is old; what is being found out, None where that is nothing."""
        if self._future and not self._future.done():
            return self._future
        if not self._stale and time.monotonic() - self._told < self._seconds:
            return None
        self._stale = False
        self._future = self._threads.submit(self._find_out)
        return self._future

    def _find_out(self) -> None:
        try:
            self.value, self.problem = self._ask(), ""
        except FlowError as error:
            self.problem = error.message
        except Exception as error:  # noqa: BLE001 - one fact that fails must not take the page along
            self._log.exception("home")
            self.problem = f"{type(error).__name__}: {error} (all of it: flow360 logs jupyterlab)"
        self._told = time.monotonic()

    def forget(self) -> None:
        """Let the next one ask again, whatever the age of the answer, and also after one that is being found out."""
        self._stale = True


@dataclass(frozen=True)
class Running:
    """The services, the engine that runs them, and what some flow360 is doing to them ("" when nothing)."""

    engine: str
    rows: list[ServiceStatus]
    busy: str


def running() -> Running:
    """Ask what `flow360 status --all` shows."""
    stack = open_stack()
    return Running(stack.engine.name, stack.status(), stack.busy())


def findings() -> list[doctor.Finding]:
    """Ask what `flow360 doctor` shows."""
    return doctor.examine(open_stack(), None, together())


def flow() -> list[graph.Edge]:
    """Ask what `flow360 lineage` shows, with the arrows of README's picture that have not moved anything here yet."""
    here = {edge.arrow: edge for edge in graph.edges(journal.read().events)}
    return [here.get(arrow) or graph.Edge(arrow) for arrow in sorted({*here, *graph.recorded()})]


@dataclass(frozen=True)
class Page:
    """A service's own page, and what it takes to sign in."""

    row: ServiceStatus
    user: str
    password: bool


class Facts:
    """All that the page shows, of this server process."""

    def __init__(self, log: Logger, prepare: Callable[[], object] = model) -> None:
        """Begin with what every answer needs and takes a while, the stack's description at least."""
        threads = ThreadPoolExecutor(2, "home")
        self._prepared = threads.submit(prepare)
        self.running = Kept(running, 4, threads, log)
        self.findings = Kept(findings, 60, threads, log)
        self.flow = Kept(flow, 20, threads, log)

    async def settle(self) -> None:
        """Ask what is old, and wait for the news a moment."""
        await asyncio.wait([asyncio.wrap_future(self._prepared)])
        asking = [one for kept in (self.running, self.findings, self.flow) if (one := kept.asking())]
        if asking:
            await asyncio.wait([asyncio.wrap_future(one) for one in asking], timeout=PATIENCE)

    def shown(self, number: str = "") -> dict[str, Any]:
        """Collect what the template draws.

        Args:
            number: of the chapter at hand; by default it is that of the next exercise, and the first when all are done.

        Raises:
            FlowError: there is no such chapter.
        """
        written = [chapter for chapter in course().chapters if chapter.written]
        labs, following, problem = progress()
        chapter = course().chapter(number) if number else following.chapter if following else written[0]
        rows = self.running.value.rows if self.running.value else []
        names = resolve([chapter.number])
        chosen = [row for row in rows if row.name in names]
        return {
            "chapters": [(one, labs.get(one.number)) for one in written],
            "next": following,
            "passed": sum(lab["passed"] for lab in labs.values()),
            "exercises": sum(len(one.exercises) for one in written),
            "minutes_left": sum(lab["minutes_left"] for lab in labs.values()),
            "progress_problem": problem,
            "chapter": chapter,
            "services": chosen,
            "others": [row for row in rows if row not in chosen and row.state not in ("stopped", "done")],
            "memory_mb": sum(row.pss_mb for row in rows),
            "pages": pages(rows),
            "running": self.running,
            "findings": self.findings,
            "flow": self.flow,
            "up": UP,
        }


def progress() -> tuple[dict[str, dict[str, Any]], Next | None, str]:
    """Read the labs by chapter's number, the next exercise, and why neither is known ("" when they are)."""
    try:
        return {row["chapter"]: row for row in lab_rows()}, next_exercise(), ""
    except FlowError as error:
        return {}, None, error.message


def pages(rows: Iterable[ServiceStatus]) -> list[Page]:
    """List the services that have a page of their own."""
    found = []
    for row in rows:
        login = model()[row.name].login
        if row.link:
            found.append(Page(row, login.user if login else "", bool(login)))
    return found


def notebooks(chapter: Chapter) -> list[str]:
    """Name the learner's copies of a chapter's lesson and lab."""
    return [own(chapter.lesson), own(chapter.lab)]
