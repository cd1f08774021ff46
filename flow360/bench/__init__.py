"""`flow360 bench`: each figure beside its anchor, from the same interleaved run.

A round runs ours and the anchor once, one after the other; the figure is the ratio of the two, given as minimum, median
and maximum over the rounds. Absolute values say more about the machine than about us.
"""

from __future__ import annotations

import json
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.table import Table

from flow360.errors import Exit, FlowError
from flow360.settings import ensure_env

PACKAGES = ("numpy", "pyarrow", "confluent-kafka", "kafka-python", "psycopg", "tpchgen-cli", "jupyterlab", "nbval")


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


def measure(figure: Figure, rounds: int) -> Measured:
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


def main(names: list[str] | None, rounds: int, output: Path | None) -> None:
    """Measure, print the table, keep the JSON."""
    from flow360.bench.figures import FIGURES
    from flow360.console import console

    known = {figure.name: figure for figure in FIGURES}
    if unknown := set(names or ()) - set(known):
        raise FlowError(f"there is no figure {min(unknown)!r}: take {', '.join(known)}", Exit.USAGE)
    ensure_env()
    found = []
    for name in names or known:
        console.print(f"{name} …")
        found.append(measure(known[name], rounds))
    machine = {
        "machine": f"{platform.machine()}, {_processor()}, Python {platform.python_version()}",
        "packages": {name: version(name) for name in PACKAGES},
        "rounds": rounds,
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    console.print(_table(found), width=max(console.width, 132))
    console.print(machine["machine"], soft_wrap=True)
    if output:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(json.dumps({**machine, "figures": [asdict(one) for one in found]}, indent=2) + "\n", "utf-8")


def _table(found: list[Measured]) -> Table:
    table = Table(box=None, header_style="bold")
    for title in ("figure", "ours", "anchor", "unit"):
        table.add_column(title)
    for title in ("min", "median", "max", "goal", "met"):
        table.add_column(title, justify="right")
    for one in found:
        low, middle, high = min(one.ratios), statistics.median(one.ratios), max(one.ratios)
        table.add_row(
            one.what, f"{one.ours:,.3g}", f"{one.anchor}: {one.theirs:,.3g}", one.unit,
            f"{low:.2f}", f"{middle:.2f}", f"{high:.2f}", one.goal, {None: "", True: "yes", False: "no"}[one.met],
        )  # fmt: skip
    return table


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor()
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{len(models)} x {models[0]}" if models else platform.processor()


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
    """`with timer() as t: …`; afterwards `t[0]` is the seconds."""
    took: list[float] = []
    start = time.perf_counter()
    yield took
    took.append(time.perf_counter() - start)
