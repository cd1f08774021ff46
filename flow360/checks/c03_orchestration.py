"""Checks of 03_orchestration: each asks Airflow over its API, its metadata, and the tables that its runs wrote."""

from __future__ import annotations

import ast
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from flow360 import clients
from flow360.checks.verdict import NotAttempted, NotYet, exercise, expect, expect_equal, expect_type
from flow360.clients.query import sql
from flow360.errors import FlowError, ServiceError
from flow360.orchestration import pipelines
from flow360.primeur.clock import PARIS

DAYS = [f"2026-05-0{day}" for day in (4, 5, 6, 7, 8)]
MISSING, WRONG = "2026-05-06", "2026-05-08"
"""Days of the five, as exercise 3 finds them."""
PER_DAY = """
    select (written_at at time zone 'Europe/Paris')::date::text as day, count(*) as rows,
           count(distinct review_id) as ids
    from {} where (written_at at time zone 'Europe/Paris')::date::text = any(%s) group by day
"""
DURATIONS = """
    select task_id, count(*) as runs, max(extract(epoch from t.end_date - t.start_date)) as longest,
           percentile_cont(0.5) within group (order by extract(epoch from t.end_date - t.start_date)) as median
    from task_instance t where dag_id = 'lab_history' and state = 'success' group by task_id
"""


def _file(name: str, given: Any) -> Path:
    """The learner's file in dags/lab; NotAttempted while it is missing or still holds a hole."""
    expect_type(name, given, (str, Path))
    file = pipelines.LAB / given
    if not file.is_file():
        raise NotAttempted(f"{name}: dags/lab/{file.name} is not there: run the cell that writes it.")
    try:
        tree = ast.parse(file.read_text("utf-8"))
    except SyntaxError as error:
        raise NotYet(f"{name}: dags/lab/{file.name}, line {error.lineno}: {error.msg}") from None
    types = {id(inner) for node in ast.walk(tree) if isinstance(node, ast.Subscript) for inner in ast.walk(node.slice)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and node.value is Ellipsis and id(node) not in types:
            raise NotAttempted(f"{name}: dags/lab/{file.name} still holds `...` (line {node.lineno}).")
    return file


def _dag(name: str, given: Any, dag_id: str) -> None:
    """Wait until Airflow has read the file as it is, as the DAG of that name."""
    file = _file(name, given)
    expect_equal(name, found=file.stem, expected=dag_id, why="the file has the name of its DAG")
    try:
        pipelines.await_dag(file)
    except FlowError as error:
        raise NotYet(f"{name}: {error}") from None


def _run(name: str, dag_id: str, morning: str, conf: dict | None = None) -> str:
    """Run the DAG on the morning of a day (2026-05-08), whose interval is the day before, and expect it to succeed."""
    run = pipelines.rerun(dag_id, f"{morning}T06:00Z", conf)
    _succeed(name, dag_id, run)
    return run


def _succeed(name: str, dag_id: str, run: str) -> None:
    late = None
    try:
        if pipelines.finish(dag_id, run) == "success":
            return
    except ServiceError:
        raise
    except FlowError as error:
        late = error  # a task that failed and waits to be tried again keeps its run from ending
    failed = [one for one in pipelines.tasks(dag_id, run) if one["state"] in ("failed", "up_for_retry")]
    if not failed:
        raise NotYet(f"{name}: {late or 'the run failed, and none of its tasks did'}")
    said = pipelines.log(dag_id, run, failed[0]["task_id"], failed[0]["try_number"])
    raise NotYet(f"{name}: the task {failed[0]['task_id']} failed: {said[-1] if said else 'it logged nothing'}")


def _reviews(days: list[str]) -> dict[str, tuple[int, int, int]]:
    """For each day: reviews in the shop, rows in staging.lab_reviews, different reviews among these."""
    shop = sql(PER_DAY.format("reviews"), (days,), db="source").set_index("day")["rows"]
    ours = sql(PER_DAY.format("staging.lab_reviews"), (days,)).set_index("day")
    return {
        day: (int(shop[day]), *(int(ours.loc[day, of]) if day in ours.index else 0 for of in ("rows", "ids")))
        for day in days
    }


def _each_once(name: str, days: list[str], after: str) -> None:
    for day, (wanted, rows, ids) in _reviews(days).items():
        expect(ids >= wanted, f"{name}: {after}, {day} has {ids} of its {wanted} reviews: what took the others away?")
        expect(rows == wanted, f"{name}: {after}, {day} has {rows} rows for its {wanted} reviews")


@exercise
def first_dag(dag_file: Any) -> None:
    """lab_reviews: a day in Paris for an interval, retries, check_day after load_day, read by the dag-processor."""
    _dag("dag_file", dag_file, "lab_reviews")
    api = pipelines.clients.airflow()
    about = api.get("/dags/lab_reviews/details").json()
    expect(not about["catchup"], "dag_file: catchup is on: unpaused, it would run for every day since its start")
    bounds = about["next_dagrun_data_interval_start"], about["next_dagrun_data_interval_end"]
    expect(all(bounds), "dag_file: expected a schedule with one run a day, found none that runs by itself")
    start, end = (datetime.fromisoformat(moment) for moment in bounds)
    expect(
        end > start, "dag_file: the run's interval is empty, from a moment to itself: which timetable has intervals?"
    )
    local = start.astimezone(PARIS)
    expect(
        (local.hour, local.minute) == (0, 0),
        f"dag_file: the interval begins at {local:%H:%M} in Paris, a day begins at 00:00",
    )
    whole = (local.replace(tzinfo=None) + timedelta(days=1)).replace(tzinfo=PARIS)
    expect(end == whole, f"dag_file: expected an interval of one day, found one of {end - start}")
    tasks = {task["task_id"]: task for task in api.get("/dags/lab_reviews/tasks").json()["tasks"]}
    expect_equal("dag_file: its tasks", found=sorted(tasks), expected=["check_day", "load_day"])
    for task in tasks.values():
        expect(task["retries"] >= 1, f"dag_file: {task['task_id']} has no retry")
    after = tasks["load_day"]["downstream_task_ids"]
    expect_equal("dag_file: what comes after load_day", found=after, expected=["check_day"])


@exercise
def idempotent_load(load_file: Any) -> None:
    """Runs of lab_reviews for two days, and each of them again, leave each review of both days exactly once."""
    _file("load_file", load_file)
    if pipelines.loaded("lab_reviews") is None:
        raise NotYet("load_file: the DAG lab_reviews is not there: do exercise 1 first")
    days = ["2026-05-06", "2026-05-07"]
    mine = "(written_at at time zone 'Europe/Paris')::date::text = any(%s)"
    with clients.postgres() as db:  # what earlier attempts have left twice is not this load's doing
        db.execute(f"delete from staging.lab_reviews where {mine}", (days,))
    # Neighbours side by side, then each again: what one has left, the other must not take away.
    both = [pipelines.rerun("lab_reviews", f"2026-05-0{morning}T06:00Z") for morning in (7, 8)]
    for run in both:
        _succeed("load_file", "lab_reviews", run)
    _each_once("load_file", days, "after a run for each day")
    for again, morning in (("7 May", "2026-05-08"), ("6 May", "2026-05-07")):
        _run("load_file", "lab_reviews", morning)
        _each_once("load_file", days, f"after {again} was run again")


def as_it_was_left() -> None:
    """Put staging.lab_reviews into the state that the learner finds, one day missing and one wrong, with no run of May.

    The wrong day has as many rows as it should: one of its reviews is there twice, and another is not there.
    """
    if pipelines.loaded("lab_reviews"):
        pipelines.forget("lab_reviews")
    with clients.postgres("source") as shop:
        rows = shop.execute(
            """select review_id, order_id, rating, written_at, (written_at at time zone 'Europe/Paris')::date::text
               from reviews where (written_at at time zone 'Europe/Paris')::date::text = any(%s) order by review_id""",
            (DAYS,),
        ).fetchall()
    wrong = [row for row in rows if row[4] == WRONG]
    left = [row for row in rows if row[4] not in (MISSING, WRONG)] + wrong[:-1] + wrong[:1]
    with clients.postgres() as db, db.cursor() as cursor:
        cursor.execute("truncate staging.lab_reviews")
        cursor.executemany("insert into staging.lab_reviews values (%s, %s, %s, %s)", [row[:4] for row in left])


@exercise
def repaired_days(repaired: Any) -> None:
    """The days that were missing and wrong, each run again with success, the others left alone, all five complete."""
    expect_type("repaired", repaired, (list, tuple))
    named = sorted(map(str, repaired))
    if MISSING in named and WRONG not in named:
        raise NotYet(f"repaired: {MISSING} is one of two; another day has the right number of reviews: the right ones?")
    expect(
        named == [MISSING, WRONG],
        f"repaired: expected the day that was missing and the one that was wrong, found {', '.join(named) or 'none'}",
    )
    runs = sql(
        """select state, (data_interval_start at time zone 'Europe/Paris')::date::text as day
           from dag_run where dag_id = 'lab_reviews' order by data_interval_start""",
        db="airflow",
    )
    if more := sorted(set(runs["day"]) & set(DAYS) - set(named)):
        raise NotYet(
            f"repaired: lab_reviews also ran for {', '.join(more)}, which nobody asked for: run its cells again"
        )
    for day in named:
        states = list(runs.loc[runs["day"] == day, "state"])
        expect(states, f"repaired: {day} has no run of lab_reviews: when, in UTC, does it begin in Paris?")
        expect("success" in states, f"repaired: the run for {day} is {states[-1]}: wait for it, or look at its log")
    _each_once("repaired", DAYS, "after it")


@exercise
def quality_branch(quality_file: Any) -> None:
    """Few bad lines go on with publish, many with hold_back, by the limit of the run."""
    _dag("quality_file", quality_file, "lab_quality")
    tasks = pipelines.clients.airflow().get("/dags/lab_quality/tasks").json()["tasks"]
    names = sorted(task["task_id"] for task in tasks)
    expect_equal("quality_file: its tasks", found=names, expected=["choose", "hold_back", "profile", "publish"])
    pipelines.forget("lab_quality")
    # The run of a morning has the day before; the third one is 7 May again, with another limit.
    cases = [
        ("2026-05-08T06:00Z", {}, "publish", "7 May has 6 % of bad lines, the limit is 10 %"),
        ("2026-05-09T06:00Z", {}, "hold_back", "8 May has 12 % of bad lines, the limit is 10 %"),
        ("2026-05-08T07:00Z", {"limit": 0.01}, "hold_back", "7 May has 6 % of bad lines, the run's own limit is 1 %"),
    ]
    runs = [pipelines.start("lab_quality", moment, conf) for moment, conf, _, _ in cases]
    for (_, _, wanted, why), run in zip(cases, runs, strict=True):
        _succeed("quality_file", "lab_quality", run)
        states = pipelines.states("lab_quality", run)
        ran = [task for task in ("publish", "hold_back") if states[task] == "success"]
        expect(ran == [wanted], f"quality_file: {why}: expected {wanted}, found {' and '.join(ran) or 'neither'}")


@exercise
def slow_task(slow: Any) -> None:
    """The task of lab_history with the longest median duration."""
    expect_type("slow", slow, str)
    tasks = sql(DURATIONS, db="airflow").set_index("task_id")
    if tasks.empty or tasks["runs"].min() < 3:
        raise NotYet("slow: lab_history has not run three times: run the cells above")
    if slow not in tasks.index:
        raise NotYet(f"slow: expected a task_id of lab_history, found {slow!r}")
    worst = tasks["median"].idxmax()
    if slow != worst and slow == tasks["longest"].idxmax():
        raise NotYet(f"slow: {slow} had one bad night; how long does it take as a rule?")
    mine = tasks.loc[slow, "median"]
    expect(slow == worst, f"slow: {slow} takes {mine:.1f} s as a rule, another task takes longer")
