"""Exercise 1: a DAG with one run for each day in Paris."""

from __future__ import annotations

import ast
from datetime import datetime, timedelta
from typing import Any

from flow360.checks.c03_orchestration.dags import lab_dag
from flow360.checks.draw import clock_changes
from flow360.checks.verdict import exercise, expect, expect_equal
from flow360.orchestration import pipelines
from flow360.primeur.clock import PARIS, bounds

START = datetime.fromisoformat("2026-01-01T00:00+00:00")
YEAR = 2025
"""A year that is over: Airflow computes no backfill of days to come."""
GIVEN = {
    "load_day": "from lab.lab_load import load; return load(data_interval_start, data_interval_end)",
    "check_day": "from lab.lab_load import count; return count(data_interval_start, data_interval_end)",
}
"""What the two tasks do in the lab's own text."""
NEVER = datetime(2126, 1, 1, tzinfo=PARIS)


@exercise
def first_dag(dag_file: Any) -> None:
    """Check lab_reviews: its intervals are days in Paris, also of 23 hours; retries; check_day after load_day."""
    file = lab_dag("dag_file", dag_file, "lab_reviews")
    api = pipelines.clients.airflow()
    about = api.get("/dags/lab_reviews/details").json()
    expect(not about["catchup"], "dag_file: catchup is on: unpaused, it would run for every day since its start")
    start = about["start_date"]
    expect(
        start and datetime.fromisoformat(start) == START,
        f"dag_file: its start date is {start}: leave it as it was",
    )
    _expect_next_interval(about)
    expect(not about["end_date"], f"dag_file: it ends on {about['end_date']}: no day after that would have a run")
    _expect_every_day(api)
    for day in clock_changes(YEAR):
        _expect_whole_day(api, day)
    tasks = {task["task_id"]: task for task in api.get("/dags/lab_reviews/tasks").json()["tasks"]}
    expect_equal("dag_file: its tasks", found=sorted(tasks), expected=["check_day", "load_day"])
    for task in tasks.values():
        expect(task["retries"] >= 1, f"dag_file: {task['task_id']} has no retry")
    after = tasks["load_day"]["downstream_task_ids"]
    expect_equal("dag_file: what comes after load_day", found=after, expected=["check_day"])
    expect(
        all(task["trigger_rule"] == "all_success" for task in tasks.values()),
        "dag_file: check_day would also run when load_day has failed: leave its trigger rule alone",
    )
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.FunctionDef) and node.name in GIVEN:
            same = "; ".join(map(ast.unparse, node.body)) == GIVEN[node.name]
            expect(same, f"dag_file: the task {node.name} does something else now: leave what is in it as it was")


def _expect_next_interval(about: dict[str, Any]) -> None:
    bounds = about["next_dagrun_data_interval_start"], about["next_dagrun_data_interval_end"]
    expect(all(bounds), "dag_file: expected a schedule with one run a day, found none that runs by itself")
    start, end = (datetime.fromisoformat(moment) for moment in bounds)
    expect(
        end > start, "dag_file: the run's interval is empty, from a moment to itself: which timetable has intervals?"
    )
    _expect_interval_of_a_day(start, end)


def _expect_interval_of_a_day(start: datetime, end: datetime) -> None:
    _expect_midnight(start)
    expect(
        end == _next_day(start),
        f"dag_file: expected an interval of one day, found one of {end - start} that begins on {start:%-d %B %Y}",
    )


def _expect_whole_day(api: Any, day: datetime) -> None:
    """Ask for a run on the next morning, which is not due for a century, and take it back: its interval is that day."""
    morning = _next_day(day) + timedelta(hours=8)
    wanted = {"logical_date": morning.isoformat(), "run_after": NEVER.isoformat()}
    run = api.post(pipelines.path("lab_reviews") + "/dagRuns", json=wanted).json()
    api.delete(pipelines.path("lab_reviews", run["dag_run_id"]))
    _expect_interval_of_a_day(*(datetime.fromisoformat(run[f"data_interval_{end}"]) for end in ("start", "end")))


def _expect_every_day(api: Any) -> None:
    """Ask Airflow which runs a backfill of a whole year would have; none is made."""
    first = datetime(YEAR, 1, 1, tzinfo=PARIS)
    window = {"from_date": first.isoformat(), "to_date": datetime(YEAR, 12, 31, 12, tzinfo=PARIS).isoformat()}
    about = {"dag_id": "lab_reviews", "run_backwards": False, "reprocess_behavior": "completed"}
    answer = api.post("/backfills/dry_run", json={**about, **window}).json()
    begins = sorted(datetime.fromisoformat(one["logical_date"]) for one in answer["backfills"])
    for moment in begins:
        _expect_midnight(moment)
    there, day, changing = set(begins), first, clock_changes(YEAR)
    while day.year == YEAR:
        changes = " (the clocks change on that day)" if day in changing else ""
        expect(day in there, f"dag_file: {day:%A %-d %B %Y}{changes} would have no run: each day has one")
        day = _next_day(day)


def _expect_midnight(moment: datetime) -> None:
    local = moment.astimezone(PARIS)
    expect(
        (local.hour, local.minute, local.second) == (0, 0, 0),
        f"dag_file: the interval of {local:%-d %B} begins at {local:%H:%M} in Paris, a day begins at 00:00",
    )


def _next_day(start: datetime) -> datetime:
    return bounds(start.astimezone(PARIS).date())[1]
