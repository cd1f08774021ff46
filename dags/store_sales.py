"""Whenever orders came in: the sales by store and day, for the days that the new orders touch."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.sdk import Asset, dag, task

orders, sales = Asset("staging.shop_orders"), Asset("staging.store_sales")


# [START dag]
@dag(
    schedule=[orders],
    start_date=datetime(2024, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 2, "retry_delay": timedelta(seconds=5)},
    tags=["primeur"],
    doc_md=__doc__,
)
def store_sales():
    @task(outlets=[sales])
    def refresh(triggering_asset_events=None) -> int:
        from include.connections import connect
        from include.orders import refresh_store_sales

        # Several hours may have come in since the last run: one run answers all their events.
        extras = [event.extra for event in triggering_asset_events[orders]]
        with connect("pipeline") as db:
            return sum(
                refresh_store_sales(db, datetime.fromisoformat(one["start"]), datetime.fromisoformat(one["end"]))
                for one in extras
            )

    refresh()


# [END dag]
store_sales()
