"""Every day, and for any day of the past: how punctual the deliveries of one day in Paris were."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.sdk import CronDataIntervalTimetable, dag, task


# [START dag]
@dag(
    # A day in Paris has 24 hours, but for two days a year: the timetable knows them.
    schedule=CronDataIntervalTimetable("0 0 * * *", timezone="Europe/Paris"),
    start_date=datetime(2024, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=4,
    default_args={"retries": 2, "retry_delay": timedelta(seconds=5)},
    tags=["primeur"],
    doc_md=__doc__,
)
def backfill_deliveries():
    @task
    def load_day(dag_run=None) -> int:
        from include.connections import connect
        from include.deliveries import TABLE, load
        from include.interval import create, interval_of

        start, end = interval_of(dag_run, "day", "Europe/Paris")
        with connect("shop") as shop, connect("warehouse") as warehouse:
            create(warehouse, TABLE)
            return load(shop, warehouse, start, end)

    load_day()


# [END dag]
backfill_deliveries()
