"""A night with spoilt files, and with services that die in it: the account adds up, and adds up again."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta

import pytest

from flow360 import clients
from flow360.ingestion import night, readings
from flow360.ingestion.topics import drop_topics, fresh_topic, identity
from flow360.primeur.snapshot import FILES
from flow360.processing import clean
from flow360.processing.streams import topics
from flow360.settings import settings
from flow360.storage import clean_zone, raw
from flow360.storage.ledger import Ledger
from flow360.storage.raw import Manifest
from tests.faults.support import kill, recovered, report, until

SERVICES = (
    "postgres-source",
    "primeur-load",
    "market-api",
    "datanode",
    "hive-metastore",
    "spark-worker",
    "spark-connect",
    "kafka",
)
DAY = date(2026, 5, 4)


@pytest.fixture
def taken(started) -> Iterator[list[Manifest]]:
    """What shop and API gave for a day; afterwards the lake knows nothing of that day."""
    started(*SERVICES)
    lake = clients.lake()
    with clients.postgres("source") as shop:
        landed = [night.take_shop(shop, lake, DAY, "test"), night.take_api(clients.api(), lake, DAY, "test")]
    yield landed
    started(*SERVICES)
    lake, spark = clients.lake(), clients.spark()
    for source in raw.SOURCES:
        lake.rm(f"{raw.ZONE}/{source}/day={DAY}", recursive=True, missing_ok=True)
    for name in clean.shapes():
        spark.sql(f"alter table clean.{name} drop if exists partition (business_day='{DAY}')")
        lake.rm(clean_zone.partition(name, DAY), recursive=True, missing_ok=True)


def counts(ledger: Ledger, file: str) -> dict[str, int]:
    return {one: ledger.count(file=file, outcome=one) for one in ("clean", "doubled", "quarantined")}


def spoilt(whole: bytes) -> dict[str, bytes]:
    """A branch's file as it comes when something went wrong with it."""
    lines = whole.splitlines()
    names = [line.split(b",") for line in lines if b'"' not in line and line.count(b",") == 8]
    return {
        "orders_whole.csv": whole,
        "orders_cut.csv": whole[: whole.index(lines[101]) + 9],
        "orders_doubled.csv": whole + whole,
        "orders_utf16.csv": whole.decode("utf-8", "replace").encode("utf-16"),
        "orders_turned.csv": b"\n".join(b",".join([*row[1:], row[0]]) for row in names),
        "orders_swapped.csv": whole.replace(b"customer_id,store_id", b"store_id,customer_id", 1),
    }


@pytest.mark.timeout(600)
def test_a_spoilt_file_costs_its_own_rows_and_nothing_of_the_night(taken):
    lake, spark = clients.lake(), clients.spark()
    files = spoilt((FILES / f"orders_{DAY}.csv").read_bytes())
    landed = raw.put(lake, "files", DAY, "test", [(name, data, None) for name, data in files.items()])
    tampered = landed.files[0]
    changed = raw.put(lake, "files", DAY, "changed", [("orders_changed.csv", files[tampered.name], None)])
    lake.write(changed.path(changed.files[0]), files[tampered.name][:-20])
    ledger = clean.clean_day(spark, lake, [*taken, landed, changed])
    assert ledger.gaps([*taken, landed, changed]) == []
    found = {name: counts(ledger, name) for name in (*files, "orders_changed.csv")}
    rows = {name: len(data.splitlines()) - 1 for name, data in files.items()}
    whole = found["orders_whole.csv"]
    assert whole["clean"] == 0, "the shop has each of them"
    assert whole["doubled"] > 200
    assert sum(whole.values()) == rows["orders_whole.csv"]
    assert sum(found["orders_cut.csv"].values()) == 101
    assert ledger.count(file="orders_cut.csv", reason="wrong number of fields") >= 1
    assert found["orders_doubled.csv"] == {
        "clean": 0, "doubled": 2 * whole["doubled"], "quarantined": 2 * whole["quarantined"] + 1
    }  # fmt: skip
    assert found["orders_utf16.csv"]["doubled"] == found["orders_utf16.csv"]["clean"] == 0
    assert found["orders_utf16.csv"]["quarantined"] > 200
    assert found["orders_turned.csv"]["doubled"] > 100
    assert found["orders_swapped.csv"]["doubled"] == 0
    assert sum(found["orders_swapped.csv"].values()) == rows["orders_swapped.csv"]
    assert found["orders_changed.csv"] == {"clean": 0, "doubled": 0, "quarantined": 1}
    for one in taken[0].files:
        assert counts(ledger, one.name) == {"clean": one.rows, "doubled": 0, "quarantined": 0}
    kept = spark.table("clean.quarantine").where(f"business_day = '{DAY}'").count()
    assert kept == ledger.count(outcome="quarantined")
    report("spoilt files", delivered=ledger.count(), clean=ledger.count(outcome="clean"), quarantined=kept)


@pytest.mark.timeout(600)
def test_a_night_whose_spark_is_killed_is_repeated_to_the_same_account(stack, taken):
    lake = clients.lake()
    landed = [*taken, night.take_files(lake, DAY, "test")]
    ended = []

    def work() -> None:
        try:
            ended.append(clean.clean_day(clients.spark(), lake, landed))
        except Exception as error:  # noqa: BLE001 - whichever way it learns that its driver is gone
            ended.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    aside = f"{clean_zone.ZONE}/_aside/day={DAY}"
    until(lambda: lake.exists(aside), "the first table to be written", 120)
    moment = kill(stack, "spark-connect")
    thread.join(120)
    assert isinstance(ended[0], Exception), "the kill came too late to be one"
    seconds = recovered(stack, "spark-connect", moment)
    first = clean.clean_day(clients.spark(), lake, landed)
    again = clean.clean_day(clients.spark(), lake, landed)
    assert set(first.entries) == set(again.entries)
    assert not lake.exists(aside)
    assert first.gaps(landed) == []
    assert first.count(source="shop", outcome="clean") == sum(one.rows for one in landed[0].files)
    report("spark killed", delivered=first.count(), back=seconds, difference=0)


@pytest.mark.timeout(600)
def test_readings_are_in_the_raw_zone_once_though_spark_is_killed_and_the_topic_made_again(stack, started):
    """Through the night of 25 October, which has its 2 o'clock twice: each reading under its day in Paris."""
    started(*SERVICES)
    lake, name = clients.lake(), f"fault-raw-{time.time_ns()}"
    folder, begin, ended = f"/tmp/{name}", datetime(2026, 10, 24, 12, tzinfo=UTC), []
    sent = [
        (f"VAN-{n % 20:02}", b"%06d\xff" % n, topics.millis(begin + timedelta(minutes=n // 4))) for n in range(9_600)
    ]

    def take() -> int:
        return readings.take_readings(clients.spark(), name, folder, settings().kafka_bootstrap, at_once=1_500)

    def work() -> None:
        try:
            ended.append(take())
        except Exception as error:  # noqa: BLE001 - whichever way it learns that its driver is gone
            ended.append(error)

    fresh_topic(name, partitions=3, retention_ms=-1)
    try:
        topics.publish(name, sent[:6_000])
        checkpoint = f"{folder}/_checkpoints/{identity(name)}"
        thread = threading.Thread(target=work)
        thread.start()
        until(lambda: lake.exists(f"{checkpoint}/commits/1"), "the second batch", 120)
        back = recovered(stack, "spark-connect", kill(stack, "spark-connect"))
        thread.join(120)
        before = readings.landed(clients.spark(), lake, folder).count()
        counts = [take(), take()]
        topics.publish(name, sent[6_000:])
        counts.append(take())
        fresh_topic(name, partitions=3, retention_ms=-1)
        topics.publish(name, sent[:100])  # the same offsets once more, of another topic
        counts.append(take())
        found = readings.landed(clients.spark(), lake, folder).collect()
        sunday = [row for _, rows in readings.of_day(lake, date(2026, 10, 25), folder) for row in rows.to_pylist()]
        files = [path for path in lake.find(folder) if path.endswith(".parquet")]
    finally:
        drop_topics(name)
        lake.rm(folder, recursive=True, missing_ok=True)
    places = Counter((row.log, row.partition, row.offset) for row in found)
    due = Counter(sent + sent[:100])
    have = Counter((row.key.decode(), bytes(row.value), topics.millis(row.timestamp)) for row in found)
    report(
        "readings into the raw zone, Spark killed",
        sent=due.total(),
        landed_before_the_kill=before,
        landed_after_it=sum(counts),
        rows=len(found),
        lost=(due - have).total(),
        doubled=len(found) - len(places),
        files=len(files),
        back=back,
    )
    assert isinstance(ended[0], Exception), "the kill came too late to be one"
    assert 0 < before < 6_000
    assert counts[1:] == [0, 3_600, 100]
    assert have == due
    assert set(places.values()) == {1}
    days = Counter(row.day for row in found)
    assert set(days) == {date(2026, 10, 24), date(2026, 10, 25), date(2026, 10, 26)}
    assert days[date(2026, 10, 25)] == 25 * 60 * 4
    of_sunday = [(row.partition, row.offset) for row in found if row.day == date(2026, 10, 25)]
    assert sorted((row["partition"], row["offset"]) for row in sunday) == sorted(of_sunday), "read without Spark"
