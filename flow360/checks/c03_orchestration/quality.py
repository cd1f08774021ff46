"""Exercise 4: a branch on the quality of the data."""

from __future__ import annotations

import importlib
import random
import sys
from functools import cache
from types import ModuleType
from typing import Any

from flow360 import clients
from flow360.checks.c03_orchestration.dags import lab_dag, succeed
from flow360.checks.draw import draw
from flow360.checks.verdict import exercise, expect, expect_equal
from flow360.orchestration import pipelines

DAYS = (4, 5, 6, 9, 10)
"""Days of May from which the share at the very limit is drawn."""


@exercise
def quality_branch(quality_file: Any) -> None:
    """Check that few bad lines go on with publish, many with hold_back, by the limit of the run, which is publish's."""
    lab_dag("quality_file", quality_file, "lab_quality")
    tasks = pipelines.clients.airflow().get("/dags/lab_quality/tasks").json()["tasks"]
    names = sorted(task["task_id"] for task in tasks)
    expect_equal("quality_file: its tasks", found=names, expected=["choose", "hold_back", "profile", "publish"])
    pipelines.forget("lab_quality")
    edges, own = _edges(draw()), _shares(7)[0] - 1e-4
    # The run of a morning has the day before; a second one of a day comes an hour later.
    cases = [
        ("2026-05-08T06:00Z", {}, "publish", "7 May has 6 % of bad lines, the limit is 10 %"),
        ("2026-05-09T06:00Z", {}, "hold_back", "8 May has 12 % of bad lines, the limit is 10 %"),
        (
            "2026-05-08T07:00Z",
            {"limit": own},
            "hold_back",
            f"7 May has {own + 1e-4:.2%} of bad lines, the run's own limit is {own:.2%}",
        ),
    ]
    for hour, (day, share) in enumerate(edges, 6):
        why = f"{day} May has {share:.3%} of bad lines, and that is the run's limit"
        cases.append((f"2026-05-{day + 1:02}T{hour:02}:00Z", {"limit": share}, "publish", why))
    runs = [pipelines.start("lab_quality", moment, conf) for moment, conf, _, _ in cases]
    for (_, _, wanted, why), run in zip(cases, runs, strict=True):
        succeed("quality_file", "lab_quality", run)
        states = pipelines.states("lab_quality", run)
        ran = [task for task in ("publish", "hold_back") if states[task] == "success"]
        expect(ran == [wanted], f"quality_file: {why}: expected {wanted}, found {' and '.join(ran) or 'neither'}")


def _edges(chance: random.Random) -> list[tuple[int, float]]:
    """Find for both formulas a day for which it gives the larger float, and that: `<` is wrong by one of them."""
    shares = {day: _shares(day) for day in chance.sample(DAYS, len(DAYS))}
    return [next((day, both[n]) for day, both in shares.items() if both[n] == max(both)) for n in (0, 1)]


def _shares(day: int) -> tuple[float, float]:
    """Compute the share of bad lines of a day of May, by the two formulas that a learner may write."""
    with clients.postgres("source") as shop:
        judged = _quality().judge_day(shop, f"2026-05-{day:02}")
    good, bad = len(judged.good), len(judged.bad)
    return bad / (good + bad), 1 - good / (good + bad)


@cache
def _quality() -> ModuleType:
    """Import `include.quality` as the DAG's task does: with Airflow's path, which has the folder of the DAGs."""
    before = sys.path[:]
    sys.path.insert(0, str(pipelines.DAGS))
    try:
        return importlib.import_module("include.quality")
    finally:
        sys.path[:] = before
