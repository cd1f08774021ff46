"""`flow360 bench`: each figure beside its anchor, from the same interleaved run.

A round runs ours and the anchor once, one after the other; the figure is the ratio of the two, given as minimum, median
and maximum over the rounds. Absolute values say more about the machine than about us.
"""

from __future__ import annotations

import json
import platform
import signal
import statistics
import sys
import time
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

from rich.table import Table

from flow360.bench.measure import Measured, measured
from flow360.errors import Exit, FlowError
from flow360.settings import ensure_env

PACKAGES = ("numpy", "pyarrow", "confluent-kafka", "kafka-python", "psycopg", "tpchgen-cli", "jupyterlab", "nbval")


def main(names: list[str] | None, rounds: int, output: Path | None) -> None:
    """Measure, print the table, keep the JSON."""
    from flow360.bench.figures import FIGURES
    from flow360.stack.console import console, show

    known = {figure.name: figure for figure in FIGURES}
    if unknown := set(names or ()) - set(known):
        raise FlowError(f"there is no figure {min(unknown)!r}: take {', '.join(known)}", Exit.USAGE)
    if output:
        output.parent.mkdir(parents=True, exist_ok=True)  # now: a minute later, there would be figures to lose
    ensure_env()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # on the way out a figure stops the stack that it has started
    found = []
    for name in names or known:
        console.print(f"{name} …")
        found.append(measured(known[name], rounds))
    machine = {
        "machine": f"{platform.machine()}, {_processor()}, Python {platform.python_version()}",
        "packages": {name: version(name) for name in PACKAGES},
        "rounds": rounds,
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    show(_table(found), 132)
    console.print(machine["machine"], soft_wrap=True)
    if output:
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
