"""A consumer dies between processing and commit; records that cannot be processed."""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter

import psycopg
import pytest

from flow360 import clients
from flow360.ingestion.dead_letters import consume_with_dead_letters, decode_json
from flow360.ingestion.groups import Member, members_of
from flow360.ingestion.topics import read_all
from flow360.waiting import patient
from tests.faults.support import child, line, report, until

SERVICES = ("kafka", "postgres-dwh")
ORDERS = 1000

# Reads in batches, writes each batch to both tables, and (the first one) waits to be killed before its commit.
CONSUMER = """
import json, signal, sys
from flow360 import clients
from flow360.ingestion.loading import insert_once
topic, plain, once, die_after = *sys.argv[1:4], int(sys.argv[4])
consumer = clients.consumer(topic, group_id=f"orders-{topic}", enable_auto_commit=False, max_poll_records=50,
                            session_timeout_ms=6000, heartbeat_interval_ms=2000)
done, fresh, patience = 0, 0, 12_000  # the group first waits until the dead member's session has ended
with clients.postgres() as db:
    while batches := consumer.poll(timeout_ms=patience):
        patience = 2000
        rows = [json.loads(record.value) for batch in batches.values() for record in batch]
        db.cursor().executemany(f"insert into {plain} values (%(order_id)s, %(total)s)", rows)
        fresh += insert_once(db, once, rows, "order_id")
        db.commit()
        done += len(rows)
        if die_after and done >= die_after:
            print("processed", done, flush=True)
            signal.pause()
        consumer.commit()
print("ended", done, fresh, flush=True)
"""


@pytest.mark.timeout(180)
def test_consumer_killed_between_processing_and_commit(topics, table):
    """Fault 4: what was processed but not committed is delivered again; the idempotent sink does not care."""
    topic = topics("orders")
    plain, once = table("order_id int, total numeric"), table("order_id int primary key, total numeric")
    producer = clients.producer(acks="all")
    for number in range(ORDERS):
        producer.send(topic, json.dumps({"order_id": number, "total": number / 4}).encode(), str(number % 50).encode())
    producer.flush(60)
    producer.close(10)
    with child(CONSUMER, topic, plain, once, str(ORDERS // 2)) as first:
        processed = int(line(first, "processed").split()[1])
        first.kill()
        first.wait(10)
    with child(CONSUMER, topic, plain, once, "0") as second:
        again, fresh = map(int, line(second, "ended").split()[1:])
    with clients.postgres() as db:
        raw = Counter(number for (number,) in db.execute(f"select order_id from {plain}"))
        final = db.execute(f"select count(*), sum(total), min(order_id), max(order_id) from {once}").fetchone()
    doubled = sum(count - 1 for count in raw.values())
    report(
        "4 consumer killed before its commit",
        sent=ORDERS,
        processed_before_kill=processed,
        processed_after=again,
        lost=ORDERS - len(raw),
        doubled_in_plain_table=doubled,
        rows_in_idempotent_table=final[0],
    )
    assert set(raw) == set(range(ORDERS)), "lost"
    assert doubled == processed + again - ORDERS
    assert doubled > 0, "the kill was to fall between processing and commit"
    assert again - fresh == doubled, "the idempotent sink refused exactly the doubled ones"
    assert final == (ORDERS, sum(range(ORDERS)) / 4, 0, ORDERS - 1)


GOOD = b'{"order_id": 1, "total": 1.5}'
LARGE = b'{"order_id": 1, "total": 1.5, "note": "' + b"x" * 2_000_000 + b'"}'
POISON = [  # the cause that must be found, key, value, the header "source"
    ("bad json", b"k", b'{"order_id": 1, "total": ', b"test"),
    ("bad json", b"k", bytes(range(128, 256)), b"test"),
    ("bad json", b"k", b"", b"test"),
    ("bad json", b"k", None, b"test"),
    ("bad json", b"k", b"[" * 4000, b"test"),
    ("wrong schema", b"k", b'{"order_id": "one", "total": 1.5}', b"test"),
    ("wrong schema", b"k", b'{"order_id": "' + b"x" * 600_000 + b'", "total": 1.5}', b"test"),
    ("wrong schema", b"k", b"[1, 2]", b"test"),
    ("wrong schema", b"k", b'{"order_id": 1}', b"test"),
    ("wrong schema", b"k", b'{"order_id": true, "total": 1.5}', b"test"),
    ("null key", None, GOOD, b"test"),
    ("null key", None, None, b"test"),
    ("AttributeError", b"k", GOOD, None),
    ("UnicodeDecodeError", b"k", GOOD, b"\xff"),
    ("too large", b"k", LARGE, b"test"),
    ("too large", b"k" * 1_500_000, LARGE, b"x" * 500_000),
]


@pytest.mark.timeout(120)
@pytest.mark.parametrize("limit", [4_194_304, 10_000, 1_500], ids=["as delivered", "small letters", "tiny letters"])
def test_poison_messages(topics, limit):
    """Fault 5: each goes to the dead-letter topic with its cause, whole where that fits; the rest is delivered."""
    from confluent_kafka import Producer

    topic, dead = topics("readings"), topics("readings-dead", partitions=1, max_message_bytes=str(limit))
    planted: dict[tuple[int, int], tuple] = {}
    # The one client of the two that sends a header without a value, and a record with neither key nor value.
    out = Producer(clients.confluent(message_max_bytes=4_194_304))
    for number in range(1000):
        if number % 60 == 30 and (bad := POISON[number // 60 : number // 60 + 1]):
            _, key, value, source = bad[0]
            note = lambda error, at, bad=bad[0]: planted.update({(at.partition(), at.offset()): bad})  # noqa: E731
            out.produce(topic, value, key, headers=[("source", source)], on_delivery=note)
        else:
            out.produce(topic, json.dumps({"order_id": number, "total": 0.5}).encode(), str(number))
    assert out.flush(60) == 0
    assert sorted(planted.values(), key=str) == sorted(POISON, key=str)
    delivered: Counter[int] = Counter()

    def handle(record):
        order = decode_json(record, {"order_id": int, "total": (int, float)})
        for _, source in record.headers:
            source.decode()
        delivered[order["order_id"]] += 1

    consumer = clients.consumer(topic, group_id=f"readings-{topic}", enable_auto_commit=False)
    with clients.producer() as producer:  # as a lesson makes it, with the limit that it comes with
        done = consume_with_dead_letters(consumer, producer, dead, handle, idle_seconds=5)
        again = consume_with_dead_letters(consumer, producer, dead, handle, idle_seconds=1)
    consumer.close()
    whole, cut = 0, 0
    for letter in read_all(dead):
        about = {name.removeprefix("error."): value.decode() for name, value in letter.headers if name != "source"}
        cause, key, value, source = planted.pop((int(about["partition"]), int(about["offset"])))
        assert (about["topic"], about["cause"]) == (topic, cause)
        assert (int(about["bytes"]), about["sha256"]) == (len(value or b""), hashlib.sha256(value or b"").hexdigest())
        assert about["message"]
        if dict(letter.headers).get("source") == (source or b"") and letter.key == key:
            whole += letter.value == (b"" if key is None and value is None else value)
        else:
            assert (value or b"").startswith(letter.value)
            assert (key or b"").startswith(letter.key or b"")
            cut += 1
    good = 1000 - len(POISON)
    report(
        f"5 poison among 1,000, letters of {limit} bytes",
        planted=len(POISON),
        dead=sum(done.dead.values()),
        causes=",".join(f"{cause}:{count}".replace(" ", "_") for cause, count in sorted(done.dead.items())),
        without_a_letter=len(planted),
        whole=whole,
        cut=cut,
        delivered=done.delivered,
        lost=good - len(delivered),
        doubled=sum(delivered.values()) - len(delivered),
    )
    assert not planted
    assert whole + cut == len(POISON)
    assert cut == {4_194_304: 2, 10_000: 3, 1_500: 4}[limit]
    assert done.delivered == good == len(delivered)
    assert again == type(again)(), "what was committed does not come again"


@pytest.mark.timeout(60)
def test_an_error_of_the_outside_is_not_the_record_s_fault(topics, started):
    """A database that is away must not empty a topic into the dead letters: the batch comes again."""
    started("postgres-dwh")
    topic, dead = topics("orders", partitions=1), topics("orders-dead", partitions=1)
    with clients.producer() as producer:
        producer.send(topic, GOOD, b"k").get(30)
        for error in (ConnectionResetError("gone"), psycopg.OperationalError("gone"), NameError("a slip")):
            consumer = clients.consumer(topic, group_id=f"orders-{topic}", enable_auto_commit=False)

            def handle(record, error=error):
                raise error

            with pytest.raises(type(error)):
                consume_with_dead_letters(consumer, producer, dead, handle)
            consumer.close()
        assert read_all(dead) == []
        consumer = clients.consumer(topic, group_id=f"orders-{topic}", enable_auto_commit=False)
        with clients.postgres(autocommit=True) as db:  # a value that the table does not take is the record's fault

            def store(record):
                db.execute("select %s::int2", (10**6,))

            done = consume_with_dead_letters(consumer, producer, dead, store, idle_seconds=3)
        consumer.close()
    assert [dict(letter.headers)["error.cause"] for letter in read_all(dead)] == [b"NumericValueOutOfRange"]
    assert done.delivered == 0


@pytest.mark.timeout(120)
def test_a_leader_whose_topic_grows_fetches_the_answer_that_came_after_its_poll(topics):
    """kafka-python by itself forgets it, calls itself a member, sends no heartbeat, and its partitions lie idle."""
    topic = topics("growing", partitions=2)
    leader = clients.consumer(topic, group_id=topic, client_id="leader", metadata_max_age_ms=500)
    until(lambda: leader.poll(200) or leader.assignment(), "the first one in the group", 30)
    other = Member("other", topic, topic)
    try:
        until(lambda: leader.poll(200) or len(leader.assignment()) == 1, "a second one", 30)
        with clients.kafka_admin() as admin:
            admin.create_partitions({topic: 6})
        until(lambda: len(leader.partitions_for_topic(topic)) == 6, "the leader to hear of it", 30)
        began = time.monotonic()
        leader.poll(50)  # asks to join again, and the other one hears of that with its next heartbeat
        time.sleep(patient(3))
        until(lambda: leader.poll(200) or len(leader.assignment()) == 3, "its new partitions", 30)
        until(lambda: sum(map(len, members_of(topic).values())) == 6, "all of them to be read", 30)
    finally:
        other.leave()
        leader.close()
    report("4 a topic grows under its group", partitions=6, read=6, settled=time.monotonic() - began)
