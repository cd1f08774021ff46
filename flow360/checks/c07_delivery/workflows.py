"""Exercises 1 and 2: a broken workflow, and one job on three versions."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from typing import Any

from flow360.checks import github
from flow360.checks.c07_delivery.commands import always_content
from flow360.checks.verdict import NotYet, exercise, expect, expect_equal, expect_type, shown
from flow360.delivery import linters

BROKEN = """\
name: delivery
on: push
permissions: {contents: read}
jobs:
  test:
    runs-on: ubuntu-24.04
    timeout: 10
    steps:
      - uses: actions/checkout@v1
      - run: ./scripts/test --only lint --only unit
  publish:
    needs: tests
    runs-on: ubuntu-24.04
    timeout-minutes: 10
    steps:
      - uses: actions/checkout@v4
      - run: ./publish.sh "${{ matrix.version }}"
"""
"""The workflow of the exercise `broken_workflow`."""

GREEN = ("success()", "True", "needs.test.result == 'success'")
"""Conditions that hold whenever the jobs before are green."""
MINUTES, CHECKOUT, SETUP = 30, 5, 6
"""Minutes that a job may take; the oldest versions of actions/checkout and actions/setup-python that are taken."""


def _workflow(name: str, text: Any) -> dict[str, Any]:
    """Read a workflow that its linter has no objection to."""
    expect_type(name, text, str)
    if found := linters.workflow(text):
        raise NotYet(f"{name}: {found[0]}")
    return github.load(text)


def _version(action: Any, of: str) -> int:
    """Read the version of a step's action; 0 where it is another one, or its version is not a number."""
    found = re.fullmatch(rf"{of}@v(\d+)(\.\d+)*", str(action))
    return int(found[1]) if found else 0


@exercise
def broken_workflow(workflow: Any) -> None:
    """Check that the linter is content, and the workflow still says what it was meant to say."""
    mine, meant = _workflow("workflow", workflow), github.load(BROKEN)
    jobs = mine["jobs"]
    expect_equal("workflow", found=sorted(jobs), expected=["publish", "test"], why="these are its jobs")
    needs = jobs["publish"].get("needs")
    expect(
        needs in ("test", ["test"]),
        f"workflow: publish must wait for test, found needs: {needs!r}: it would run beside it",
    )
    for name, job in jobs.items():
        _mended(name, job, meant["jobs"][name])
    argument = str(jobs["publish"]["steps"][1].get("run", ""))
    expect(argument.split()[:1] == ["./publish.sh"], f"workflow: publish must run ./publish.sh, found {argument!r}")
    axes = (jobs["publish"].get("strategy") or {}).get("matrix") or {}
    for axis in re.findall(r"matrix\.(\w+)", argument):
        expect(axis in axes, "workflow: publish still speaks of a matrix that the job does not have")
    _expect_kept(mine, meant)


def _mended(name: str, job: dict[str, Any], meant: dict[str, Any]) -> None:
    minutes = job.get("timeout-minutes", 360)
    expect(
        isinstance(minutes, int | float) and 0 < minutes <= MINUTES,
        f"workflow: {name} may take {minutes} minutes, {MINUTES} are allowed: without the key it is six hours",
    )
    steps = job.get("steps") or []
    why = "mend them, take none away and add none"
    expect_equal(f"workflow: steps of {name}", found=len(steps), expected=len(meant["steps"]), why=why)
    uses = steps[0].get("uses")
    expect(
        _version(uses, "actions/checkout") >= CHECKOUT,
        f"workflow: {name} must begin with actions/checkout@v6, found {uses!r}: "
        "those before v5 are for Node 20, which the runners no longer have",
    )
    for place, step in ((name, job), *((f"a step of {name}", step) for step in steps)):
        if step.get("continue-on-error"):
            raise NotYet(f"workflow: {place} has continue-on-error: what is red would count as green")
        if "if" in step and str(step["if"]).strip("${} ") not in GREEN:
            raise NotYet(
                f"workflow: {place} has if: {step['if']}: each push is tested, and published after a green test"
            )


def _expect_kept(mine: dict[str, Any], meant: dict[str, Any]) -> None:
    """Check that all but what was to be mended is as it was."""
    mine, meant = (_without_the_mended(one) for one in (mine, meant))
    for place, one, other in _places(mine, meant):
        if one != other:
            raise NotYet(f"workflow: {place} was not to change: expected {shown(other)}, found {shown(one)}")


def _without_the_mended(workflow: dict[str, Any]) -> dict[str, Any]:
    found = copy.deepcopy(workflow)
    events = found.get("on")
    # One event as a word, in a list, or with nothing said of it.
    events = [events] if isinstance(events, str) else events
    found["on"] = dict.fromkeys(events) if isinstance(events, list) else events
    for name, job in found["jobs"].items():
        for key in ("timeout", "timeout-minutes", "needs", "name", "if", "continue-on-error"):
            job.pop(key, None)
        if name == "publish":
            job.pop("strategy", None)
            job["steps"][1].pop("run", None)
        job["steps"][0].pop("uses", None)
        if isinstance(job.get("runs-on"), list) and len(job["runs-on"]) == 1:
            job["runs-on"] = job["runs-on"][0]
        for step in job["steps"]:
            for key in ("name", "id", "if", "continue-on-error"):
                step.pop(key, None)
            if "run" in step:
                step["run"] = " ".join(str(step["run"]).split())
    return found


def _places(mine: dict[str, Any], meant: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    found = [(key, mine.get(key), meant.get(key)) for key in sorted({*mine, *meant} - {"jobs", "name"})]
    for job in meant["jobs"]:
        one, other = mine["jobs"][job], meant["jobs"][job]
        found += [(f"{key} of {job}", one.get(key), other.get(key)) for key in sorted({*one, *other})]
    return found


# --- Three versions ---------------------------------------------------------------------------------------------------

PYTHONS = ["3.10", "3.11", "3.9"]


@exercise
def version_matrix(matrix_workflow: Any) -> None:
    """Check three runs of one job, with versions that are text."""
    jobs = _workflow("matrix_workflow", matrix_workflow)["jobs"]
    job = jobs.get("test") or {}
    expect(job, "matrix_workflow: expected a job `test`")
    strategy = job.get("strategy") or {}
    expect(strategy.get("matrix"), "matrix_workflow: the job has no strategy: matrix")
    steps = job.get("steps") or []
    places = [number for number, step in enumerate(steps) if _is_setup(step)]
    expect(
        places,
        "matrix_workflow: no step uses actions/setup-python: the runner's own Python would be tested three times",
    )
    setup = steps[places[0]]
    given = str((setup.get("with") or {}).get("python-version", ""))
    expect("matrix" in given, f"matrix_workflow: setup-python gets {given!r}, not the version of the matrix")
    found = [github.given("matrix_workflow", given, run) for run in github.runs("matrix_workflow", strategy["matrix"])]
    expect_equal(
        "matrix_workflow", found=sorted(found), expected=PYTHONS,
        why="the Pythons of its runs; YAML reads 3.10 as a number, and that number is 3.1",
    )  # fmt: skip
    expect(
        strategy.get("fail-fast") is False,
        "matrix_workflow: the first red run cancels the other two: which key forbids it?",
    )
    expect(
        _version(setup["uses"], "actions/setup-python") >= SETUP,
        f"matrix_workflow: expected actions/setup-python@v6, found {setup['uses']}",
    )
    for place, one in (("the job", job), ("setup-python", setup)):
        expect("if" not in one, f"matrix_workflow: {place} has if: {one.get('if')}: it may be left out in a run")
    expect(not job.get("continue-on-error"), "matrix_workflow: with continue-on-error a red run counts as green")
    tested = [number for number, step in enumerate(steps) if number > places[0] and "pytest" in str(step.get("run"))]
    expect(tested, "matrix_workflow: no step after setup-python runs the tests: nothing is tested on these versions")
    expect(
        any(str(step.get("uses", "")).startswith("actions/checkout@") for step in steps[: tested[0]]),
        "matrix_workflow: no step before the tests fetches the code (actions/checkout): there is nothing to test on "
        "the runner",
    )
    _expect_heard(steps[tested[0]])


def _expect_heard(step: Mapping[str, Any]) -> None:
    """Raise NotYet where red tests leave the run green, or are left out."""
    expect("if" not in step, f"matrix_workflow: the tests have if: {step.get('if')}: they may be left out in a run")
    expect(not step.get("continue-on-error"), "matrix_workflow: with continue-on-error red tests count as green")
    for line in str(step["run"]).splitlines():
        expect(
            "pytest" not in line or not always_content(line, in_a_step=True),
            f"matrix_workflow: `{line}` is green whatever the tests say",
        )


def _is_setup(step: Mapping[str, Any]) -> bool:
    return str(step.get("uses", "")).startswith("actions/setup-python@")
