"""A night with spoilt files, and with services that die in it: the account adds up, and adds up again."""

from __future__ import annotations

import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta

import psycopg
import pytest

from flow360 import clients
from flow360.ingestion import night, readings
from flow360.ingestion.topics import drop_topics, fresh_topic, identity
from flow360.primeur.schema import WAREHOUSE
from flow360.primeur.snapshot import FILES
from flow360.processing import clean, feed
from flow360.processing.streams import topics
from flow360.settings import settings
from flow360.storage import clean_zone, raw
from flow360.storage.ledger import OUTCOMES, Ledger
from flow360.storage.raw import Manifest
from flow360.waiting import patient
from tests.environment import FULL, left_to_full
from tests.faults.support import child, kill, recovered, report, until

SERVICES = (
    "postgres-source",
    "postgres-dwh",
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
    forget(DAY)


def forget(day: date) -> None:
    """Let the lake know nothing of a day."""
    lake, spark = clients.lake(), clients.spark()
    for source in raw.SOURCES:
        lake.rm(f"{raw.ZONE}/{source}/day={day}", recursive=True, missing_ok=True)
    for name in clean.shapes():
        spark.sql(f"alter table clean.{name} drop if exists partition (business_day='{day}')")
        lake.rm(clean_zone.partition(name, day), recursive=True, missing_ok=True)


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


DYING = """
import os, signal, sys
from datetime import date

from flow360 import clients
from flow360.clients.webhdfs import Lake
from flow360.ingestion import night
from flow360.processing import clean, feed
from flow360.storage import raw

task, after, day = sys.argv[1], int(sys.argv[2]), date.fromisoformat(sys.argv[3])
lake = clients.lake()


def mortal(owner, name):
    work, steps = getattr(owner, name), []

    def step(*args, **named):
        steps.append(work(*args, **named))
        if len(steps) == after:
            os.kill(os.getpid(), signal.SIGKILL)
        return steps[-1]

    setattr(owner, name, step)


if task == "clean":
    mortal(Lake, "mv")
    clean.clean_day(clients.spark(), lake, [raw.latest(lake, one, day) for one in raw.SOURCES])
elif task == "deliver":
    mortal(feed, "copy_table")
    with clients.postgres() as db:
        feed.from_lake(db, clients.spark(), day)
else:
    mortal(Lake, "write")
    if task == "take_shop":
        with clients.postgres("source") as shop:
            night.take_shop(shop, lake, day, "killed")
    elif task == "take_api":
        night.take_api(clients.api(), lake, day, "killed")
    else:
        night.take_files(lake, day, "killed")
"""
STEPS = {"take_shop": 5, "take_api": 2, "take_files": 1, "clean": 5, "deliver": 5}
"""The tasks of a night, and after how many files or tables each is killed."""
KILLED = tuple(STEPS) if FULL else ("take_shop", "deliver")


def dies(task: str) -> None:
    """Let a task work in a process that kills itself in the middle."""
    with child(DYING, task, str(STEPS[task]), f"{DAY}") as process:
        assert process.wait(patient(180)) == -signal.SIGKILL, f"{task} came to its end, or to another one"


@pytest.fixture
def warehouse() -> Iterator[psycopg.Connection]:
    """The warehouse; afterwards it holds the days that it held."""
    with clients.postgres(autocommit=True) as db:
        there = db.execute("select to_regclass('lake.orders_by_day')").fetchone()[0]
        days = [day for (day,) in db.execute("select distinct _day from lake.stores_by_day")] if there else []
        yield db
        if not there:
            db.execute("drop schema if exists lake cascade")
        for name in WAREHOUSE if there else ():
            db.execute(f"delete from lake.{name}_by_day where _day <> all(%s)", [days])


def delivered(db: psycopg.Connection, day: date = DAY) -> dict[str, str]:
    """A mark of what the warehouse holds of a day, table by table; nothing where it holds nothing."""
    if db.execute("select to_regclass('lake.orders_by_day')").fetchone()[0] is None:
        return {}
    mark = "select md5(string_agg(t::text, E'\\n' order by t::text)) from lake.{}_by_day t where _day = %s"
    found = {name: db.execute(mark.format(name), [day]).fetchone()[0] for name in WAREHOUSE}
    return {name: value for name, value in found.items() if value}


@pytest.mark.timeout(900)
def test_a_night_killed_in_its_tasks_and_repeated_comes_to_the_same_account(stack, taken, warehouse):
    """Spark is killed under the clean zone in the making, then each task in the middle of its own work."""
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
    before = delivered(warehouse)
    for task in KILLED:
        dies(task)
    assert [len(raw.runs(lake, source, DAY)) for source in raw.SOURCES] == [1, 1, 1], "a run that was killed is none"
    assert delivered(warehouse) == before
    with clients.postgres("source") as shop:
        repeated = [night.take_shop(shop, lake, DAY, "killed"), night.take_api(clients.api(), lake, DAY, "killed")]
    repeated.append(night.take_files(lake, DAY, "killed"))
    assert [one.files for one in repeated] == [one.files for one in landed]
    again = clean.clean_day(clients.spark(), lake, repeated)
    assert set(first.entries) == set(again.entries)
    assert not lake.exists(aside)
    assert first.gaps(landed) == []
    assert first.count(source="shop", outcome="clean") == sum(one.rows for one in landed[0].files)
    for table in ("reviews", "weather"):  # of a file of many days each night has its own
        mine = {one: first.count(table=table, source="files", outcome=one) for one in OUTCOMES}
        assert mine["clean"] == 0 < min(mine["doubled"], mine["other_day"])
    marks = []
    for _ in range(2):
        with clients.postgres() as db:
            rows = feed.from_lake(db, clients.spark(), DAY)
        marks.append(delivered(warehouse))
    assert rows == {name: first.count(table=name, outcome="clean") for name in WAREHOUSE}
    assert marks[0] == marks[1]
    assert len(marks[0]) == len(WAREHOUSE)
    report("a night killed", tasks=len(KILLED) + 1, delivered=first.count(), rows=sum(rows.values()), back=seconds)


MONTH = [date(2026, 4, 20) + timedelta(days=n) for n in range(31)]
"""Two weeks before the shop's first order, its week, and the days after it."""


@left_to_full("31 nights, and 31 again: 20 minutes")
@pytest.mark.timeout(3600)
def test_a_month_brought_by_the_nights_own_code_and_again_is_the_same(taken, warehouse):
    lake, seen = clients.lake(), []
    try:
        for turn in ("first", "again"):
            found = {}
            for day in MONTH:
                with clients.postgres("source") as shop:
                    landed = [night.take_shop(shop, lake, day, turn), night.take_api(clients.api(), lake, day, turn)]
                landed.append(night.take_files(lake, day, turn))
                ledger = clean.clean_day(clients.spark(), lake, landed)
                assert [gap for gap in ledger.gaps(landed) if "has not come" not in gap] == []
                with clients.postgres() as db:
                    rows = feed.from_lake(db, clients.spark(), day)
                assert rows == {name: ledger.count(table=name, outcome="clean") for name in WAREHOUSE}
                found[day] = set(ledger.entries), delivered(warehouse, day)
            seen.append(found)
    finally:
        for day in MONTH:
            forget(day)
    assert seen[0] == seen[1]
    report("a month and again", nights=2 * len(MONTH), files=sum(len(one) for one, _ in seen[0].values()), difference=0)


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
