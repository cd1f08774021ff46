"""Everything that `./scripts/test` proves, with what took the time.

    ./scripts/test                      each lesson, lab, answer and fault once
    ./scripts/test --full               second runs of the lessons (04b with a longer curve), ten kills, a random order
    ./scripts/test --only lint --only unit      kinds (unit, chapters, lessons, labs, answers, live, faults, …)
    ./scripts/test --only faults/spark  one bundle
    ./scripts/test --chapter 02         one chapter
    ./scripts/test --order random       another order than the longest first; --order SEED does it again
    ./scripts/test --lanes 4            bundles at a time, three by default; what the cores did stands at the end

Three lanes, each with a stack of its own, take bundles (tests/bundles.py) out of one queue, also on two cores: most
tests wait more than they compute. Services that the next bundle needs are kept alive for it, the others are stopped.
In the short depth a test over live services that failed is run once more (three of a bundle at most): it may have met
a chance, and then the report names it as unsteady, with what it said; in the full depth it has failed.
Each line begins with its lane. Executed notebooks, logs and reports are kept under build/test/. At the end nothing is
left running; what a run leaves that was cut off, the next one ends first.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import threading
import time
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from flow360.errors import FlowError
from flow360.files import hold
from flow360.stack.model import model
from flow360.waiting import PATIENCE
from tests import bundles
from tests.bundles import Bundle
from tests.environment import BUILD, DEPTH, LANES, LEFT, ROOT, folder_of, make_lane, slowness
from tests.limits import UNSTEADY

BIN = Path(sys.executable).parent
LONGEST = 1500  # seconds for one bundle on an idle machine; each test in it has a limit of its own
SHOWN = 12  # lines of a failure's message that the report repeats
AGAIN = ("--reruns", "1", "--max-suite-reruns", "3")  # more failures of one bundle are not chance
# One after another, when the queue is done: they look at what all have left, and at the stacks' end.
AFTER = (
    Bundle("leaks", ("-rA", "--show-capture=stdout", "tests/leaks")),
    Bundle("ending", ("tests/ending",)),
    Bundle("compose", ("tests/compose",)),
)


@dataclass
class Result:
    """What one bundle came to, in one lane."""

    bundle: Bundle
    lane: int
    seconds: float = 0.0
    patience: float = 1.0
    passed: int = 0
    failures: list[str] = field(default_factory=list)
    unsteady: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    slowest: list[tuple[float, str]] = field(default_factory=list)

    @property
    def failed(self) -> int:
        return len(self.failures)

    def say(self, text: str) -> None:
        """Print a line on the screen, with the lane that says it."""
        print(f"{self.lane}| {text}", flush=True)

    def fail(self, text: str) -> None:
        """Count a failure that is not a test's."""
        self.failures.append(f"{self.bundle.name}: {text}")
        self.say(f"failed: {self.failures[-1]}")

    def count(self, report: Path) -> int:
        """Count the tests in pytest's own report, and return how many there are."""
        tests, attempts = 0, {}
        for case in ElementTree.parse(report).getroot().iter("testcase"):
            name = f"{case.get('classname')}.{case.get('name')}"
            self.slowest.append((float(case.get("time") or 0), name))
            wrong = next((found for kind in ("failure", "error") if (found := case.find(kind)) is not None), None)
            said = [one.get("value") for one in case.iter("property") if one.get("name") == UNSTEADY]
            tests += not said
            if said:
                attempts[name] = _short(name, said[0])
            elif wrong is not None:
                self.failures.append(_short(name, wrong.get("message") or wrong.text or ""))
            elif (skip := case.find("skipped")) is not None:
                # Of a file that is skipped as a whole, the reason stands in the text.
                whole = skip.get("message") == "collection skipped"
                reason = (skip.text if whole else skip.get("message")) or ""
                if reason.startswith(LEFT):
                    self.left.append(reason)
                else:
                    self.skipped.append(f"{name}: {reason}")
            else:
                self.passed += 1
                self.unsteady += [attempts[name]] if name in attempts else []
        return tests


def _short(name: str, text: str) -> str:
    """Shorten what a test says to its name and its first and last lines: a cell's error stands below its code."""
    lines = re.sub(r"#x1B\[[\d;]*m", "", text).strip().splitlines()  # colours, as they are written into XML
    if len(lines) > SHOWN:
        lines = [*lines[: SHOWN // 2], "…", *lines[-SHOWN // 2 :]]
    return "\n    ".join([name, *lines])


class Programs:
    """What runs now, so that nothing goes on when the suite is interrupted."""

    def __init__(self) -> None:
        self._running: set[subprocess.Popen] = set()
        self._lock = threading.Lock()
        self.over = False

    @contextmanager
    def started(self, argv: Iterable[str | Path], environment: dict[str, str]) -> Iterator[subprocess.Popen]:
        """Start a program in a group of its own, which is ended whole when the block ends before it."""
        with self._lock:
            if self.over:
                raise InterruptedError("the suite was interrupted")
            process = subprocess.Popen(
                [str(part) for part in argv], cwd=ROOT, env={**os.environ, **environment}, start_new_session=True,
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
            )  # fmt: skip
            self._running.add(process)
        try:
            yield process
        finally:
            self.kill(process)
            self._running.discard(process)

    def kill(self, process: subprocess.Popen) -> None:
        """End a program with all that it started, unless it is over."""
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)

    def end(self) -> None:
        """End all, and start nothing from now on."""
        with self._lock:
            self.over = True
            for process in self._running:
                self.kill(process)


PROGRAMS = Programs()


class Lane:
    """A worker with a stack of its own: it runs one bundle after another."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.environment = make_lane(number)
        self.running: frozenset[str] = frozenset()  # what the last bundle left alive
        self.busy: Bundle | None = None

    def run(self, bundle: Bundle) -> Result:
        """Do a bundle; whatever happens, there is a result."""
        patience = slowness()
        result = Result(bundle, self.number, patience=patience)
        result.say(f"=== {bundle.name} ===")
        begin = time.monotonic()
        try:
            if bundle.services:
                self._stop_all_but(bundle.services, result)
            self._pytest(bundle, result)
        except Exception as error:  # noqa: BLE001 - a lane goes on; what happened is counted
            result.fail(f"{type(error).__name__}: {error}")
        result.seconds = time.monotonic() - begin
        return result

    def _stop_all_but(self, needed: frozenset[str], result: Result) -> None:
        idle = [name for name in model().services if name not in needed]
        if idle and (Path(self.environment["FLOW360_STATE"]) / "run").exists():
            status = self._program(result, [BIN / "flow360", "down", "--engine", "native", *idle], {}, 300)
            if status:
                result.fail(f"flow360 down {' '.join(idle)}: exit status {status}")
        self.running = needed

    def _pytest(self, bundle: Bundle, result: Result) -> None:
        report = folder_of(self.number) / f"{bundle.name.replace('/', '-')}.xml"
        options = ["-q", "-p", "tests.limits", f"--junitxml={report}", "-o", "junit_family=xunit2", "--rootdir", ROOT]
        own = {PATIENCE: f"{result.patience:.2f}"}
        if bundle.chapter:
            own["FLOW360_TEST_CHAPTER"] = bundle.chapter
        again = AGAIN if bundle.services and os.environ[DEPTH] != "full" else ()
        argv = [sys.executable, "-m", "pytest", *options, *again, *bundle.arguments]
        status = self._program(result, argv, own, LONGEST * result.patience)
        if status is None:
            return
        if not report.exists():
            result.fail(f"pytest wrote no report (exit status {status})")
            return
        tests = result.count(report)
        # 5 is "no test ran": right where a whole file was skipped, with the reason in the report.
        ran_none = status == 5 and (result.skipped or result.left)
        if not (status in (0, 1) or ran_none) or not tests:
            result.fail(f"pytest exit status {status}, {tests} tests")

    def _program(self, result: Result, argv: list[str | Path], own: dict[str, str], limit: float) -> int | None:
        """Return a program's exit status, its lines shown as they come; None when it was ended at its time limit."""
        with PROGRAMS.started(argv, self.environment | own) as process:
            late = threading.Event()
            timer = threading.Timer(limit, lambda: (late.set(), PROGRAMS.kill(process)))
            timer.start()
            try:
                for line in process.stdout:
                    result.say(line.rstrip("\n"))
                status = process.wait()
            finally:
                timer.cancel()
        if late.is_set():
            result.fail(f"not done after {limit:.0f} s: {' '.join(map(str, argv))}")
            return None
        return status

    def clear(self) -> None:
        """End what a run that was cut off left: its services, and databases whose passwords went with its folder."""
        down = [BIN / "flow360", "down", "--engine", "native"]
        subprocess.run(down, cwd=ROOT, env={**os.environ, **self.environment}, timeout=300, check=True)
        shutil.rmtree(self.environment["FLOW360_STATE"], ignore_errors=True)

    def keep_logs(self) -> None:
        """Put the services' logs beside the reports, and remove the rest of the stack's state."""
        state = Path(self.environment["FLOW360_STATE"])
        if (state / "logs").exists():
            shutil.copytree(state / "logs", folder_of(self.number) / "logs", dirs_exist_ok=True)
        shutil.rmtree(state, ignore_errors=True)


class Queue:
    """The bundles that nobody has taken yet, for all lanes."""

    def __init__(self, waiting: Iterable[Bundle], seconds: dict[str, float], room_mb: float) -> None:
        self._waiting = list(waiting)
        self._seconds, self._room_mb = seconds, room_mb
        self._changed = threading.Condition()

    def work(self, lane: Lane, lanes: list[Lane], results: list[Result]) -> None:
        """Let a lane take and do bundles until none is left."""
        while bundle := self._take(lane, lanes):
            results.append(lane.run(bundle))
            with self._changed:
                lane.busy = None
                self._changed.notify_all()

    def _take(self, lane: Lane, lanes: list[Lane]) -> Bundle | None:
        with self._changed:
            while self._waiting:
                beside = [other.busy for other in lanes if other is not lane and other.busy]
                chosen = bundles.choose(self._waiting, self._seconds, lane.running, beside, self._room_mb)
                if chosen:
                    self._waiting.remove(chosen)
                    lane.busy = chosen
                    return chosen
                self._changed.wait()
        return None


def main() -> int:
    parser = argparse.ArgumentParser(prog="./scripts/test", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--full", action="store_true", help="also second runs of the lessons, more kills, a random order"
    )
    parser.add_argument("--only", action="append", default=[], help="a kind or a bundle (may be given again)")
    parser.add_argument("--chapter", default="", help="one chapter: 02")
    parser.add_argument("--order", type=_order, help="random, or the seed that such a run has printed")
    parser.add_argument("--lanes", type=int, default=len(LANES), choices=range(1, 9), help="bundles at a time")
    options = parser.parse_args()
    os.environ[DEPTH] = "full" if options.full else "short"
    os.environ["FLOW360_TEST_CHAPTER"] = options.chapter
    if not bundles.under_test():
        parser.error(f"--chapter {options.chapter}: no such chapter")
    queue, after = _wanted(options.only, options.chapter, parser)
    seconds = bundles.last_times()
    if options.order is None and options.full:
        options.order = _order("random")
    if options.order is not None:
        print(f"order of the bundles: --order {options.order}", flush=True)
        seconds = bundles.drawn((bundle.name for bundle in queue), options.order)

    BUILD.parent.mkdir(exist_ok=True)
    guard = (BUILD.parent / "test.lock").open("a")  # held until this process ends
    try:
        hold(guard, 0, "./scripts/test is at work in this checkout: wait for it, or take another clone")
    except FlowError as error:
        parser.error(error.message)

    start = time.monotonic()
    shutil.rmtree(BUILD, ignore_errors=True)
    lanes = [Lane(number) for number in range(1, options.lanes + 1)]
    for lane in lanes:
        lane.clear()
    memory = psutil.virtual_memory()
    waiting = Queue(queue, seconds, memory.available / 2**20)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    results: list[Result] = []
    watch = Machine()
    try:
        threads = [threading.Thread(target=waiting.work, args=(lane, lanes, results), daemon=True) for lane in lanes]
        for thread in (watch, *threads):
            thread.start()
        for thread in threads:
            thread.join()
        for bundle in after:
            results += [lane.run(bundle) for lane in (lanes if bundle.name == "ending" else lanes[:1])]
    finally:
        PROGRAMS.end()
    for lane in lanes:
        lane.keep_logs()
    return _report(results, time.monotonic() - start, watch)


def _wanted(only: list[str], chapter: str, parser: argparse.ArgumentParser) -> tuple[list[Bundle], list[Bundle]]:
    """Choose the bundles that were asked for: those of the queue, and those after it."""
    every = bundles.all_bundles()
    queue = [
        one for one in every if {one.name, one.kind} & set(only or ["chapters"] if chapter or only else [one.kind])
    ]
    if parts := [part for part in bundles.PARTS if part in only]:
        queue += bundles.chapters(parts)
    after = [one for one in AFTER if one.name in only or not (only or chapter)]
    known = {*bundles.PARTS, *(name for one in (*every, *AFTER) for name in (one.name, one.kind))}
    if unknown := sorted(set(only) - known):
        parser.error(f"--only {unknown[0]}: there are {', '.join(sorted(known))}")
    if any(one.kind not in ("lint", "unit", "compose") for one in (*queue, *after)):
        after = [one for one in AFTER if one in after or one.name == "ending"]  # whoever starts services stops them
    return queue, after


def _order(text: str) -> int:
    """Read a seed: the one given, or, for `random`, one that is drawn."""
    return secrets.randbelow(10**6) if text == "random" else int(text)


class Machine(threading.Thread):
    """Looks at what the run takes of the machine: every two seconds at its memory, at the end at its cores."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._first = self._least = psutil.virtual_memory().available
        self._began = psutil.cpu_times()

    @property
    def most_gb(self) -> float:
        """The most that was in use at once, less what was in use at the beginning."""
        return (self._first - self._least) / 2**30

    @property
    def busy(self) -> float:
        """The share of the cores' time that was used, by whomever, since the beginning: 0 to 1."""
        spent = [now - then for now, then in zip(psutil.cpu_times(), self._began, strict=True)]
        by_kind = dict(zip(self._began._fields, spent, strict=True))
        whole = sum(by_kind.values()) - by_kind.get("guest", 0) - by_kind.get("guest_nice", 0)  # user has these, too
        return 1 - (by_kind["idle"] + by_kind.get("iowait", 0)) / whole

    def run(self) -> None:
        while not PROGRAMS.over:
            self._least = min(self._least, psutil.virtual_memory().available)
            threading.Event().wait(2)


def _report(results: list[Result], seconds: float, machine: Machine) -> int:
    print(f"\n{'lane':<6}{'bundle':<24}{'seconds':>9}{'slowness':>10}{'passed':>8}{'failed':>8}{'skipped':>9}")
    for one in sorted(results, key=lambda result: -result.seconds):
        counts = f"{one.passed:>8}{one.failed:>8}{len(one.skipped):>9}"
        print(f"{one.lane:<6}{one.bundle.name:<24}{one.seconds:>9.1f}{one.patience:>10.1f}{counts}")
    slowest = sorted((one for result in results for one in result.slowest), reverse=True)[:15]
    print("\nwhat took the time:")
    for took, name in slowest:
        print(f"{took:>8.1f} s  {name}")
    left = Counter(reason for result in results for reason in result.left)
    for reason, count in sorted(left.items()):
        print(f"\n{reason} ({count} tests, not counted as passed)")
    skipped = [line for result in results for line in result.skipped]
    if skipped:
        print("\nskipped:")
        for line in skipped:
            print(f"  {line}")
    times = {one.bundle.name: round(one.seconds) for one in results if one.bundle.kind not in ("leaks", "ending")}
    (BUILD / bundles.TIMES.name).write_text(json.dumps(times, indent=1, sort_keys=True) + "\n", "utf-8")
    passed, failed = sum(r.passed for r in results), sum(r.failed for r in results)
    worked = sum(one.seconds for one in results)
    unsteady = [line for result in results for line in result.unsteady]
    for line in unsteady:
        print(f"\nunsteady, failed and then passed: {line}")
    # Last, because a log that was cut off keeps its end.
    for failure in (failure for result in results for failure in result.failures):
        print(f"\nfailed: {failure}")
    length = f"{seconds / 60:.1f} minutes ({worked:.0f} lane-seconds)"
    print(f"\nin {length}, cores {machine.busy:.0%} busy, {machine.most_gb:.1f} GB of memory at most")
    print(f"reports and executed notebooks: {BUILD}")
    again = f" ({len(unsteady)} of them when run again)" if unsteady else ""
    print(f"{passed} passed{again}, {failed} failed, {len(skipped)} skipped, {left.total()} left to --full")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
