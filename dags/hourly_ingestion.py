"""Every hour: the orders of the hour before, from the shop's database into the warehouse.

It is a preview for the day that is not over yet, and goes past the lake: straight into `staging.shop_*`, which only
`store_sales` reads. The marts are made of what nightly_lake delivers, when the day is complete.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.sdk import Asset, CronDataIntervalTimetable, Metadata, dag, task

orders = Asset("staging.shop_orders")


# [START dag]
@dag(
    schedule=CronDataIntervalTimetable("0 * * * *", timezone="UTC"),
    start_date=datetime(2024, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=4,
    default_args={"retries": 2, "retry_delay": timedelta(seconds=5)},
    tags=["primeur"],
    doc_md=__doc__,
)
def hourly_ingestion():
    @task
    def create_tables() -> None:
        from include.connections import connect
        from include.interval import create
        from include.orders import TABLES

        with connect("pipeline") as db:
            create(db, TABLES)

    @task
    def load(table: str, dag_run=None) -> int:
        from include.connections import connect
        from include.interval import interval_of
        from include.orders import load

        start, end = interval_of(dag_run, "hour")
        with connect("shop") as shop, connect("pipeline") as warehouse:
            return load(shop, warehouse, table, start, end)

    @task(outlets=[orders])
    def reconcile(dag_run=None):
        from include.connections import connect
        from include.interval import interval_of
        from include.orders import reconcile

        start, end = interval_of(dag_run, "hour")
        with connect("shop") as shop, connect("pipeline") as warehouse:
            count = reconcile(shop, warehouse, start, end)
        yield Metadata(orders, {"start": start.isoformat(), "end": end.isoformat(), "orders": count})

    loads = [load.override(task_id=f"load_{name}")(f"staging.shop_{name}") for name in ("orders", "order_lines")]
    create_tables() >> loads >> reconcile()


# [END dag]
hourly_ingestion()
