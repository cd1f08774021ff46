"""The vans' way, from the thermometer to the pager: it works, and loses nothing while its parts are killed."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import psutil
import pytest

from flow360 import clients
from flow360.ingestion.topics import drop_topics, ends, make_topics, read_all
from flow360.ingestion.van_messages import DEAD
from flow360.primeur.manifest import manifest
from flow360.primeur.vans import READINGS
from flow360.processing import alarms
from flow360.processing.streams import topics
from flow360.settings import settings
from tests.environment import FULL
from tests.faults.support import child, kill, line, recovered, report, until
from tests.lineage import at_rest

SERVICES = ("market-sensors", "vans-bridge", "kafka-streams", "alarms-sink", "prometheus")

SENT = 20_000 if FULL else 4_000
KILLS = 10 if FULL else 3
VANS = [f"VAN-{number}" for number in range(1000, 1020)]
PERIOD, WARM = 15, 10  # minutes from one warm spell of a van to its next, and the length of each
BEFORE = [f"VAN-{number}" for number in range(3000, 3020)]  # so many that each partition has one


@contextmanager
def no_alarms_of(*vans: str) -> Iterator[None]:
    """The warehouse without alarms of these vans, before and after."""

    def forget() -> None:
        with clients.postgres() as db:
            db.execute("delete from ops.alarms where van_id = any(%s)", [list(vans)])

    forget()
    yield
    forget()


def recorded(*vans: str) -> list[tuple]:
    """(van, since) of the alarms in the warehouse."""
    with clients.postgres() as db:
        return db.execute("select van_id, since from ops.alarms where van_id = any(%s)", [list(vans)]).fetchall()


@contextmanager
def at_mqtt(name: str, **options) -> Iterator:
    client = clients.mqtt(name, **options)
    try:
        yield client
    finally:
        client.disconnect()
        client.loop_stop()


def send(thermometers: Any, run: str, number: int, van: str, minute: int, at: datetime, value: float) -> None:
    """Publish a reading as a thermometer does: the van's one of this minute, measured and sent at `at`, in °C."""
    moment = topics.iso(topics.millis(at))
    body = {"run": run, "reading_id": number, "van_id": van, "sequence": minute + 1, "measured_at": moment}
    body |= {"sent_at": moment, "value": value, "unit": "C"}
    thermometers.publish(f"primeur/vans/{van}/temperature", json.dumps(body), qos=1)


def overtake(thermometers: Any) -> None:
    """Wait until what was on its way, at MQTT's broker or in Kafka, has arrived: what is sent now has, on each way."""
    run, nine = f"before-{time.time_ns()}", datetime(2026, 5, 7, 9, tzinfo=UTC)
    with no_alarms_of(*BEFORE):
        for minute in range(WARM):
            for number, van in enumerate(BEFORE, len(BEFORE) * minute + 1):
                send(thermometers, run, number, van, minute, nine + timedelta(minutes=minute), 9.0)
        until(lambda: len(recorded(*BEFORE)) == len(BEFORE), "what was on its way before", 60)


# --- it works ---------------------------------------------------------------------------------------------------------


@pytest.mark.timeout(200)
def test_the_evening_of_van_03_reaches_the_warehouse_and_the_pager(started):
    """One replay of 7 May: a row in ops.alarms, soon after the reading; somebody is paged; it is closed, and over."""
    started("market-sensors", "vans-bridge", "kafka-streams", "alarms-sink", "prometheus")
    run, heard, begun = f"evening-{time.time_ns()}", {}, datetime.now(UTC)

    def hear(_client, _userdata, message) -> None:
        if message.payload.startswith(b'{"run": "' + run.encode()) and message.payload.endswith(b"}"):
            heard.setdefault(json.loads(message.payload)["measured_at"], time.time())

    def paged() -> bool:
        return clients.prometheus().notified("ColdChainLost")["summary"].str.startswith("VAN-03 ").any()

    with at_mqtt("fault-overtake") as van:
        overtake(van)
    with at_mqtt("fault-evening", on_message=hear) as van, no_alarms_of("VAN-03"):
        van.subscribe("primeur/vans/VAN-03/temperature", qos=1)
        no_value = json.dumps({"run": "odd", "van_id": "VAN-03", "measured_at": "2026-05-07T09:00:00Z"})
        for odd in ("no reading", no_value):  # one that the bridge sets aside, one that the alarm does
            van.publish("primeur/vans/VAN-03/temperature", odd, qos=1).wait_for_publish(10)
        asked = {"id": run, "day": "2026-05-07", "vans": ["VAN-03"], "speed": 7200}
        van.publish("primeur/control/replay", json.dumps(asked), qos=1).wait_for_publish(10)
        until(lambda: recorded("VAN-03"), "the alarm in the warehouse", 60)
        with clients.postgres() as db:
            alarm = db.execute(
                "select since, reported_at, recorded_at, run, route_id, city from ops.alarms where van_id = 'VAN-03'"
            ).fetchone()
            until(paged, "the page", 60)
            db.execute(alarms.CLOSE, ["VAN-03"])
        until(lambda: not paged(), "the page to end", 60)
    until(lambda: not at_rest("vans", begun), "each arrow of README's picture to have carried something", 40)
    since, reported_at, recorded_at, told_by, *tour = alarm
    seconds = recorded_at.timestamp() - heard[topics.iso(topics.millis(reported_at))]
    report("VAN-03's reading of 15:38 UTC to its alarm in the warehouse", milliseconds=round(seconds * 1000))
    assert (since, reported_at) == (datetime(2026, 5, 7, 15, 33, tzinfo=UTC), datetime(2026, 5, 7, 15, 38, tzinfo=UTC))
    assert told_by == run
    assert tour == [manifest().incident.route_id, "Lyon"]
    assert seconds > 0


def test_what_cannot_be_a_reading_is_kept_whole_and_idle_readings_stay_behind(started):
    """Each with its cause, byte for byte, one that is too large in pieces; the alarm gets the one good reading."""
    started("vans-bridge")
    mark = f"odd-{time.time_ns()}"
    good = {"run": mark, "van_id": "VAN-98", "measured_at": "2026-05-07T15:00:00Z", "value": 4.0, "unit": "C"}
    odd = {
        "bad json": json.dumps(good)[:60],
        "wrong van": json.dumps({**good, "van_id": "VAN-97"}),
        "wrong schema": json.dumps({**good, "measured_at": "2026-05-07T15:00:00"}),
        "ahead of its time": json.dumps(
            {**good, "sent_at": good["measured_at"], "measured_at": "2026-05-08T15:00:00Z"}
        ),
        "too large": json.dumps({**good, "note": "é" * 1_000_000}, ensure_ascii=False),
    }
    idle = json.dumps({**good, "run": f"idle-{mark}"})
    with at_mqtt("fault-odd") as van:
        for text in [*odd.values(), idle, json.dumps(good)]:
            van.publish("primeur/vans/VAN-98/temperature", text, qos=1).wait_for_publish(10)
    until(lambda: [r for r in read_all(READINGS) if mark.encode() in (r.value or b"")], "the good one", 30)
    (passed,) = [r for r in read_all(READINGS) if mark.encode() in (r.value or b"")]
    found: dict[str, bytes] = {}
    parts = 0
    for letter in read_all(DEAD):
        about = {name.removeprefix("error."): said.decode() for name, said in letter.headers}
        if letter.key == b"VAN-98" and about["topic"] == "primeur/vans/VAN-98/temperature":
            number, count = map(int, about["part"].split("/"))
            found[about["cause"]] = (b"" if number == 1 else found[about["cause"]]) + letter.value
            parts += 1
    report("what cannot be a reading", sent=len(odd) + 2, passed=1, letters=len(found), parts=parts)
    assert {cause: text.encode() for cause, text in odd.items()} == found
    assert (passed.key, passed.value) == (b"VAN-98", json.dumps(good).encode())
    assert passed.timestamp == topics.millis(good["measured_at"])


# --- its parts are killed ---------------------------------------------------------------------------------------------


class Ear:
    """What arrives in `vans.readings` of one run from now on: (van, measured_at) -> how often."""

    def __init__(self, run: str) -> None:
        from confluent_kafka import Consumer, TopicPartition

        self.heard: Counter[tuple[str, str]] = Counter()
        self._run, self._over = run, threading.Event()
        # No group: one that forms again, after the broker was away, would begin at the end.
        self._reader = Consumer(clients.confluent(group_id="ear", enable_auto_commit=False) | {"log_level": 0})
        self._reader.assign([TopicPartition(READINGS, number, end) for number, (_, end) in ends(READINGS).items()])
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    def _listen(self) -> None:
        while not self._over.is_set():
            for record in self._reader.consume(500, timeout=0.1):
                if record.error() is None and (reading := json.loads(record.value())).get("run") == self._run:
                    self.heard[reading["van_id"], reading["measured_at"]] += 1
        self._reader.close()

    def close(self) -> None:
        self._over.set()
        self._thread.join(10)


@pytest.mark.timeout(900 if FULL else 300)
def test_bridge_and_both_brokers_killed_while_readings_pass(stack, started):
    """The bridge by SIGKILL some times, then Kafka by SIGKILL, then MQTT's broker restarted: nothing that MQTT had
    acknowledged is lost, and the warehouse has each alarm once."""
    started("vans-bridge", "kafka-streams", "alarms-sink")
    run, start = f"fault-{time.time_ns()}", datetime.now(UTC).replace(second=0, microsecond=0)
    taken: set[int] = set()  # what MQTT's broker has acknowledged, also after a connection was lost

    def publish() -> None:
        for number in range(SENT):
            minute, van = number // len(VANS), VANS[number % len(VANS)]
            value = 9.0 if minute % PERIOD < WARM else 4.0
            send(thermometers, run, number + 1, van, minute, start + timedelta(minutes=minute), value)
            while number - len(ear.heard) > SENT // 8:  # so that it is still going on when the kills come
                time.sleep(0.01)

    def passed(share: float) -> None:
        until(lambda: len(ear.heard) >= SENT * share, f"{share:.0%} of the readings", 120)

    slowest = 0.0
    with no_alarms_of(*VANS), at_mqtt("fault-thermometers", clean_session=False) as thermometers:
        thermometers.reconnect_delay_set(1, 1)
        thermometers.on_publish = lambda _client, _userdata, number, *_: taken.add(number)
        ear = Ear(run)
        publisher = threading.Thread(target=publish)
        publisher.start()
        try:
            for number in range(KILLS):
                passed(0.6 * (number + 1) / (KILLS + 1))
                slowest = max(slowest, recovered(stack, "vans-bridge", kill(stack, "vans-bridge")))
            passed(0.6)
            slowest = max(slowest, recovered(stack, "kafka", kill(stack, "kafka")))
            passed(0.8)
            psutil.Process(stack.host.pids()["mosquitto"]).terminate()
            publisher.join(120)
            until(lambda: len(taken) == SENT, "MQTT to have taken everything", 60)
            until(lambda: len(ear.heard) == SENT, "the last reading in Kafka", 60)
            due = {(van, start + timedelta(minutes=m)) for van in VANS for m in range(0, SENT // len(VANS) - 5, PERIOD)}
            until(lambda: len(recorded(*VANS)) >= len(due), "the alarms in the warehouse", 60)
            found = Counter(recorded(*VANS))
        finally:
            publisher.join(120)
            ear.close()
    report(
        f"bridge killed {KILLS} times, Kafka killed, MQTT's broker restarted",
        acknowledged=len(taken),
        lost=SENT - len(ear.heard),
        doubled_in_kafka=ear.heard.total() - len(ear.heard),
        alarms=found.total(),
        alarms_missing=len(due - set(found)),
        doubled_after_the_sink=found.total() - len(due),
        slowest_recovery=slowest,
    )
    assert len(taken) == SENT == len(ear.heard)
    assert found == dict.fromkeys(due, 1)


# Writes as the service does, and waits to be killed where it would commit.
DYING = """
import signal, sys
from kafka import KafkaConsumer
from flow360.processing.alarms import Alarms
def commit(consumer):
    print("written", flush=True)
    signal.pause()
KafkaConsumer.commit = commit
Alarms(*sys.argv[1:]).run()
"""


@pytest.mark.timeout(200)
def test_sink_killed_between_write_and_commit_and_the_warehouse_away(stack, started):
    """What was written and not committed comes again, and finds its rows."""
    started("kafka", "postgres-dwh")
    name = f"fault-alarms-{time.time_ns()}"
    names, kafka = (f"{name}.alarms", f"{name}.dead"), settings().kafka_bootstrap
    make_topics(kafka, names)
    vans = [f"VAN-{number}" for number in range(2000, 2120)]

    def tell(some: list[str]) -> None:
        at = {"since": "2026-05-07T10:00:00+00:00", "reported_at": "2026-05-07T10:05:00+00:00"}
        topics.publish(names[0], [(van, {"run": name, "celsius": 9.5, **at}, 0) for van in some])
        topics.publish(names[0], [("VAN-2999", {"run": f"lesson-{name}", "celsius": 9.5, **at}, 0)])

    def count(outcome: str) -> float:
        return alarms.RECORDS.labels(outcome)._value.get()

    sink, before = alarms.Alarms(kafka, *names, name), {one: count(one) for one in ("known", "exercise")}
    thread = threading.Thread(target=sink.run)
    try:
        with no_alarms_of(*vans):
            tell(vans[:100])
            topics.publish(names[0], [("VAN-2000", b'{"since": "2026-05-07T10:', 0)])
            with child(DYING, kafka, *names, name) as dying:
                line(dying, "written")
                written = len(recorded(*vans))
            thread.start()
            until(lambda: len(recorded(*vans)) == 100, "the first hundred", 60)
            away = kill(stack, "postgres-dwh")
            tell(vans[100:])
            recovered(stack, "postgres-dwh", away)
            until(lambda: len(recorded(*vans)) == len(vans), "the rest", 60)
            sink.stop()
            thread.join(30)
            found = Counter(recorded(*vans))
    finally:
        sink.stop()
        if thread.is_alive():
            thread.join(30)
        dead = read_all(names[1])
        drop_topics(*names)
    report(
        "sink killed between write and commit, then the warehouse killed",
        told=len(vans),
        written_before_the_kill=written,
        came_again=int(count("known") - before["known"]),
        exercises=int(count("exercise") - before["exercise"]),
        rows=found.total(),
        lost=len(set(vans) - {van for van, _ in found}),
        doubled=found.total() - len(found),
        dead=len(dead),
    )
    assert written > 0
    assert count("known") - before["known"] >= written
    assert count("exercise") - before["exercise"] >= 2
    assert recorded("VAN-2999") == [], "a van of a lesson"
    assert sorted(van for van, _ in found.elements()) == vans
    assert {dict(letter.headers)["error.cause"] for letter in dead} == {b"bad json"}
