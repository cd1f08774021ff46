"""Airflow's tasks, its scheduler and its database die; and thirty-two days with a leap day and a change of the clock.

The DAGs that are broken here are written into dags/lab and load real orders with the pipelines' own functions, into a
table without a key, so that a doubled row would be seen.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator

import psutil
import pytest

from flow360 import clients, lesson
from flow360.errors import FlowError
from flow360.orchestration import pipelines
from tests.environment import left_to_full
from tests.faults.support import kill, ready, recovered, report, until

SERVICES = ("03",)
PARTS = ("airflow-webserver", "airflow-scheduler", "airflow-dag-processor", "airflow-triggerer")
HOURS = [f"2026-05-07T{hour:02}:00Z" for hour in range(8, 16)]

# One hour of orders, a row each 0.2 seconds: slow enough to be killed in the middle. It notes who is at work.
LOAD = '''
from datetime import UTC, datetime, timedelta
from airflow.sdk import CronDataIntervalTimetable, dag, task

# With an end in the past no run starts by itself.
@dag(schedule=CronDataIntervalTimetable("0 * * * *", timezone="UTC"), max_active_runs=8,
     start_date=datetime(2026, 5, 1, tzinfo=UTC), end_date=datetime(2026, 5, 8, tzinfo=UTC),
     default_args={{"retries": 5, "retry_delay": timedelta(seconds=2)}})
def {dag_id}():
    @task
    def load(data_interval_start=None, data_interval_end=None) -> int:
        import os
        from include.connections import connect
        from include.interval import replace_interval

        with connect("warehouse") as db:
            db.execute("insert into staging.{dag_id}_work values (%s, %s, %s)",
                       (data_interval_start, os.getpid(), os.getppid()))
        query = """select order_id, ordered_at from orders
                   where ordered_at >= %(start)s and ordered_at < %(end)s and pg_sleep({pause})::text = ''"""
        with connect("shop") as shop, connect("warehouse") as db:
            return replace_interval(shop, db, query, "staging.{dag_id}", "ordered_at",
                                    data_interval_start, data_interval_end)
    load()

{dag_id}()
'''

# One day in Paris of a table that holds each hour once.
DAYS = """
from airflow.sdk import CronDataIntervalTimetable, dag, task


@dag(schedule=CronDataIntervalTimetable("0 0 * * *", timezone="Europe/Paris"))
def {dag_id}():
    @task
    def load(data_interval_start=None, data_interval_end=None) -> int:
        from include.connections import connect
        from include.interval import replace_interval

        query = "select hour from staging.{dag_id}_source where hour >= %(start)s and hour < %(end)s"
        with connect("warehouse") as source, connect("warehouse") as target:
            return replace_interval(source, target, query, "staging.{dag_id}", "hour",
                                    data_interval_start, data_interval_end)
    load()

{dag_id}()
"""


@pytest.fixture
def dag(started) -> Iterator[Callable[..., str]]:
    """`dag(LOAD, "order_id bigint, ...", pause=0.2)`: a DAG of one's own, read by Airflow, and its empty table."""
    started("postgres-source", "primeur-load", *PARTS)
    made: list[str] = []

    def make(text: str, columns: str, **values: object) -> str:
        name = f"fault_{time.time_ns()}"
        made.append(name)
        with clients.postgres() as db:
            db.execute("create schema if not exists staging")
            db.execute(f"create table staging.{name} ({columns})")
            db.execute(f"create table staging.{name}_work (hour timestamptz, pid int, parent int)")
        file = pipelines.LAB / f"{name}.py"
        file.write_text(text.format(dag_id=name, **values), "utf-8")
        pipelines.await_dag(file)
        return name

    yield make
    started("postgres-dwh", *PARTS)
    pipelines.remove(*made)
    with clients.postgres() as db:
        for name in made:
            db.execute(f"drop table if exists staging.{name}, staging.{name}_work, staging.{name}_source")


def orders_of(dates: list[str]) -> Counter:
    """The orders that the runs of these dates have to bring, from the shop itself."""
    query = "select order_id from orders where ordered_at >= %s::timestamptz - interval '1 hour' and ordered_at < %s"
    return Counter(number for date in dates for number in lesson.sql(query, (date, date), db="source")["order_id"])


def loaded(name: str) -> Counter:
    return Counter(lesson.sql(f"select order_id from staging.{name}")["order_id"])


def at_work(name: str) -> list[tuple[int, int]]:
    """(pid, parent) of the tasks that have begun, in the order of their beginning."""
    rows = lesson.sql(f"select pid, parent from staging.{name}_work order by ctid")
    return list(rows.itertuples(index=False, name=None))


def tries(name: str, run: str) -> int:
    return pipelines.tasks(name, run)[0]["try_number"]


def over(name: str, run: str) -> bool:
    """Is the run over? A part that is away answers later."""
    try:
        return pipelines.run(name, run)["state"] in pipelines.OVER
    except FlowError:
        return False


@pytest.mark.timeout(600)
@pytest.mark.parametrize("victim", ["task", "worker"])
def test_a_task_killed_in_the_middle_of_its_load(dag, victim):
    """Row 15: tried again, and the table is exact; the same interval run three times in all changes nothing.

    `task` kills the process that runs the function, `worker` also the one that watches over it, so that nobody is left
    to tell: the scheduler has to miss its heartbeats.
    """
    name = dag(LOAD, "order_id bigint, ordered_at timestamptz", pause=0.2)
    run = pipelines.start(name, HOURS[-1])
    pid, parent = until(lambda: at_work(name), "the task to begin", 60)[0]
    until(lambda: busy_for(pid) > 1.5, "the load to be under way", 30)
    moment = time.monotonic()
    for number in [pid] if victim == "task" else [parent, pid]:
        psutil.Process(number).kill()
    rows_after_kill = sum(loaded(name).values())
    until(lambda: len(at_work(name)) > 1, "the second try", 150)
    detected = time.monotonic() - moment
    state = pipelines.finish(name, run)
    attempts = tries(name, run)
    truth, first = orders_of([HOURS[-1]]), loaded(name)
    for _ in range(2):
        pipelines.repeat(name, run)
        assert pipelines.finish(name, run) == "success"
    again = loaded(name)
    report(
        f"15 Airflow {victim} killed in a load",
        orders=len(truth),
        rows_at_kill=rows_after_kill,
        attempts=attempts,
        lost=len(truth - first),
        doubled=sum((first - truth).values()),
        after_3_runs_lost=len(truth - again),
        after_3_runs_doubled=sum((again - truth).values()),
        next_try_after=detected,
    )
    assert truth
    assert rows_after_kill == 0, "a transaction that was never committed left rows"
    assert state == "success"
    assert attempts == 2
    assert first == again == truth
    assert pipelines.log(name, run, "load", 1), "the log of the killed try is gone"


def schedulers(since: object) -> int:
    """How many schedulers began after a moment; the last words of the dead one do not count."""
    query = "select count(*) from job where job_type = 'SchedulerJob' and start_date > %s"
    return int(lesson.sql(query, (since,), db="airflow").iat[0, 0])


def busy_for(pid: int) -> float:
    return time.time() - psutil.Process(pid).create_time() if psutil.pid_exists(pid) else 0.0


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "victim", ["alone", pytest.param("with its tasks", marks=left_to_full("the scheduler killed with its tasks"))]
)
def test_the_scheduler_killed_with_runs_queued(stack, dag, victim):
    """Row 17: the state is in the database. Every run comes to its end, once; the hours are exact.

    `alone` leaves its tasks running as orphans, which must not disturb those that are started in their place.
    """
    name = dag(LOAD, "order_id bigint, ordered_at timestamptz", pause=0.1)
    runs = [pipelines.start(name, date) for date in HOURS]
    until(lambda: len(at_work(name)) >= 3, "three tasks to begin", 90)
    before = sum(over(name, run) for run in runs)
    since = lesson.sql("select now()", db="airflow").iat[0, 0]
    if victim == "alone":
        pid, moment = stack.host.pids()["airflow-scheduler"], time.monotonic()
        os.kill(pid, 9)
    else:
        moment = kill(stack, "airflow-scheduler")
    until(lambda: schedulers(since), "a new scheduler to report", 120)
    recovery = time.monotonic() - moment
    states = Counter(pipelines.finish(name, run, 240) for run in runs)
    finished = time.monotonic() - moment
    begun, there = len(at_work(name)), loaded(name)
    truth = orders_of(HOURS)
    known = [run["dag_run_id"] for run in pipelines.runs(name)]
    report(
        f"17 scheduler killed ({victim})",
        runs=len(runs),
        ended_before=before,
        succeeded=states["success"],
        lost_runs=len(set(runs) - set(known)),
        tasks_begun=begun,
        orders=len(truth),
        lost=len(truth - there),
        doubled=sum((there - truth).values()),
        recovery=recovery,
        all_done_after=finished,
    )
    assert before < len(runs), "the kill was to fall into the middle"
    assert states == {"success": len(runs)}
    assert set(runs) <= set(known)
    assert there == truth


@pytest.mark.timeout(600)
def test_a_backfill_over_a_leap_day_and_a_change_of_the_clock(dag):
    """Row 16: 29 February to 31 March 2024 in Paris, 32 days, the last of them with 23 hours."""
    name = dag(DAYS, "hour timestamptz")
    with clients.postgres() as db:
        db.execute(
            f"""create table staging.{name}_source as
                select generate_series(timestamptz '2024-02-25Z', timestamptz '2024-04-05Z', '1 hour') as hour"""
        )
    began = time.monotonic()
    backfill = pipelines.backfill(name, "2024-02-28T23:00Z", "2024-03-30T23:00Z", max_active_runs=8)
    pipelines.await_backfill(backfill)
    seconds = time.monotonic() - began
    runs = lesson.sql(
        """select state, data_interval_start as start, data_interval_end as end from dag_run where backfill_id = %s
           order by data_interval_start""",
        (backfill,),
        db="airflow",
    )
    hours = Counter((runs["end"] - runs["start"]).dt.total_seconds() / 3600)
    gaps = int((runs["start"].iloc[1:].values != runs["end"].iloc[:-1].values).sum())
    found = lesson.sql(
        f"""select (hour at time zone 'Europe/Paris')::date::text as day, count(*) as rows, count(distinct hour) as ids
            from staging.{name} group by day order by day"""
    ).set_index("day")
    wanted = dict.fromkeys(found.index, 24) | {"2024-03-31": 23}
    report(
        "16 backfill over a leap day and the clock's change",
        runs=len(runs),
        succeeded=int((runs["state"] == "success").sum()),
        gaps_or_overlaps=gaps,
        hours=int(found["rows"].sum()),
        lost=sum(wanted.values()) - int(found["ids"].sum()),
        doubled=int((found["rows"] - found["ids"]).sum()),
        seconds=seconds,
    )
    assert len(runs) == len(found) == 32
    assert (runs["state"] == "success").all()
    assert gaps == 0
    assert hours == {24.0: 31, 23.0: 1}
    assert found.index[0] == "2024-02-29"
    assert found.index[-1] == "2024-03-31"
    assert dict(found["rows"]) == dict(found["ids"]) == wanted


@pytest.mark.timeout(600)
def test_the_metadata_away_during_a_run(stack, dag):
    """Row 18: the database that all parts meet in is killed, and stays away for ten seconds. No run fails by it."""
    name = dag(LOAD, "order_id bigint, ordered_at timestamptz", pause=0.1)
    runs = [pipelines.start(name, date) for date in HOURS]
    until(lambda: len(at_work(name)) >= 2, "two tasks to begin", 90)
    moment = kill(stack, "postgres-dwh")
    stack.host.supervisor.stop("postgres-dwh")
    until(lambda: time.monotonic() - moment > 10, "ten seconds", 20)
    stack.host.supervisor.start("postgres-dwh")
    back = recovered(stack, "postgres-dwh", moment)
    for part in PARTS:
        until(lambda part=part: ready(stack, part), f"{part} to be back", 90)
    recovery = time.monotonic() - moment
    until(lambda: all(over(name, run) for run in runs), "all runs to end", 200, pause=1)
    states = Counter(pipelines.run(name, run)["state"] for run in runs)
    truth, there = orders_of(HOURS), loaded(name)
    report(
        "18 metadata away for ten seconds",
        runs=len(runs),
        succeeded=states["success"],
        failed=states["failed"],
        orders=len(truth),
        lost=len(truth - there),
        doubled=sum((there - truth).values()),
        tasks_begun=len(at_work(name)),
        database_back=back,
        all_parts_back=recovery,
    )
    assert states == {"success": len(runs)}
    assert there == truth
