"""A day of the shop by both ways: by the night, in one piece, and by what was captured, change by change."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from datetime import date

import pytest

from flow360 import clients, lesson
from flow360.ingestion import changes, connect, night, readings
from flow360.ingestion.topics import ends
from flow360.primeur.clock import bounds
from flow360.primeur.load import load
from flow360.primeur.schema import TABLES, WAREHOUSE
from flow360.primeur.shop import OF_THE_DAY
from flow360.processing import captured_compare as captured
from flow360.processing import captured_views, clean, dbt, feed
from flow360.settings import settings
from flow360.storage import clean_zone, raw
from flow360.trace import documents, orders
from flow360.waiting import patient
from tests.faults.support import report, until
from tests.faults.test_captured import equal, forget_captured

SERVICES = (
    "kafka-connectors", "kafka-connectors-fleet", "kafka-connectors-catalogue", "changes-sink", "market-day",
    "market-api", "datanode", "hive-metastore", "spark-worker", "spark-connect",
)  # fmt: skip
DAY = date(2026, 5, 7)
ELSEWHERE = {
    "customers": "personal data: everybody on the machine could read a topic of it",
    "temperatures": "it comes by the record already, as vans.readings",
}
"""What is not captured of the shop's twelve tables, and why."""


@pytest.fixture(scope="module", autouse=True)
def both(stack) -> Iterator[None]:
    """The night's services and the captures', and what was captured is in the warehouse; the day is gone afterwards."""
    stack.up(SERVICES)
    connect.main()
    until(equal, "the warehouse to hold what the sources have", 120, pause=1)
    yield
    load("source", force=True)
    until(equal, "the shop as it was, in the warehouse too", 120, pause=1)
    forget_captured(stack)
    lake, spark = clients.lake(), clients.spark()
    for source in raw.SOURCES:
        lake.rm(f"{raw.ZONE}/{source}/day={DAY}", recursive=True, missing_ok=True)
    for name in clean.shapes():
        spark.sql(f"alter table clean.{name} drop if exists partition (business_day='{DAY}')")
        lake.rm(clean_zone.partition(name, DAY), recursive=True, missing_ok=True)


def by_the_night() -> dict[str, Counter]:
    """Bring the day in as nightly_lake does; the rows of each table that it has brought."""
    lake = clients.lake()
    with clients.postgres("source") as shop:
        landed = [night.take_shop(shop, lake, DAY, "both"), night.take_api(clients.api(), lake, DAY, "both")]
    landed.append(night.take_files(lake, DAY, "both"))
    assert clean.clean_day(clients.spark(), lake, landed).gaps(landed) == []
    with clients.postgres() as db:
        feed.from_lake(db, clients.spark(), DAY)
        query = "select {} from lake.{}_by_day where _day = %s"
        return {
            name: Counter(db.execute(query.format(", ".join(TABLES[name].names), name), [DAY]).fetchall())
            for name in WAREHOUSE
        }


def by_the_record() -> dict[str, Counter]:
    """The same rows out of what was captured: which belong to a day is the same rule, asked of other tables."""
    start, end = bounds(DAY)
    with clients.postgres() as db:
        db.execute(f"set local search_path to {captured_views.schema('shop')}")
        return {
            name: Counter(
                db.execute(
                    f"select {', '.join(TABLES[name].names)} from {name} where {OF_THE_DAY.get(name, 'true')}",
                    {"start": start, "end": end},
                ).fetchall()
            )
            for name in captured.tables()["shop"]
        }


@pytest.mark.timeout(900)
def test_a_day_is_the_same_by_the_night_and_by_the_record_in_every_table():
    """Played once more, so that its orders are deleted, placed, paid, brought and reviewed while somebody captures."""
    lesson.play(str(DAY), speed=0)
    with clients.postgres("source") as shop:  # and what no day does: somebody works in the tables by hand
        shop.execute("update orders set delivery_note = 'chez le voisin', status = status where order_id % 50 = 0")
        shop.execute("delete from reviews where review_id % 40 = 3")
        shop.execute("update products set price_eur = price_eur + 0.01 where product_id % 25 = 0")
    until(equal, "the warehouse to hold what the sources have", 120, pause=1)
    batch, stream = by_the_night(), by_the_record()
    assert set(batch) - set(stream) == set(ELSEWHERE)
    for name in WAREHOUSE:
        if name in ELSEWHERE:
            print(f"\n{name:12} by the night {batch[name].total():6,}, not captured: {ELSEWHERE[name]}", end="")
            continue
        missing, extra = (batch[name] - stream[name]).total(), (stream[name] - batch[name]).total()
        rows = f"by the night {batch[name].total():6,}, by the record {stream[name].total():6,}"
        print(f"\n{name:12} {rows}: {missing} missing, {extra} extra", end="")
    report(
        "a day by both ways",
        tables=len(stream),
        rows=sum(found.total() for found in stream.values()),
        missing=sum((batch[name] - stream[name]).total() for name in stream),
        extra=sum((stream[name] - batch[name]).total() for name in stream),
    )
    assert {name: batch[name] for name in stream} == stream
    assert stream["orders"].total() > 300 < stream["payments"].total()


@pytest.mark.timeout(600)
def test_an_order_that_is_placed_in_the_shop_is_in_the_mart_within_a_minute_without_a_hand():
    """The mart is built once, as every night builds it; the order comes afterwards."""
    built = dbt.build(check=True)
    assert {"orders_now", "fct_orders", "orders_now_come_once"} <= set(built["node"])
    seconds = []
    for number in (890_000_001, 890_000_002, 890_000_003):
        with clients.postgres("source") as shop:
            shop.execute(
                """insert into orders select %s, customer_id, store_id, now(), channel, 'placed', items, total_eur, null
                   from orders order by order_id limit 1""",
                [number],
            )
        begun = time.monotonic()
        until(lambda number=number: in_mart(number), "the order in the mart", 60)
        seconds.append(time.monotonic() - begun)
    assert in_mart(890_000_001) == (False,), "no night has brought it"
    with clients.postgres("source") as shop:
        shop.execute("delete from orders where order_id >= 890000001 and order_id <= 890000003")
    until(lambda: not in_mart(890_000_003), "the order to go", 60)
    report("an order from the shop into the mart", orders=len(seconds), slowest=max(seconds), fastest=min(seconds))
    assert max(seconds) < patient(60)


def in_mart(number: int) -> tuple[bool] | None:
    with clients.postgres() as db:
        return db.execute("select is_in_fact from marts.orders_now where order_id = %s", [number]).fetchone()


@pytest.mark.timeout(600)
def test_a_trace_has_the_hops_of_a_document_and_of_an_order():
    way = documents.follow("sheet", 102)
    assert [step.hop.name for step in way.steps if step.places] == ["catalogue", "changes", "captured"]
    (place,) = way["captured"].places
    assert place.where == "captured_catalogue.sheets, document = 102"
    assert "rows: " in place.what
    changes.take_changes(clients.spark(), bootstrap=settings().kafka_bootstrap)
    assert documents.follow("sheet", 102)["raw"].places
    with clients.mongodb() as client:
        number = client.catalogue.reviews.find_one({"_id": {"$type": "int"}})["_id"]
    assert [step.state for step in documents.follow("review", number).steps] == ["there"] * 4
    with clients.postgres("source") as shop:
        number = shop.execute("select max(order_id) from orders where status = 'delivered'").fetchone()[0]
    found = orders.follow(number)
    assert [len(found[hop].places) > 0 for hop in ("shop", "changes", "captured")] == [True] * 3


@pytest.mark.timeout(600)
def test_the_lakes_raw_zone_has_each_captured_record_once_and_from_it_the_same_rows_can_be_made():
    spark, lake = clients.spark(), clients.lake()
    bootstrap = settings().kafka_bootstrap
    first, again = changes.take_changes(spark, bootstrap=bootstrap), changes.take_changes(spark, bootstrap=bootstrap)
    with clients.postgres("source") as shop:
        shop.execute("update stores set name = name where store_id = 1")
        shop.execute("update stores set name = name || ' ' where store_id = 2")
    until(equal, "the change to be captured", 60, pause=0.5)
    later = changes.take_changes(spark, bootstrap=bootstrap)
    landed = [changes_record(row) for row in readings.landed(spark, lake, changes.FOLDER).collect()]
    topics = {record.topic for record in landed}
    kept = sum(last - start for topic in topics for start, last in ends(topic).values())
    report("captured records in the raw zone", first=first, again=again, later=later, kept=kept, rows=len(landed))
    assert again == 0 < later
    assert len({(one.topic, one.partition, one.offset) for one in landed}) == len(landed) == kept
    said = changes.newest(filter(None, map(changes.read, sorted(landed, key=lambda one: one.offset))))
    with clients.postgres() as db:
        rows = db.execute("select topic, key, row::text from captured.rows where row is not null").fetchall()
    assert {(one.topic, one.key, one.row) for one in said if one.row is not None} == set(rows)


def changes_record(row) -> changes.Record:
    """A record as the lake has it."""
    headers = [(one.key, bytes(one.value)) for one in row.headers or ()]
    value = None if row.value is None else bytes(row.value)
    return changes.Record(row.topic, row.partition, row.offset, 0, bytes(row.key), value, headers)
