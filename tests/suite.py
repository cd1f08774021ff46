"""Everything that `./scripts/test` proves, phase by phase, with what took the time.

    ./scripts/test                      all
    ./scripts/test --only lint --only unit
    ./scripts/test --chapter 02         the notebooks of one chapter (with lint and unit left out)
    ./scripts/test --order random       the chapters shuffled; --order SEED does it again

Two lanes run side by side (tests/lanes.py), each on a stack of its own: most tests wait more than they compute. Each
line begins with its lane. Executed notebooks, logs and reports are kept under build/test/. At its end
nothing is left running; what a run leaves that was cut off, the next one ends first.
"""

from __future__ import annotations

import argparse
import os
import secrets
import shutil
import signal
import subprocess
import sys
import threading
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from flow360.delivery import linters
from tests.environment import BUILD, LANES, ROOT, folder_of, make_lane, report_of
from tests.lanes import files, under_test

BIN = Path(sys.executable).parent


@dataclass
class Result:
    """What one phase came to, in one lane."""

    name: str
    lane: int
    environment: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    passed: int = 0
    failed: int = 0
    skipped: list[str] = field(default_factory=list)
    slowest: list[tuple[float, str]] = field(default_factory=list)

    def say(self, text: str) -> None:
        """A line on the screen, with the lane that says it."""
        print(f"{self.lane}| {text}", flush=True)

    def fail(self, text: str) -> None:
        self.failed += 1
        self.say(f"failed: {self.name}: {text}")


class Programs:
    """What runs now, so that nothing goes on when the suite is interrupted."""

    def __init__(self) -> None:
        self._running: set[subprocess.Popen] = set()
        self._lock = threading.Lock()
        self.over = False

    @contextmanager
    def started(self, argv: list[str], environment: dict[str, str]) -> Iterator[subprocess.Popen]:
        """A program in a group of its own, which is ended whole when the block ends before it."""
        with self._lock:
            if self.over:
                raise InterruptedError("the suite was interrupted")
            process = subprocess.Popen(
                argv, cwd=ROOT, env={**os.environ, **environment}, start_new_session=True, stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
            )  # fmt: skip
            self._running.add(process)
        try:
            yield process
        finally:
            self.kill(process)
            self._running.discard(process)

    def kill(self, process: subprocess.Popen) -> None:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)

    def end(self) -> None:
        with self._lock:
            self.over = True
            for process in self._running:
                self.kill(process)


PROGRAMS = Programs()


def run(result: Result, *argv: str | Path, timeout: int) -> int | None:
    """A program's exit status, its lines shown as they come; None when it was ended at its time limit."""
    words = [str(part) for part in argv]
    with PROGRAMS.started(words, result.environment) as process:
        late = threading.Event()
        timer = threading.Timer(timeout, lambda: (late.set(), PROGRAMS.kill(process)))
        timer.start()
        try:
            for line in process.stdout:
                result.say(line.rstrip("\n"))
            status = process.wait()
        finally:
            timer.cancel()
    if late.is_set():
        result.fail(f"not done after {timeout} s: {' '.join(words)}")
        return None
    return status


def command(result: Result, *argv: str | Path) -> None:
    """A program that passes when it exits with 0."""
    status = run(result, *argv, timeout=900)
    if status == 0:
        result.passed += 1
    elif status:
        result.fail(" ".join(map(str, argv)))


def pytest(result: Result, *argv: str | Path, timeout: int = 3000) -> None:
    """A pytest run, counted from its own report."""
    report = report_of(result.name, result.lane)
    options = ["-q", f"--junitxml={report}", "-o", "junit_family=xunit2", "--rootdir", ROOT]
    status = run(result, sys.executable, "-m", "pytest", *options, *argv, timeout=timeout)
    if status is None:
        return
    if not report.exists():
        result.fail(f"pytest wrote no report (exit status {status})")
        return
    cases = list(ElementTree.parse(report).getroot().iter("testcase"))
    for case in cases:
        name = f"{case.get('classname')}.{case.get('name')}"
        result.slowest.append((float(case.get("time") or 0), name))
        if case.find("failure") is not None or case.find("error") is not None:
            result.failed += 1
        elif (skip := case.find("skipped")) is not None:
            # Of a file that is skipped as a whole, the reason stands in the text.
            whole = skip.get("message") == "collection skipped"
            result.skipped.append(f"{name}: {skip.text if whole else skip.get('message')}")
        else:
            result.passed += 1
    # 5 is "no test ran": right where a whole file was skipped, with the reason in the report.
    ran_none = status == 5 and result.skipped
    if not (status in (0, 1) or ran_none) or not cases:
        result.fail(f"pytest exit status {status}, {len(cases)} tests")


# --- the phases -------------------------------------------------------------------------------------------------------


def lint(result: Result) -> None:
    command(result, BIN / "ruff", "check", ".")
    command(result, BIN / "ruff", "format", "--check", ".")
    command(
        result,
        BIN / "shellcheck",
        *sorted((ROOT / "scripts").iterdir()),
        *sorted((ROOT / "stack").rglob("*.sh")),
        ROOT / ".ci" / "run",
    )
    command(result, BIN / "hadolint", *sorted((ROOT / "stack" / "images").glob("*Dockerfile*")))
    command(result, BIN / "flow360", "generate", "--check")
    for path in sorted((ROOT / ".github" / "workflows").glob("*.yml")):
        found = linters.workflow(path.read_text("utf-8"))
        for line in (f"{path.name}: {len(found)} findings ({linters.judge()})", *found):
            result.say(line)
        result.passed += not found
        result.failed += bool(found)


def unit(result: Result) -> None:
    pytest(result, "tests/unit")


def goto(result: Result) -> None:
    pytest(result, "tests/goto")


def live(result: Result) -> None:
    pytest(result, *files("tests/live", result.lane))


def lessons(result: Result) -> None:
    # nbval's own limit is for a cell; ours for the whole run.
    options = ["--nbval-lax", "--nbval-cell-timeout=300", "--nbval-current-env", "--timeout=600"]
    pytest(result, *options, *(chapter.lesson for chapter in under_test(result.lane)))


def answers(result: Result) -> None:
    pytest(result, "tests/live/test_answers.py")


def labs(result: Result) -> None:
    pytest(result, "tests/labs")


def faults(result: Result) -> None:
    pytest(result, "-rA", "--show-capture=stdout", *files("tests/faults", result.lane))


def leaks(result: Result) -> None:
    pytest(result, "-rA", "--show-capture=stdout", "tests/leaks")


def compose(result: Result) -> None:
    pytest(result, "tests/compose")


def ending(result: Result) -> None:
    """Stop the lane's stack and prove that nothing is left: no process, no listener."""
    command(result, BIN / "flow360", "down", "--engine", "native")
    pytest(result, "tests/ending")


@dataclass(frozen=True)
class Phase:
    """What is done, and in which lanes."""

    do: Callable[[Result], None]
    lanes: tuple[int, ...] = LANES


# The phases of a stage follow each other in their lanes; a stage begins when both lanes have ended the one before.
STAGES: tuple[dict[str, Phase], ...] = (
    {"lint": Phase(lint, (1,))},
    {
        "unit": Phase(unit, (2,)),
        "goto": Phase(goto, (1,)),
        "live": Phase(live),
        "lessons": Phase(lessons),
        "answers": Phase(answers),
        "labs": Phase(labs),
        "faults": Phase(faults),
    },
    {"leaks": Phase(leaks, (1,))},  # of both lanes
    {"ending": Phase(ending)},
    {"compose": Phase(compose, (1,))},
)
NAMES = [name for stage in STAGES for name in stage]
WITHOUT_SERVICES = {"lint", "unit", "compose"}


def main() -> int:
    parser = argparse.ArgumentParser(prog="./scripts/test", description=__doc__.splitlines()[0])
    parser.add_argument("--only", action="append", choices=NAMES, help="run this phase (may be given again)")
    parser.add_argument("--chapter", default="", help="run the notebooks of one chapter: 02")
    parser.add_argument("--order", type=_order, help="random, or the seed that such a run has printed")
    options = parser.parse_args()
    if options.order:
        os.environ["FLOW360_TEST_ORDER"] = options.order
        print(f"order of the chapters: --order {options.order}", flush=True)
    os.environ["FLOW360_TEST_CHAPTER"] = options.chapter
    if not under_test():
        parser.error(f"--chapter {options.chapter}: no such chapter")
    lanes = [lane for lane in LANES if under_test(lane)]
    every = [name for name in NAMES if name != "answers"]  # `live` holds them
    wanted = set(options.only or (["lessons", "labs", "answers", "ending"] if options.chapter else every))
    if not wanted <= WITHOUT_SERVICES:
        wanted.add("ending")  # whoever starts services stops them
    start = time.monotonic()
    shutil.rmtree(BUILD, ignore_errors=True)
    environments = {lane: make_lane(lane) | {"FLOW360_TEST_LANE": str(lane)} for lane in LANES}
    for environment in environments.values():
        _end_cut_off_run(environment)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    results: list[Result] = []
    try:
        for stage in STAGES:
            threads = []
            for lane in lanes:
                mine = [
                    (Result(name, lane, environments[lane]), phase)
                    for name, phase in stage.items()
                    if name in wanted and lane in (phase.lanes if len(lanes) > 1 else lanes)
                ]
                results += [result for result, _ in mine]
                threads.append(threading.Thread(target=_lane, args=(mine,), daemon=True))
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
    finally:
        PROGRAMS.end()
    for lane, environment in environments.items():
        _keep_logs(lane, environment)
    return _report(results, time.monotonic() - start)


def _lane(phases: list[tuple[Result, Phase]]) -> None:
    for result, phase in phases:
        result.say(f"=== {result.name} ===")
        begin = time.monotonic()
        try:
            phase.do(result)
        except InterruptedError as error:
            result.fail(str(error))
        except Exception as error:  # noqa: BLE001 - a phase that breaks must not take the others, or its failure, with it
            result.fail(f"{type(error).__name__}: {error}")
        if not (result.passed or result.failed or result.skipped):
            result.fail("it proved nothing: no test ran")
        result.seconds = time.monotonic() - begin


def _order(text: str) -> str:
    """The seed in the text, or one that is drawn."""
    return str(secrets.randbelow(10**6) if text == "random" else int(text))


def _end_cut_off_run(environment: dict[str, str]) -> None:
    """What a run that was cut off left: its services, and databases whose passwords went with its build/test/."""
    down = [BIN / "flow360", "down", "--engine", "native"]
    subprocess.run(down, cwd=ROOT, env={**os.environ, **environment}, timeout=300, check=True)
    shutil.rmtree(environment["FLOW360_STATE"], ignore_errors=True)


def _keep_logs(lane: int, environment: dict[str, str]) -> None:
    state = Path(environment["FLOW360_STATE"])
    if (state / "logs").exists():
        shutil.copytree(state / "logs", folder_of(lane) / "logs", dirs_exist_ok=True)
    shutil.rmtree(state, ignore_errors=True)


def _report(results: list[Result], seconds: float) -> int:
    print(f"\nlane  {'phase':<10}{'seconds':>9}{'passed':>8}{'failed':>8}{'skipped':>9}")
    for one in sorted(results, key=lambda result: result.lane):
        counts = f"{one.passed:>8}{one.failed:>8}{len(one.skipped):>9}"
        print(f"{one.lane:<6}{one.name:<10}{one.seconds:>9.1f}{counts}")
    slowest = sorted((one for result in results for one in result.slowest), reverse=True)[:10]
    print("\nwhat took the time:")
    for took, name in slowest:
        print(f"{took:>8.1f} s  {name}")
    skipped = [line for result in results for line in result.skipped]
    if skipped:
        print("\nskipped:")
        for line in skipped:
            print(f"  {line}")
    passed, failed = sum(r.passed for r in results), sum(r.failed for r in results)
    print(f"\nin {seconds / 60:.1f} minutes; reports and executed notebooks: {BUILD}")
    print(f"{passed} passed, {failed} failed, {len(skipped)} skipped")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
