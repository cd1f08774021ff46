"""Every night: the orders, order lines and deliveries of one day in Paris, from the shop into the lake's raw zone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.sdk import Asset, CronDataIntervalTimetable, Metadata, dag, task

day_in_lake = Asset("lake.raw")


# [START dag]
@dag(
    schedule=CronDataIntervalTimetable("0 0 * * *", timezone="Europe/Paris"),
    start_date=datetime(2024, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,  # two nights that are announced at the same moment would start one run of nightly_dbt, not two
    default_args={"retries": 2, "retry_delay": timedelta(seconds=5)},
    tags=["primeur"],
    doc_md=__doc__,
)
def nightly_lake():
    @task
    def copy(table: str, dag_run=None) -> int:
        from include.connections import connect, lake
        from include.interval import interval_of
        from include.lake import copy_day

        start, end = interval_of(dag_run, "day", "Europe/Paris")
        with connect("shop") as shop:
            return copy_day(shop, lake(), table, start.to_date_string(), start, end)

    @task(outlets=[day_in_lake])
    def announce(written: dict, dag_run=None):
        from include.connections import hive
        from include.interval import interval_of
        from include.lake import announce

        day = interval_of(dag_run, "day", "Europe/Paris")[0].to_date_string()
        with hive() as connection, connection.cursor() as cursor:
            announce(cursor, written, day)
        yield Metadata(day_in_lake, {"day": day, **written})

    tables = ("orders", "order_lines", "deliveries")
    announce({table: copy.override(task_id=f"copy_{table}")(table) for table in tables})


# [END dag]
nightly_lake()
