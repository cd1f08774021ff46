"""Whenever the marts were built: the days that had come in are compared in every layer, from the shop to the mart."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.sdk import Asset, dag, task

marts = Asset("warehouse.marts")


# [START dag]
@dag(
    schedule=[marts],
    start_date=datetime(2024, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    default_args={
        "retries": 5,
        "retry_delay": timedelta(seconds=5),
        "retry_exponential_backoff": 2.0,  # as in nightly_lake
        "execution_timeout": timedelta(minutes=10),
    },
    tags=["primeur"],
    doc_md=__doc__,
)
def reconciliation():
    @task
    def compare(triggering_asset_events=None) -> dict:
        from include.reconcile import compare

        # Somebody who builds the marts by hand has brought no day.
        events = triggering_asset_events.get(marts, [])
        return {day: compare(day) for day in sorted({day for event in events for day in event.extra.get("days", [])})}

    @task
    def report(found: dict) -> None:
        from include.connections import pushgateway
        from include.reconcile import report

        report(pushgateway(), {day: len(lines) for day, lines in found.items() if lines is not None})

    @task
    def judge(found: dict) -> None:
        from airflow.sdk.exceptions import AirflowSkipException
        from include.reconcile import Differs

        if differences := [f"{day}: {line}" for day, lines in found.items() for line in lines or ()]:
            raise Differs("; ".join(differences))
        if found and all(lines is None for lines in found.values()):
            raise AirflowSkipException(f"nothing happened on {', '.join(found)}: neither equal nor different")

    found = compare()
    report(found)
    judge(found)


# [END dag]
reconciliation()
