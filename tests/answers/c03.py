"""Answers of 03_orchestration: DAG files as a learner writes them, out of the solved lab's own text."""

from __future__ import annotations

from datetime import date
from pathlib import PurePosixPath

import nbformat

from flow360 import lesson
from flow360.checks import c03_orchestration as check
from flow360.clients import airflow, postgres
from flow360.orchestration import pipelines
from flow360.settings import ROOT
from tests.answers import last_hint, near_miss, right

CELLS = {
    cell["id"]: cell["source"]
    for cell in nbformat.read(ROOT / "solutions" / "03_orchestration.ipynb", as_version=4).cells
}
TABLE = CELLS["start"].partition('"""')[2].partition('"""')[0]


def write(cell: str, *changes: tuple[str, str]) -> str:
    """Write the file of a cell of the solved lab, with pieces of its text replaced; the file's name."""
    first, _, text = CELLS[cell].partition("\n")
    for old, new in changes:
        assert text.count(old) == 1, f"{cell}: {old!r} is there {text.count(old)} times"
        text = text.replace(old, new)
    file = pipelines.LAB / first.rpartition("/")[2]
    file.write_text(text + "\n", "utf-8")
    return file.name


START = "start_date=datetime(2026, 1, 1, tzinfo=UTC),"
ENDED = (START, f"{START} end_date=datetime(2026, 6, 1, tzinfo=UTC),")
"""A DAG that is over has no run of last night, which would begin in the middle of an answer, and cost each its time."""


def reset(exercise: str) -> None:
    """The lab's table, empty; its DAGs as the solved lab has them, without runs (but for the history)."""
    with postgres() as db:
        db.execute(TABLE)
        db.execute("truncate staging.lab_reviews")
    if exercise in ("idempotent_load", "repaired_days"):
        write("idempotent")
        pipelines.await_dag(write("first-dag", ENDED))
        pipelines.forget("lab_reviews")
    if exercise == "repaired_days":
        check.as_it_was_left()


# --- 1 ----------------------------------------------------------------------------------------------------------------

SCHEDULE = 'CronDataIntervalTimetable("0 0 * * *", timezone="Europe/Paris")'


@right("first_dag", solved=True)
def as_in_the_solution():
    write("given-load")
    return write("first-dag")


@right("first_dag")
def said_in_another_way():
    write("given-load")
    arrow = ("    load_day() >> check_day()", "    check_day().set_upstream(load_day())")
    return write("first-dag", (SCHEDULE, 'CronDataIntervalTimetable("@daily", timezone="Europe/Paris")'), arrow)


@right("first_dag")
def a_path_and_retries_at_each_task():
    write("given-load")
    name = write(
        "first-dag",
        ('    default_args={"retries": 2, "retry_delay": timedelta(seconds=3)},', "    catchup=False,"),
        ("    @task\n    def load_day", "    @task(retries=1)\n    def load_day"),
        ("    @task\n    def check_day", "    @task(retries=5)\n    def check_day"),
        ("load_day() >> check_day()", last_hint("03", "first_dag")[2]),
    )
    return PurePosixPath(name)


@near_miss("first_dag", says="begins at 01:00")
def midnight_in_paris_in_winter():
    return write("first-dag", (SCHEDULE, 'CronDataIntervalTimetable("0 23 * * *", timezone="UTC")'))


@near_miss("first_dag", says="each day has one")
def weekdays_only():
    return write("first-dag", ("0 0 * * *", "0 0 * * 1-5"))


@near_miss("first_dag", says="each day has one")
def days_that_each_month_has():
    return write("first-dag", ("0 0 * * *", "0 0 1-28 * *"))


@near_miss("first_dag", says="29 March begins at 23:00")
def always_twenty_four_hours():
    hours = 'CronTriggerTimetable("0 0 * * *", timezone="Europe/Paris", interval=timedelta(hours=24))'
    return write("first-dag", (SCHEDULE, hours), ("import CronDataInterval", "import CronTrigger"))


@near_miss("first_dag", says="leave it as it was")
def another_start():
    return write("first-dag", ("datetime(2026, 1, 1, tzinfo=UTC)", "datetime(2026, 2, 1, tzinfo=UTC)"))


@near_miss("first_dag", says="no day after that")
def until_the_end_of_the_project():
    return write("first-dag", (START, f"{START} end_date=datetime(2030, 1, 1, tzinfo=UTC),"))


@near_miss("first_dag", says="load_day does something else")
def a_day_has_twenty_four_hours():
    return write(
        "first-dag",
        ("load(data_interval_start, data_interval_end)", "load(data_interval_end - timedelta(1), data_interval_end)"),
    )


@near_miss("first_dag", says="begins at 0")
def midnight_in_utc():
    """01:00 in Paris, or 02:00 in summer."""
    return write("first-dag", ("Europe/Paris", "UTC"))


@near_miss("first_dag", says="from a moment to itself")
def a_plain_cron_line():
    return write("first-dag", (SCHEDULE, '"0 0 * * *"'))


@near_miss("first_dag", says="one day")
def every_week():
    return write("first-dag", ("0 0 * * *", "0 0 * * 1"))


@near_miss("first_dag", says="what comes after load_day")
def no_arrow():
    return write("first-dag", ("load_day() >> check_day()", "load_day()\n    check_day()"))


@near_miss("first_dag", says="no retry")
def a_delay_without_retries():
    return write("first-dag", ('"retries": 2, ', ""))


@near_miss("first_dag", says="cannot be imported")
def a_name_that_does_not_exist():
    return write("first-dag", ("load_day() >> check_day()", "load_days() >> check_day()"))


# --- 2 ----------------------------------------------------------------------------------------------------------------

DELETE = '        warehouse.execute(f"delete from staging.lab_reviews {WITHIN}", (start, end))\n'


@right("idempotent_load", solved=True)
def delete_the_interval_and_insert():
    return write("idempotent")


@near_miss("idempotent_load", says="some of whose rows")
def insert_what_is_missing():
    values = 'executemany("insert into staging.lab_reviews values (%s, %s, %s, %s)", rows)'
    fresh = (
        'executemany("insert into staging.lab_reviews select %s, %s, %s, %s'
        ' where not exists (select from staging.lab_reviews where review_id = %s)", [(*row, row[0]) for row in rows])'
    )
    return write("idempotent", (DELETE, ""), (values, fresh))


DELETED = 'warehouse.execute("delete from staging.lab_reviews where {}", {})'


def deleting(where: str, values: str = "(start, end)") -> str:
    return write("idempotent", (DELETE.strip(), DELETED.format(where, values)))


@right("idempotent_load")
def by_the_last_hint():
    return write("idempotent", (DELETE.strip(), last_hint("03", "idempotent_load")[0]))


@near_miss("idempotent_load", says="other days")
def the_next_midnight_goes_too():
    return deleting("written_at >= %s and written_at <= %s")


@near_miss("idempotent_load", says="other days")
def what_is_older_than_ten_years_goes_too():
    where = "(written_at >= %s and written_at < %s) or written_at < %s::timestamptz - interval '10 years'"
    return deleting(where, "(start, end, start)")


@near_miss("idempotent_load", says="rows for its")
def days_in_utc():
    return deleting("(written_at at time zone 'UTC')::date = %s::date", "(end,)")


@near_miss("idempotent_load", says="some of whose rows")
def a_day_that_is_there_is_done():
    return write("idempotent", (DELETE, "        if count(start, end) >= len(rows):\n            return len(rows)\n"))


@near_miss("idempotent_load", says="rows for its")
def the_load_as_given():
    write("given-load")
    return "lab_load.py"


@near_miss("idempotent_load", says="what took the others away")
def everything_is_deleted_first():
    return write("idempotent", (DELETE, '        warehouse.execute("truncate staging.lab_reviews")\n'))


@near_miss("idempotent_load", says="load_file: after")  # side by side, chance decides whose rows are seen to be gone
def older_rows_go_too():
    return write(
        "idempotent",
        (DELETE, '        warehouse.execute("delete from staging.lab_reviews where written_at < %s", (end,))\n'),
    )


@near_miss("idempotent_load", says="load_file: after")
def newer_rows_go_too():
    return write(
        "idempotent",
        (DELETE, '        warehouse.execute("delete from staging.lab_reviews where written_at >= %s", (start,))\n'),
    )


# --- 3 ----------------------------------------------------------------------------------------------------------------


def loaded(first: str, last: str, wait: bool = True) -> None:
    backfill = pipelines.backfill("lab_reviews", first, last, reprocess_behavior="completed", max_active_runs=4)
    if wait:
        pipelines.await_backfill(backfill)


@right("repaired_days", solved=True)
def two_backfills():
    for midnight in ("2026-05-05T22:00Z", "2026-05-07T22:00Z"):
        loaded(midnight, midnight)
    return ["2026-05-06", "2026-05-08"]


@right("repaired_days")
def two_runs_by_hand():
    for morning in ("2026-05-07T06:00Z", "2026-05-09T06:00Z"):
        pipelines.finish("lab_reviews", pipelines.rerun("lab_reviews", morning))
    return (("2026-05-08", "2026-05-06"),)


@right("repaired_days")
def as_the_last_hint_says():
    (statement,) = (code for code in last_hint("03", "repaired_days") if code.startswith("for "))
    exec(statement, {"midnights": ["2026-05-05T22:00Z", "2026-05-07T22:00Z"], "pipelines": pipelines})
    return [date(2026, 5, 6), date(2026, 5, 8)]


@near_miss("repaired_days", says="the right ones")
def counted_only():
    loaded("2026-05-05T22:00Z", "2026-05-05T22:00Z")
    return ["2026-05-06"]


@near_miss("repaired_days", says="found 2026-05-04")
def the_whole_week():
    return ["2026-05-04", "2026-05-05", "2026-05-06", "2026-05-07", "2026-05-08"]


@near_miss("repaired_days", says="also ran for 2026-05-07")
def three_days_at_once():
    loaded("2026-05-05T22:00Z", "2026-05-07T22:00Z")
    return ["2026-05-06", "2026-05-08"]


@near_miss("repaired_days", says="also ran for 2026-05-09")
def saturday_too():
    for midnight in ("2026-05-05T22:00Z", "2026-05-07T22:00Z", "2026-05-08T22:00Z"):
        loaded(midnight, midnight)
    return ["2026-05-06", "2026-05-08"]


@near_miss("repaired_days", says="has no run")
def named_and_not_run():
    return ["2026-05-06", "2026-05-08"]


@near_miss("repaired_days", says="wait for it")
def without_waiting():
    loaded("2026-05-05T22:00Z", "2026-05-05T22:00Z")
    loaded("2026-05-07T22:00Z", "2026-05-07T22:00Z", wait=False)
    return ["2026-05-06", "2026-05-08"]


@near_miss("repaired_days", says="never ran")
def filled_in_by_hand_and_the_runs_marked():
    days = ["2026-05-06", "2026-05-08"]
    of_days = "(written_at at time zone 'Europe/Paris')::date::text = any(%s)"
    with postgres("source") as shop, postgres() as db:
        read = f"select review_id, order_id, rating, written_at from reviews where {of_days}"
        found = shop.execute(read, (days,)).fetchall()
        db.execute(f"delete from staging.lab_reviews where {of_days}", (days,))
        db.cursor().executemany("insert into staging.lab_reviews values (%s, %s, %s, %s)", found)
    pipelines.pause("lab_reviews")
    runs = pipelines.path("lab_reviews") + "/dagRuns"
    for morning in ("2026-05-07T06:00Z", "2026-05-09T06:00Z"):
        made = airflow().post(runs, json={"logical_date": morning}).json()
        airflow().patch(f"{runs}/{made['dag_run_id']}", json={"state": "success"})
    return days


# --- 4 ----------------------------------------------------------------------------------------------------------------


@right("quality_branch", solved=True)
def a_limit_of_the_run():
    return write("branch")


@right("quality_branch")
def by_the_lines_of_the_last_hint():
    answer, arrows = last_hint("03", "quality_branch")
    given = CELLS["branch"].partition("# BEGIN SOLUTION\n")[2].partition("        # END")[0]
    return write("branch", (given, f"        {answer}\n"), ("choose(profile()) >> [publish, hold_back]", arrows))


@right("quality_branch")
def counted_the_other_way():
    share = ('1 - found["good"] / found["lines"]', '(found["lines"] - found["good"]) / found["lines"]')
    return write(
        "branch",
        share,
        ('"publish" if bad <= params["limit"] else "hold_back"', '["publish", "hold_back"][bad > params["limit"]]'),
    )


@near_miss("quality_branch", says="that is the run's limit")
def at_the_limit_is_too_much():
    return write("branch", ("<=", "<"))


@near_miss("quality_branch", says="that is the run's limit")
def at_the_limit_is_too_much_counted_the_other_way():
    share = ('1 - found["good"] / found["lines"]', '(found["lines"] - found["good"]) / found["lines"]')
    return write("branch", share, ("<=", "<"))


@near_miss("quality_branch", says="the run's own limit is")
def rounded_to_a_percent():
    return write("branch", ('1 - found["good"] / found["lines"]', 'round(1 - found["good"] / found["lines"], 2)'))


@near_miss("quality_branch", says="expected publish, found hold_back")
def the_wrong_way_round():
    return write("branch", ("<=", ">"))


@near_miss("quality_branch", says="the run's own limit is")
def a_limit_in_the_code():
    return write("branch", ('params["limit"]', "0.1"))


@near_miss("quality_branch", says="publish and hold_back")
def both_at_once():
    return write("branch", ("@task.branch", "@task"))


# --- 5 ----------------------------------------------------------------------------------------------------------------


def history(order: str) -> str:
    """The lab's DAG with its three runs, and the task that comes first in some order."""
    if lesson.sql("select count(*) from task_instance where dag_id = 'lab_history'", db="airflow").iat[0, 0] < 9:
        pipelines.await_dag(write("given-history"))
        for run in [pipelines.rerun("lab_history", f"2026-05-0{day}T06:00Z") for day in (5, 6, 7)]:
            pipelines.finish("lab_history", run)
    query = f"""select task_id from task_instance where dag_id = 'lab_history'
                group by task_id order by {order} desc limit 1"""
    return lesson.sql(query, db="airflow").iat[0, 0]


@right("slow_task", solved=True)
def the_highest_median():
    return history("percentile_cont(0.5) within group (order by extract(epoch from end_date - start_date))")


@right("slow_task")
def by_the_summary_of_the_last_hint():
    return history(last_hint("03", "slow_task")[0])


@near_miss("slow_task", says="one bad night")
def the_longest_of_all():
    return history("max(end_date - start_date)")


@near_miss("slow_task", says="one bad night")
def the_average():
    return history("avg(end_date - start_date)")


@near_miss("slow_task", says="another task takes longer")
def the_last_one_to_end():
    """`clean` and `enrich` begin together, so a glance at the page shows both at the end."""
    history("max(end_date)")
    return "clean"


@near_miss("slow_task", says="task_id")
def the_dag_instead():
    history("max(end_date)")
    return "lab_history"


@right("slow_task")
def by_pandas():
    history("max(end_date)")
    runs = lesson.sql("select * from task_instance where dag_id = 'lab_history'", db="airflow")
    return (runs["end_date"] - runs["start_date"]).groupby(runs["task_id"]).median().idxmax()


@near_miss("slow_task", says="with a value in it: which one?")
def all_of_them_the_slowest_first():
    return [history("min(end_date - start_date)"), "fetch", "clean"]


@near_miss("slow_task", says="expected a text")
def how_long_and_not_which():
    history("max(end_date)")
    return 3.0
