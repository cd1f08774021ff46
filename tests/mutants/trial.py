"""All mutants of an exercise (or a sample) against its check, and the account: refused, equivalent, survived."""

from __future__ import annotations

import contextlib
import json
import os
import random
import select
import signal
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from flow360.course.registry import Chapter
from flow360.course.scores import Score
from flow360.errors import FlowError
from flow360.settings import ROOT
from flow360.waiting import patient
from tests.mutants.edits import diff
from tests.mutants.lab import Mutant, Solved, exercises
from tests.mutants.worker import Said

EQUIVALENTS = Path(__file__).with_name("equivalent.toml")
LONGEST = 90  # seconds for one mutant, on an idle machine, before its process is ended
GOAL = 0.95
SHOWN = "could not use it"  # a message that does not say what the learner did


@dataclass(frozen=True)
class Tried:
    """A mutant and what was said to it; `reason` when it is equivalent to the solution."""

    mutant: Mutant
    said: Said
    reason: str = ""

    @property
    def survived(self) -> bool:
        return self.said.verdict == "correct" and not self.reason


@dataclass
class Account:
    """What became of the mutants of one exercise."""

    chapter: str
    exercise: str
    mutants: int
    tried: list[Tried] = field(default_factory=list)

    @property
    def equivalent(self) -> list[Tried]:
        return [one for one in self.tried if one.reason]

    @property
    def survivors(self) -> list[Tried]:
        return [one for one in self.tried if one.survived]

    @property
    def refused(self) -> int:
        return len(self.tried) - len(self.equivalent) - len(self.survivors)

    @property
    def summed(self) -> Score:
        """The counts of those that were tried."""
        return Score(self.mutants, len(self.tried), len(self.equivalent), self.refused)

    @property
    def score(self) -> float:
        """The share of the mutants with another meaning that were refused."""
        return self.summed.share

    def of(self, verdict: str) -> list[Tried]:
        return [one for one in self.tried if one.said.verdict == verdict]


def run(chapter: Chapter, name: str, sample: int | None = None, seed: int = 1) -> Account:
    """Try the mutants of an exercise.

    Args:
        sample: so many of them, drawn from `seed`; all by default.

    Raises:
        FlowError: the solution itself is refused, or there is no such exercise.
    """
    chapter.exercise(name)
    solved = exercises(chapter)[name]
    mutants = solved.mutants()
    account = Account(chapter.number, name, len(mutants))
    if sample is not None and sample < len(mutants):
        mutants = sorted(
            random.Random(f"{seed} {name}").sample(mutants, sample), key=lambda one: (one.cell.id, one.edit)
        )
    with _Worker(chapter, name) as worker:
        solution = worker.ask({})
        if solution.verdict != "correct":
            raise FlowError(
                f"{chapter.number} {name}: the solution itself is refused: {solution.message or solution.verdict}"
            )
        for mutant in mutants:
            said = worker.ask({mutant.cell.id: mutant.source})
            account.tried.append(Tried(mutant, said, _reason(solved, mutant, said, solution)))
    return account


def _reason(solved: Solved, mutant: Mutant, said: Said, solution: Said) -> str:
    """Say why a mutant that was taken means the same as the solution; "" when nothing says so."""
    if said.verdict != "correct":
        return ""
    if said.value is not None and said.value == solution.value:
        return "the same result"
    changed = diff(mutant.cell.source, mutant.source)
    return next((one["reason"] for one in listed(solved.name) if _same(one["diff"], changed)), "")


def _same(one: str, other: str) -> bool:
    return [line.split() for line in one.strip().splitlines()] == [line.split() for line in other.splitlines()]


def listed(name: str) -> list[dict[str, str]]:
    """List the mutants of an exercise that are known to be equivalent: `diff` and `reason` of each."""
    return [one for one in _listed() if one["exercise"] == name]


@cache
def _listed() -> list[dict[str, str]]:
    return tomllib.loads(EQUIVALENTS.read_text("utf-8")).get("mutant", [])


class _Worker:
    """The process that runs mutants; a new one takes over when a mutant has not ended in time."""

    def __init__(self, chapter: Chapter, name: str) -> None:
        self._arguments = (chapter.number, name)
        self._process: subprocess.Popen[str] | None = None
        self._progress = tempfile.NamedTemporaryFile(suffix=".json")  # noqa: SIM115 - closed with the block

    def __enter__(self) -> _Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()
        self._progress.close()

    def ask(self, changed: dict[str, str]) -> Said:
        process = self._process or self._begin()
        process.stdin.write(json.dumps(changed) + "\n")
        process.stdin.flush()
        line = self._line(LONGEST)
        if not line:
            over = process.poll() is not None
            self._end()
            return Said("ended" if over else "too long", "", None, LONGEST)
        return Said(**json.loads(line))

    def _begin(self) -> subprocess.Popen[str]:
        self._trouble = tempfile.TemporaryFile("w+")  # noqa: SIM115 - read when there is no answer
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.mutants.worker", *self._arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._trouble,
            text=True,
            cwd=ROOT,
            env={**os.environ, "FLOW360_PROGRESS": self._progress.name, "PYTHONPATH": str(ROOT)},
            start_new_session=True,
        )
        if self._line(300) != "ready\n":
            self._end()
            self._trouble.seek(0)
            said = self._trouble.read().strip().splitlines()
            raise FlowError(f"the lab's first cell did not run: {said[-1] if said else 'no answer in time'}")
        return self._process

    def _line(self, seconds: float) -> str:
        """Read the next line of the answer; "" when there was none in time, or the process is gone."""
        ready, _, _ = select.select([self._process.stdout], [], [], patient(seconds))
        return self._process.stdout.readline() if ready else ""

    def _end(self) -> None:
        """Let it come to its end, where it stops what a mutant has begun; what does not is ended by force."""
        if self._process:
            self._process.stdin.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(patient(30))
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(20)
            self._process = None


def lines(account: Account) -> Iterator[str]:
    """Write the account as text: one line, then each survivor as a diff, and what a maintainer should look at."""
    slowest = max((one.said.seconds for one in account.tried), default=0.0)
    yield (
        f"{account.chapter} {account.exercise:<18} {account.mutants:>4} mutants, {len(account.tried):>3} tried, "
        f"{account.refused:>3} refused, {len(account.equivalent):>2} equivalent, {len(account.survivors):>2} survived: "
        f"{account.score:.0%}; slowest check {slowest:.1f} s"
    )
    for one in account.survivors:
        yield f"  survived ({one.mutant.edit.operator}, cell {one.mutant.cell.id}):"
        yield from (f"    {line}" for line in diff(one.mutant.cell.source, one.mutant.source).splitlines())
    for verdict in ("broken", "ended", "too long"):
        for one in account.of(verdict):
            yield f"  {verdict}: {one.said.message[:160]}"
            yield from (f"    {line}" for line in diff(one.mutant.cell.source, one.mutant.source).splitlines())
    for one in account.tried:
        if SHOWN in one.said.message:
            yield f"  unclear: {one.said.message[:160]}"
