"""What is captured of three databases, into the warehouse: kills at the worst moments, and rows that nobody deleted."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient

from flow360 import clients
from flow360.errors import FlowError
from flow360.ingestion import connect
from flow360.ingestion.changes import SOURCES
from flow360.ingestion.topics import ends
from flow360.primeur.load import load
from flow360.processing import captured_compare as captured
from flow360.processing.captured_views import schema
from tests.faults.support import SEED, child, kill, recovered, report, until
from tests.live.test_broker import secured
from tests.live.test_connect import mending, new_key, paying, step

SINK = "changes-sink"
SERVICES = ("kafka-connectors", "kafka-connectors-fleet", "kafka-connectors-catalogue", "changes-sink")
CHANGES = 900
PAYMENTS = "cdc.shop.public.payments"


@pytest.fixture(scope="module", autouse=True)
def all_of_it(stack) -> Iterator[None]:
    """Three captures at work, and all that they have said in the warehouse; rows of ours are gone afterwards."""
    stack.up(SERVICES)
    connect.main()  # a job that was done is not done again
    until(equal, "the warehouse to hold what the sources have", 120, pause=1)
    yield
    stack.up(SERVICES)
    with writers() as sources:
        for _, forget in sources.values():
            forget()
    forget_captured(stack)


def forget_captured(stack) -> None:
    """Leave nothing of these captures.

    Whoever builds the marts next would build what is in the warehouse, too; and what was deleted while nobody captured
    would stand in the topics for ever, which the next readers of a topic alone take for rows.
    """
    stack.down(["changes-sink"])
    with clients.postgres() as db:
        for name in ("captured", *map(schema, SOURCES)):
            db.execute(f"drop schema if exists {name} cascade")
    connect.main(forgetting=True)
    admin = AdminClient(secured())  # without a login nobody removes them

    def said() -> list[str]:
        return [topic for topic in admin.list_topics(timeout=10).topics if topic.startswith("cdc.")]

    for done in admin.delete_topics(said()).values():
        done.result(30)
    until(lambda: not said(), "the topics to be gone")
    connect.main()


def equal() -> bool:
    """Whether each table and each document is the source's, and no value of one is missing."""
    try:
        found = captured.compare()
    except FlowError:  # nothing has come yet, or a database is not back yet
        return False
    return not found[["missing", "extra"]].any(axis=None) and (found["values_there"] == found["values_here"]).all()


@contextlib.contextmanager
def writers() -> Iterator[dict[str, tuple[Callable[..., None], Callable[[], None]]]]:
    """For each source what inserts, changes or deletes a row, each a transaction; and what removes those of ours."""
    ours = "payment_id >= 9000000000", "maintenance_id >= 9000000000"
    with (
        clients.postgres("source", autocommit=True) as shop,
        clients.mysql(autocommit=True) as db,
        db.cursor() as fleet,
        clients.mongodb() as client,
    ):
        sheets = client.catalogue.sheets

        def in_catalogue(what: str, key: int, text: str = "") -> None:
            lists = {
                "name": {"fr": text},
                "origins": [{"country": text, "parts": list(range(int(key) % 4))}] * (key % 3),
            }
            if what == "insert":
                sheets.insert_one({"_id": key} | lists)
            elif what == "delete":
                sheets.delete_one({"_id": key})
            else:
                sheets.replace_one({"_id": key}, lists | {f"seen_{key % 5}": [text, [text]]})

        yield {
            "shop": (paying(shop), lambda: shop.execute(f"delete from payments where {ours[0]}")),
            "fleet": (mending(fleet), lambda: fleet.execute(f"delete from maintenance where {ours[1]}")),
            "catalogue": (in_catalogue, lambda: sheets.delete_many({"_id": {"$gte": 9_000_000_000}})),
        }


def change(number: int, meanwhile: Callable[[int], None] = lambda _: None) -> None:
    """Change so many rows of three databases, in turn."""
    lot, first = random.Random(SEED), new_key()
    with writers() as sources:
        held: dict[str, dict[int, str | None]] = {name: {} for name in sources}
        for one in range(number):
            meanwhile(one)
            name = list(sources)[one % 3]
            step(lot, first, one, held[name], sources[name][0])


def asked(query: str, *params: object) -> object:
    with clients.postgres() as db:
        return db.execute(query, params).fetchone()[0]


def places() -> dict[tuple[str, int], int]:
    with clients.postgres() as db:
        return {(one, n): at for one, n, at in db.execute("select topic, partition, next_offset from captured.places")}


def lost_and_doubled() -> tuple[int, int]:
    """Rows that a source has and the warehouse does not, and those that only the warehouse has; all tables together."""
    found = captured.compare()
    return int(found["missing"].sum()), int(found["extra"].sum())


@pytest.mark.timeout(400)
def test_sink_and_connect_killed_among_changes_of_three_databases_lose_nothing_and_double_nothing(stack):
    killed: list[float] = []

    def fate(one: int) -> None:
        if one in (CHANGES // 4, CHANGES // 2, 3 * CHANGES // 4):
            name = "kafka-connect" if one == CHANGES // 2 else SINK
            killer = threading.Thread(target=lambda: killed.append(kill(stack, name)))
            killer.start()
            killer.join(10)

    change(CHANGES, fate)
    back = recovered(stack, SINK, killed[-1])
    recovered(stack, "kafka-connect", killed[1])
    until(equal, "the warehouse to hold what the sources have", 120, pause=1)
    missing, extra = lost_and_doubled()
    report(
        "changes-sink killed twice, Connect once",
        changes=CHANGES,
        lost=missing,
        doubled=extra,
        recovery=back,
        refused=asked("select count(*) from captured.refused"),
    )
    assert (missing, extra) == (0, 0)
    for topic in {topic for topic, _ in places()}:
        assert {n: at for (one, n), at in places().items() if one == topic} == {
            n: last for n, (_, last) in ends(topic).items()
        } or "heartbeat" in topic


# The sink as it is, but for its end: after so many batches that were written it kills itself, before their commit.
DYING = """
import os, signal, sys
from flow360.processing.captured import Changes, Reading

work, written = Reading._keep, []


def keep(self, found):
    kept = work(self, found)
    if kept and len(written) >= 2:
        print("written", sum(kept.values()), flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    written.append(kept)
    return kept


Reading._keep = keep
Changes(sys.argv[1]).run()
"""


@pytest.mark.timeout(400)
def test_a_kill_between_the_write_and_its_commit_writes_nothing_twice(stack):
    stack.down([SINK])
    before, told = places(), 0
    try:
        for _ in range(3):
            with child(DYING, clients.confluent()["bootstrap.servers"]) as process:
                until(lambda process=process: change(12) or process.poll(), "the sink to be killed", pause=0)
                told += int(process.stdout.read().removeprefix("written "))
                assert process.wait(60) == -9
        between = places()
    finally:
        stack.up([SINK])
    until(equal, "the warehouse to hold what the sources have", 120, pause=1)
    missing, extra = lost_and_doubled()
    report("changes-sink killed before its commit", kills=3, taken_back=told, lost=missing, doubled=extra)
    assert told > 0
    assert all(before.get(place, 0) <= at <= places()[place] for place, at in between.items())
    assert (missing, extra) == (0, 0)


@pytest.mark.timeout(400)
def test_two_sinks_at_a_time_bring_each_change_once(stack):
    code = "import sys; from flow360.processing.captured import Changes; Changes(sys.argv[1]).run()"
    with child(code, clients.confluent()["bootstrap.servers"]) as process:
        change(CHANGES // 3)
        until(equal, "the warehouse to hold what the sources have", 120, pause=1)
        assert process.poll() is None
    missing, extra = lost_and_doubled()
    report("two sinks at a time", changes=CHANGES // 3, lost=missing, doubled=extra)
    assert (missing, extra) == (0, 0)


@pytest.mark.timeout(400)
@pytest.mark.parametrize(("name", "source"), [("primeur-shop", "shop"), ("primeur-catalogue", "catalogue")])
def test_what_was_deleted_while_a_place_was_lost_goes_when_all_is_read_again(name, source):
    """No change says that it was deleted: the copy that follows does not have it."""
    worker, key = clients.connect(), new_key()
    with writers() as sources:
        write, _ = sources[source]
        write("insert", key, "1.00")
        write("insert", key + 1, "2.00")
        until(equal, "both rows", 60, pause=0.5)
        connect._without_place(worker, name)
        write("delete", key)
        write("update", key + 1, "3.00")
        connect.main([name])
        begun = time.monotonic()
        until(equal, "the row to go", 120, pause=0.5)
    missing, extra = lost_and_doubled()
    report(
        f"{source}: deleted while the place was lost",
        deleted=1,
        ghosts=extra,
        lost=missing,
        seconds=time.monotonic() - begun,
    )
    assert (missing, extra) == (0, 0)


def test_a_document_that_the_warehouse_cannot_hold_is_set_aside_and_costs_nothing_else():
    """Its key is longer than what an index takes, or its fields are more than the columns that a view can have."""
    before, key = asked("select count(*) from captured.refused"), new_key()
    long = random.Random(SEED).randbytes(5000).hex()
    with clients.mongodb() as client:
        sheets = client.catalogue.sheets
        try:
            sheets.insert_one({"_id": long})
            sheets.insert_one({"_id": key, "by product": {f"p{n}": n for n in range(2000)}, "nan": float("nan")})
            until(lambda: asked("select count(*) from captured.refused") == before + 1, "the first to be set aside")
            sheets.delete_one({"_id": long})
            until(equal, "the other one", pause=0.5)
            kept = asked("select count(*) from captured_catalogue.sheets where document = %s", str(key))
        finally:
            sheets.delete_many({"_id": {"$in": [long, key]}})
    until(equal, "both to be gone", 60, pause=0.5)
    report("documents that the warehouse cannot hold", sent=2, set_aside=1, kept=kept, lost=0)
    assert kept == 1


@pytest.mark.timeout(400)
def test_a_table_that_is_emptied_and_filled_again_is_the_same_in_the_warehouse(stack):
    """`truncate` is one record, in any partition, before or behind the rows that it concerns."""
    stack.down([SINK])
    with clients.postgres("source") as db:
        db.execute("create temp table kept as select * from payments; truncate payments")
        db.execute("insert into payments select * from kept where payment_id % 3 > 0")
        left = db.execute("select count(*) from payments").fetchone()[0]
    with clients.postgres("source") as db:
        db.execute("update payments set amount_eur = amount_eur + 0.01 where payment_id % 3 = 1")
    stack.up([SINK])
    until(equal, "the warehouse to hold what the sources have", 120, pause=1)
    missing, extra = lost_and_doubled()
    report("a table emptied and filled again", rows=left, lost=missing, ghosts=extra)
    assert load("source", force=True) > 0, "and back"
    until(equal, "the warehouse to hold what the sources have", 120, pause=1)
    assert asked("select count(*) from captured_shop.payments") > left


def test_a_long_value_that_a_change_leaves_alone_stays():
    """PostgreSQL keeps it elsewhere, and its log does not repeat it."""
    note = random.Random(SEED).randbytes(9000).hex()
    with clients.postgres("source", autocommit=True) as db:
        number = db.execute("select max(order_id) from orders").fetchone()[0]
        was = db.execute("select delivery_note from orders where order_id = %s", [number]).fetchone()[0]
        for change in (("delivery_note = %s", note), ("items = items + %s", 1), ("items = items - %s", 1)):
            db.execute(f"update orders set {change[0]} where order_id = %s", [change[1], number])
            until(equal, "the change", 60, pause=0.5)
        kept = asked("select delivery_note from captured_shop.orders where order_id = %s", number)
        db.execute("update orders set delivery_note = %s where order_id = %s", [was, number])
    report("a long value that was left alone", letters=len(note), lost=len(note) - len(kept))
    assert kept == note


def test_what_no_connector_has_written_is_kept_with_its_reason_and_costs_nothing_else():
    producer, before = Producer(secured()), asked("select count(*) from captured.refused")
    spoilt = [b"{", b"\xff\xfe", b'{"op":"c","after":{},"source":{}}', b"[]"]
    for value in spoilt:
        producer.produce(PAYMENTS, value, b'{"payment_id":1}')
    assert producer.flush(20) == 0
    key = new_key()
    with writers() as sources:
        sources["shop"][0]("insert", key, "1.00")
        until(equal, "the row behind them", 60, pause=0.5)
        until(
            lambda: asked("select count(*) from captured.refused") == before + len(spoilt),
            "the spoilt ones to be noted",
        )
    with clients.postgres() as db:
        kept = db.execute("select value, why from captured.refused order by kafka_offset desc limit 4").fetchall()
    assert {value for value, _ in kept} == set(spoilt)
    assert all(why.startswith("not a change: ") for _, why in kept)
    report("records that no connector has written", sent=len(spoilt), kept=len(kept), lost=0)
