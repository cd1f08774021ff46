"""Every night: a day of shop, API and files as they came into the lake, cleaned there, and on into the warehouse."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.sdk import Asset, CronDataIntervalTimetable, Metadata, dag, task

day_delivered = Asset("warehouse.lake")


# [START dag]
@dag(
    schedule=CronDataIntervalTimetable("0 0 * * *", timezone="Europe/Paris"),
    start_date=datetime(2024, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,  # two nights that are announced at the same moment would start one run of nightly_dbt, not two
    default_args={
        # 5, 10, 20, 40, 80 seconds at least: a lake, a warehouse or a broker that is away for a minute costs no night.
        "retries": 5,
        "retry_delay": timedelta(seconds=5),
        "retry_exponential_backoff": 2.0,
        "execution_timeout": timedelta(minutes=30),
    },
    tags=["primeur"],
    doc_md=__doc__,
)
def nightly_lake():
    @task
    def take(source: str, dag_run=None) -> dict:
        from include.connections import lake
        from include.interval import day_of
        from include.night import take

        return take(source, lake(), day_of(dag_run), dag_run.run_id)

    @task
    def take_readings() -> int:
        from include.night import take_readings

        return take_readings()

    @task
    def take_changes() -> int:
        from include.night import take_changes

        return take_changes()

    @task
    def clean(dag_run=None) -> list:
        from include.connections import lake
        from include.interval import day_of
        from include.night import clean_day

        return clean_day(lake(), day_of(dag_run))

    @task(outlets=[day_delivered])
    def deliver(dag_run=None):
        from include.connections import connect
        from include.interval import day_of
        from include.night import deliver

        day = day_of(dag_run)
        with connect("warehouse") as db:
            rows = deliver(db, day)
        yield Metadata(day_delivered, {"day": day, **rows})

    [take.override(task_id=f"take_{source}")(source) for source in ("shop", "api", "files")] >> clean() >> deliver()
    # Nothing in the warehouse is made of these two: Kafka may be away, and the night goes on.
    take_readings()
    take_changes()


# [END dag]
nightly_lake()
