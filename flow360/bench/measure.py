"""What a figure is, how its rounds are measured, and a program's time."""

from __future__ import annotations

import statistics
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flow360.errors import FlowError

Round = Callable[[], tuple[float, float]]
"""Runs once: (ours, anchor) in the figure's unit."""


@dataclass(frozen=True)
class Figure:
    """One figure. `goal` bounds the median ratio, "at least" for rates and "at most" for times; None: no goal."""

    name: str
    what: str
    anchor: str
    unit: str
    goal: float | None
    at_least: bool
    prepare: Callable[[], AbstractContextManager[Round]]


@dataclass(frozen=True)
class Measured:
    """What the rounds gave; ratios are ours / anchor."""

    name: str
    what: str
    anchor: str
    unit: str
    goal: str
    ours: float
    theirs: float
    ratios: list[float]
    met: bool | None


def measured(figure: Figure, rounds: int) -> Measured:
    """Run a figure's rounds. The median decides whether the goal is met."""
    with figure.prepare() as one:
        pairs = [one() for _ in range(rounds)]
    ratios = [ours / anchor for ours, anchor in pairs]
    middle = statistics.median(ratios)
    met, goal = None, ""
    if figure.goal is not None:
        met = middle >= figure.goal if figure.at_least else middle <= figure.goal
        goal = f"{'>=' if figure.at_least else '<='} {figure.goal:g}"
    ours, theirs = (statistics.median(column) for column in zip(*pairs, strict=True))
    return Measured(figure.name, figure.what, figure.anchor, figure.unit, goal, ours, theirs, ratios, met)


def run(name: str, command: Sequence[str | Path], timeout: float, **more: Any) -> float:
    """Run a program to its end; the seconds that it took.

    Args and errors are those of `output`.
    """
    with timer() as took:
        output(name, command, timeout, **more)
    return took[0]


def output(name: str, command: Sequence[str | Path], timeout: float, **more: Any) -> str:
    """Run a program to its end; its standard output.

    Args:
        name: what an error calls it.
        timeout: seconds after which it is ended.
        more: as `subprocess.run` takes it, such as cwd and env.

    Raises:
        FlowError: it failed, and the line ends with its last words; or it did not end in time.
    """
    try:
        done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=timeout, **more)
    except subprocess.TimeoutExpired:
        raise FlowError(f"{name}: it did not end within {timeout:g} s") from None
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines() or ["it said nothing"]
        raise FlowError(f"{name}: {said[-1][:200]}")
    return done.stdout


@contextmanager
def timer() -> Iterator[list[float]]:
    """Measure a block: `with timer() as t: …`; afterwards `t[0]` is the seconds."""
    took: list[float] = []
    start = time.perf_counter()
    yield took
    took.append(time.perf_counter() - start)


def percentile(values: Sequence[float], percent: int) -> float:
    """Give the value that so many percent of them do not exceed."""
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]
