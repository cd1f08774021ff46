"""Whenever the lake has delivered a day: the warehouse's marts are built and tested, and Prometheus hears of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.sdk import Asset, Metadata, dag, task

day_delivered, marts = Asset("warehouse.lake"), Asset("warehouse.marts")


# [START dag]
@dag(
    schedule=[day_delivered],
    start_date=datetime(2024, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    default_args={
        "retries": 5,
        "retry_delay": timedelta(seconds=5),
        "retry_exponential_backoff": 2.0,  # as in nightly_lake
    },
    tags=["primeur"],
    doc_md=__doc__,
)
def nightly_dbt():
    @task
    def build(triggering_asset_events=None) -> dict:
        from include.connections import database
        from include.transform import build

        events = triggering_asset_events.get(day_delivered, [])
        return build(database("warehouse"), [event.extra["day"] for event in events])

    @task
    def report(built: dict, triggering_asset_events=None) -> None:
        from include.connections import connect, pushgateway
        from include.transform import orders_of, report

        # Several days may have come in since the last run, which answers them all; reported is the one that came last.
        # Somebody who starts this DAG by hand has brought none.
        events = sorted(triggering_asset_events.get(day_delivered, []), key=lambda event: event.timestamp)
        if not events:
            return report(pushgateway(), built)
        last = events[-1].extra
        with connect("warehouse") as db:
            orders = {"lake": last["orders_of_day"], "warehouse": orders_of(db, last["day"])}
        return report(pushgateway(), built, last["day"], orders)

    @task(outlets=[marts])
    def judge(built: dict, triggering_asset_events=None):
        from include.transform import Failed

        if built["failed"]:
            raise Failed("; ".join(built["failed"]))
        events = triggering_asset_events.get(day_delivered, [])
        yield Metadata(marts, {"days": sorted({event.extra["day"] for event in events})})

    # One task for all of dbt, which knows the order of its models itself. What failed is reported before the run fails,
    # and a Pushgateway that is away spoils no mart.
    built = build()
    report(built)
    judge(built)


# [END dag]
nightly_dbt()
