"""Every night: the branches' file of the day is judged, and let into the warehouse if few of its lines are bad."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.sdk import CronDataIntervalTimetable, Param, dag, task


# [START dag]
@dag(
    schedule=CronDataIntervalTimetable("0 0 * * *", timezone="Europe/Paris"),
    start_date=datetime(2024, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=2,
    params={"limit": Param(0.1, type="number", minimum=0, maximum=1, description="the share of bad lines let through")},
    default_args={"retries": 2, "retry_delay": timedelta(seconds=5)},
    tags=["primeur"],
    doc_md=__doc__,
)
def nightly_quality():
    @task
    def profile(dag_run=None) -> dict:
        from include.connections import connect
        from include.interval import create, day_of
        from include.quality import TABLES, judge_day, set_aside

        day = day_of(dag_run)
        with connect("shop") as shop, connect("warehouse") as db:
            create(db, TABLES)
            judged = judge_day(shop, day)
            # The bad lines are kept, whatever becomes of the good ones.
            set_aside(db, day, judged.bad)
        return {"day": day, "share": judged.share, "good": len(judged.good), "defects": judged.defects}

    @task.branch
    def gate(found: dict, params=None) -> str:
        return "publish" if found["share"] <= params["limit"] else "hold_back"

    @task
    def publish(found: dict) -> int:
        from include.connections import connect
        from include.quality import judge_day, let_in

        with connect("shop") as shop, connect("warehouse") as db:
            return let_in(db, found["day"], judge_day(shop, found["day"]).good)

    @task
    def hold_back(found: dict) -> int:
        from include.connections import connect
        from include.quality import let_in

        # An earlier run may have let the day through, with another limit.
        with connect("warehouse") as db:
            return let_in(db, found["day"], [])

    found = profile()
    gate(found) >> [publish(found), hold_back(found)]


# [END dag]
nightly_quality()
