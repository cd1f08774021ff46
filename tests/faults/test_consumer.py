"""A consumer dies between processing and commit; records that cannot be processed."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from flow360 import clients
from flow360.ingestion.patterns import consume_with_dead_letters, decode_json
from tests.faults.support import child, everything, line, report

ORDERS = 1000

# Reads in batches, writes each batch to both tables, and (the first one) waits to be killed before its commit.
CONSUMER = """
import json, signal, sys
from flow360 import clients
from flow360.ingestion.patterns import insert_once
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


def poison() -> dict[str, tuple[bytes | None, bytes | None]]:
    """Bad records by the cause that must be found: (key, value)."""
    good = json.dumps({"order_id": 1, "total": 1.5}).encode()
    return {
        "bad json": (b"k", b'{"order_id": 1, "total": '),
        "bad json (no text)": (b"k", bytes(range(128, 256))),
        "bad json (empty)": (b"k", b""),
        "bad json (tombstone)": (b"k", None),
        "wrong schema": (b"k", b'{"order_id": "one", "total": 1.5}'),
        "wrong schema (a list)": (b"k", b"[1, 2]"),
        "wrong schema (missing)": (b"k", b'{"order_id": 1}'),
        "wrong schema (true)": (b"k", b'{"order_id": true, "total": 1.5}'),
        "null key": (None, good),
        "too large": (b"k", b'{"order_id": 1, "total": 1.5, "note": "' + b"x" * 2_000_000 + b'"}'),
    }


@pytest.mark.timeout(120)
def test_poison_messages(topics):
    """Fault 5: each goes to the dead-letter topic with its cause and its bytes unchanged; the rest is delivered."""
    topic, dead = topics("readings"), topics("readings-dead", partitions=1)
    bad = list(poison().items())
    planted: dict[tuple[int, int], tuple[str, bytes | None, bytes | None]] = {}
    producer = clients.producer(acks="all", max_request_size=4_000_000)
    good = 0
    for number in range(1000):
        if number % 100 == 50:
            name, (key, value) = bad[number // 100]
            at = producer.send(topic, key=key, value=value, headers=[("source", b"test")]).get(timeout=30)
            planted[at.partition, at.offset] = (name.split(" (")[0], key, value)
        else:
            producer.send(topic, json.dumps({"order_id": number, "total": 0.5}).encode(), str(number).encode())
            good += 1
    producer.flush(60)
    delivered: Counter[int] = Counter()

    def handle(record):
        delivered[decode_json(record, {"order_id": int, "total": (int, float)})["order_id"]] += 1

    consumer = clients.consumer(topic, group_id=f"readings-{topic}", enable_auto_commit=False)
    done = consume_with_dead_letters(consumer, producer, dead, handle, idle_seconds=5)
    again = consume_with_dead_letters(consumer, producer, dead, handle, idle_seconds=1)
    consumer.close()
    producer.close(10)
    letters = {}
    for letter in everything(dead):
        headers = dict(letter.headers())
        place = int(headers["error.partition"]), int(headers["error.offset"])
        letters[place] = (headers["error.cause"].decode(), letter.key(), letter.value())
        assert headers["error.topic"].decode() == topic
        assert headers["source"] == b"test", "its own headers are kept"
        assert headers["error.message"].decode().startswith(headers["error.cause"].decode())
    report(
        "5 poison among 1,000",
        planted=len(planted),
        dead=sum(done.dead.values()),
        causes=",".join(f"{cause}:{count}".replace(" ", "_") for cause, count in sorted(done.dead.items())),
        bytes_changed=sum(letters.get(place) != expected for place, expected in planted.items()),
        delivered=done.delivered,
        lost=good - len(delivered),
        doubled=sum(delivered.values()) - len(delivered),
    )
    assert letters == planted
    assert done.delivered == good == len(delivered)
    assert again.delivered == 0, "what was committed does not come again"
