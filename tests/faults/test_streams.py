"""Kafka Streams is killed while records pass: exactly once stays exactly once, and its state comes back."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter

import pytest

from flow360.processing import streams
from flow360.processing.streams import topics
from tests.environment import FULL
from tests.faults.support import SEED, report, until

SERVICES = ("kafka",)

RECORDS = 20_000
KEYS = 97
KILLS = 10 if FULL else 3


def counting(prefix: str):
    """Each record goes on once, with how many of its key have come: an output that shows any double in the state."""

    def topology(builder):
        from flow360.processing.streams.api import JSON, TEXT, Consumed, Grouped, Materialized, Produced

        def count(_key, value, state):
            return {"n": value["n"], "count": state["count"] + 1}

        stream = builder.stream(f"{prefix}.in", Consumed.with_(TEXT, JSON)).groupByKey(Grouped.with_(TEXT, JSON))
        kept = Materialized.as_("counts").withKeySerde(TEXT).withValueSerde(JSON)
        stream.aggregate(lambda: {"n": None, "count": 0}, count, kept).toStream().to(
            f"{prefix}.out", Produced.with_(TEXT, JSON)
        )

    return topology


@pytest.mark.timeout(600)
@pytest.mark.parametrize("guarantee", ["exactly_once_v2", "at_least_once"])
def test_streams_killed_while_records_pass(started, guarantee):
    """Exactly once: lost 0, doubled 0, in the output and in the state. At least once: reported, lost 0."""
    started("kafka")
    application = f"fault-streams-{time.time_ns()}"
    names = f"{application}.in", f"{application}.out"
    rest = [(str(n % KEYS), {"n": n}, n) for n in range(RECORDS)]
    marks = sorted(random.Random(SEED).sample(range(500, RECORDS * 3 // 4), KILLS))
    live = streams.run(counting(application), application, guarantee)
    sent = threading.Event()

    def produce() -> None:
        for begin in range(0, RECORDS, 500):  # in portions, so that it is still going on when the kills come
            topics.publish(names[0], rest[begin : begin + 500])
            time.sleep(0.2)
        sent.set()

    producer = threading.Thread(target=produce)
    producer.start()
    killed_at, restored, recovery = [], 0, []
    try:
        for number, mark in enumerate(marks):
            until(lambda mark=mark: len(topics.read(names[1], "read_uncommitted")) >= mark, f"{mark} records out", 120)
            live.kill()
            moment = time.monotonic()
            killed_at.append(len({r.value["n"] for r in topics.read(names[1])}))
            if number == 1:
                live.lose_disk()
            live.start()
            recovery.append(time.monotonic() - moment)
            restored += live.health()["restored"].get("counts", 0)
        producer.join(120)
        assert sent.is_set()
        until(lambda: len({r.value["n"] for r in topics.read(names[1])}) == RECORDS, "the last record", 120, 0.5)
        state = {key: live.ask("counts", str(key))["count"] for key in range(KEYS)}
        live.stop()
        out = topics.read(names[1])
        every = topics.read(names[1], "read_uncommitted")
    finally:
        live.kill()
        producer.join(120)
        streams.reset(application, *names)
    seen = Counter(record.value["n"] for record in out)
    right = Counter(n % KEYS for n in range(RECORDS))
    # The k-th record of a key must have been the k-th for the state, too: order and count in one.
    wrong = sum(record.value["count"] != record.value["n"] // KEYS + 1 for record in out)
    lost = RECORDS - len(seen)
    doubled = sum(count - 1 for count in seen.values())
    report(
        f"Kafka Streams killed {KILLS} times, {guarantee}",
        records=RECORDS,
        committed_at_kills=",".join(map(str, killed_at)),
        restored=restored,
        lost=lost,
        doubled=doubled,
        aborted_and_hidden=len(every) - len(out),
        wrong_counts_told=wrong,
        wrong_counts_in_state=sum(state[key] != right[key] for key in range(KEYS)),
        slowest_recovery=max(recovery),
    )
    assert set(seen) == set(range(RECORDS)), "lost"
    assert killed_at[0] < RECORDS, "the kills were to fall into the middle"
    assert restored > 0, "the state was to come back from the changelog"
    if guarantee == "exactly_once_v2":
        assert doubled == 0
        assert wrong == 0
        assert state == right


@pytest.mark.timeout(300)
def test_a_half_record_ends_a_naive_program_and_not_the_alarm(started):
    """The one ends with the cause in one line, the other sets the record aside and goes on."""
    from flow360.processing.streams import cold_chain

    started("kafka")
    application = f"fault-half-{time.time_ns()}"
    names = [f"{application}.{name}" for name in ("readings", "routes", "alarms", "refused", "out")]

    def naive(builder):
        from flow360.processing.streams.api import JSON, TEXT, Consumed, Produced

        builder.stream(names[0], Consumed.with_(TEXT, JSON)).to(names[4], Produced.with_(TEXT, JSON))

    broken = streams.run(naive, f"{application}-naive")
    alarm = streams.run(cold_chain.on(application), application)
    start = topics.millis("2026-05-07T10:00:00Z")
    warm = [
        (
            "VAN-01",
            {
                "run": "x",
                "reading_id": at,
                "van_id": "VAN-01",
                "sequence": number,
                "measured_at": topics.iso(at),
                "value": 9.0,
                "unit": "C",
            },
            at,
        )
        for number, at in enumerate(range(start, start + 8 * 60_000, 60_000), 1)
    ]
    try:
        topics.publish(names[1], [("VAN-01", b'{"route_id": 7', start)])
        half = [
            ("VAN-01", b'{"run": "x", "meas', start),
            ("VAN-01", b"[" * 4000, start),
            ("VAN-01", b"\0" * 900_000, start),
        ]
        topics.publish(names[0], [warm[0], *half, *warm[1:]])
        until(lambda: not broken.alive, "the naive program to end", 60)
        until(lambda: topics.read(names[2]), "the alarm", 60)
        refused, told, out = (topics.read(names[index]) for index in (3, 2, 4))
        report("half a record among readings", naive_out=len(out), naive_ended=broken.problem()[:40], told=len(told),
               refused=len(refused))  # fmt: skip
        assert "JSONDecodeError" in broken.problem()
        assert len(told) == 1
        causes = sorted(record.value["text"][:16] for record in refused)
        assert causes == sorted(["\0" * 16, "[" * 16, '{"route_id": 7', '{"run": "x", "me'])
    finally:
        alarm.stop()
        broken.kill()
        streams.reset(f"{application}-naive")
        streams.reset(application, *names)
