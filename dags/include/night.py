"""A night of the lake, step by step: from the sources to the raw zone, to the clean zone, to the warehouse."""

from __future__ import annotations

from datetime import date
from typing import Any

import psycopg

from flow360.clients.webhdfs import Lake
from flow360.ingestion import changes, night, readings
from flow360.ingestion.topics import NoSuchTopic
from flow360.processing import clean, feed
from flow360.storage import raw
from include import connections

IN_LAKE = "select count(*) from lake.orders where (ordered_at at time zone 'Europe/Paris')::date = %s"


def take(source: str, lake: Lake, day: str, run: str) -> dict[str, Any]:
    """Land what one source gives for a day; say where, how many files and bytes, and what did not come."""
    when = date.fromisoformat(day)
    if source == "shop":
        with connections.connect("shop") as shop:
            landed = night.take_shop(shop, lake, when, run)
    elif source == "api":
        landed = night.take_api(connections.market(), lake, when, run)
    else:
        landed = night.take_files(lake, when, run)
    size = sum(file.bytes for file in landed.files)
    return {"folder": landed.folder, "files": len(landed.files), "bytes": size, "missing": dict(landed.missing)}


def take_readings() -> int:
    """Land the vans' readings that Kafka has and the lake has not; return how many."""
    try:
        count = readings.take_readings(connections.spark())
    except NoSuchTopic as error:
        print(f"no van has reported yet: {error}")
        return 0
    print(f"{count:,} readings landed")
    return count


def take_changes() -> int:
    """Land what was captured of the databases and the lake has not; return how many records."""
    count = changes.take_changes(connections.spark())
    print(f"{count:,} changes landed" if count else "nothing new was captured: kafka-connect may be off")
    return count


def clean_day(lake: Lake, day: str) -> list[str]:
    """Make the day of the clean zone out of the newest run of each source; prints the account and returns its gaps."""
    manifests = [raw.latest(lake, source, date.fromisoformat(day)) for source in raw.SOURCES]
    ledger = clean.clean_day(connections.spark(), lake, manifests)
    print(ledger.frame().to_string(index=False))
    return ledger.gaps(manifests)


def deliver(warehouse: psycopg.Connection, day: str) -> dict[str, int]:
    """Bring the clean day into the warehouse; table -> rows, and under `orders_of_day` those placed on that day."""
    rows = feed.from_lake(warehouse, connections.spark(), date.fromisoformat(day))
    return rows | {"orders_of_day": warehouse.execute(IN_LAKE, [day]).fetchone()[0]}
