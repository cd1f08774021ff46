"""Everything that `./scripts/test` proves, phase by phase, with what took the time.

    ./scripts/test                      all
    ./scripts/test --only lint --only unit
    ./scripts/test --chapter 02         the notebooks of one chapter (with lint and unit left out)
    ./scripts/test --order random       the chapters shuffled; --order SEED does it again

Executed notebooks, logs and reports are kept under build/test/. Nothing is left running.
"""

from __future__ import annotations

import argparse
import os
import secrets
import shutil
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from flow360 import linters
from tests.chapters import under_test
from tests.environment import BUILD, ROOT, use_test_environment

BIN = Path(sys.executable).parent


@dataclass
class Result:
    """What one phase came to."""

    name: str
    seconds: float = 0.0
    passed: int = 0
    failed: int = 0
    skipped: list[str] = field(default_factory=list)
    slowest: list[tuple[float, str]] = field(default_factory=list)


def command(result: Result, *argv: str | Path) -> None:
    """A program that passes when it exits with 0."""
    done = subprocess.run([str(part) for part in argv], cwd=ROOT, timeout=900)
    if done.returncode:
        result.failed += 1
        print(f"failed: {' '.join(map(str, argv))}", flush=True)
    else:
        result.passed += 1


def pytest(result: Result, *argv: str | Path, timeout: int = 3600) -> None:
    """A pytest run, counted from its own report."""
    report = BUILD / f"{result.name}.xml"
    report.unlink(missing_ok=True)
    options = ["-q", f"--junitxml={report}", "-o", "junit_family=xunit2", "--rootdir", ROOT]
    done = subprocess.run([sys.executable, "-m", "pytest", *map(str, [*options, *argv])], cwd=ROOT, timeout=timeout)
    if not report.exists():
        result.failed += 1
        print(f"failed: {result.name}: pytest wrote no report (exit status {done.returncode})", flush=True)
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
    ran_none = done.returncode == 5 and result.skipped
    if not (done.returncode in (0, 1) or ran_none) or not cases:
        result.failed += 1
        print(f"failed: {result.name}: pytest exit status {done.returncode}, {len(cases)} tests", flush=True)


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
    command(result, BIN / "flow360", "labs", "--check")
    for path in sorted((ROOT / ".github" / "workflows").glob("*.yml")):
        found = linters.workflow(path.read_text("utf-8"))
        print(f"{path.name}: {len(found)} findings ({linters.judge()})", *found, sep="\n  ", flush=True)
        result.passed += not found
        result.failed += bool(found)


def unit(result: Result) -> None:
    pytest(result, "tests/unit")


def goto(result: Result) -> None:
    pytest(result, "tests/goto")


def live(result: Result) -> None:
    pytest(result, "tests/live")


def lessons(result: Result, chapter: str = "") -> None:
    # nbval's own limit is for a cell; ours for the whole run.
    names = [one.lesson for one in under_test() if one.number.startswith(chapter)]
    options = ["--nbval-lax", "--nbval-cell-timeout=300", "--nbval-current-env", "--timeout=600"]
    pytest(result, *options, *names)


def answers(result: Result, chapter: str) -> None:
    pytest(result, "tests/live/test_answers.py", "-k", f"{chapter}-", timeout=3000)


def labs(result: Result, chapter: str = "") -> None:
    pytest(result, "tests/labs", *(["-k", chapter] if chapter else []))


def faults(result: Result) -> None:
    pytest(result, "tests/faults", "-rA", "--show-capture=stdout")


def compose(result: Result) -> None:
    pytest(result, "tests/compose")


def ending(result: Result) -> None:
    """Stop the stack and prove that nothing is left: no process, no listener."""
    command(result, BIN / "flow360", "down", "--engine", "native")
    pytest(result, "tests/ending")


PHASES: dict[str, Callable[..., None]] = {
    "lint": lint,
    "unit": unit,
    "goto": goto,
    "live": live,
    "lessons": lessons,
    "labs": labs,
    "answers": answers,
    "faults": faults,
    "compose": compose,
    "ending": ending,
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="./scripts/test", description=__doc__.splitlines()[0])
    parser.add_argument("--only", action="append", choices=list(PHASES), help="run this phase (may be given again)")
    parser.add_argument("--chapter", default="", help="run the notebooks of one chapter: 02")
    parser.add_argument("--order", type=_order, help="random, or the seed that such a run has printed")
    options = parser.parse_args()
    if options.order:
        os.environ["FLOW360_TEST_ORDER"] = options.order
        print(f"order of the chapters: --order {options.order}", flush=True)
    every = [name for name in PHASES if name != "answers"]  # `live` holds those of all chapters
    wanted = options.only or (["lessons", "labs", "answers", "ending"] if options.chapter else every)
    if not set(wanted) <= {"lint", "unit", "compose", "ending"}:
        wanted = [*dict.fromkeys([*wanted, "ending"])]  # whoever starts services stops them
    shutil.rmtree(BUILD, ignore_errors=True)
    use_test_environment()
    _end_cut_off_run()
    start = time.monotonic()
    results = []
    for name in wanted:
        print(f"\n=== {name} ===", flush=True)
        result = Result(name)
        begin = time.monotonic()
        arguments = {"chapter": options.chapter} if name in ("lessons", "labs", "answers") else {}
        try:
            PHASES[name](result, **arguments)
        except subprocess.TimeoutExpired as error:
            result.failed += 1
            print(f"failed: {name}: not done after {error.timeout:.0f} s", flush=True)
        result.seconds = time.monotonic() - begin
        results.append(result)
    _keep_logs()
    return _report(results, time.monotonic() - start)


def _order(text: str) -> str:
    """The seed in the text, or one that is drawn."""
    return str(secrets.randbelow(10**6) if text == "random" else int(text))


def _end_cut_off_run() -> None:
    """What a run that was cut off left: its services, and databases whose passwords went with its build/test/."""
    state = Path(os.environ["FLOW360_STATE"])
    if state.exists():
        subprocess.run([BIN / "flow360", "down", "--engine", "native"], cwd=ROOT, timeout=300, check=True)
        shutil.rmtree(state)


def _keep_logs() -> None:
    state = Path(os.environ["FLOW360_STATE"])
    if (state / "logs").exists():
        shutil.copytree(state / "logs", BUILD / "logs", dirs_exist_ok=True)
    shutil.rmtree(state, ignore_errors=True)


def _report(results: list[Result], seconds: float) -> int:
    print(f"\n{'phase':<10}{'seconds':>9}{'passed':>8}{'failed':>8}{'skipped':>9}")
    for result in results:
        print(f"{result.name:<10}{result.seconds:>9.1f}{result.passed:>8}{result.failed:>8}{len(result.skipped):>9}")
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
