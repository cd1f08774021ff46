"""The vans' way without services: what can be a reading, in which order is acknowledged, what is an alarm's row."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
import requests
from prometheus_client import CollectorRegistry, Gauge

from flow360.ingestion import bridge
from flow360.ingestion.bridge import Bridge, Written
from flow360.ingestion.dead_letters import BadRecord
from flow360.ingestion.van_messages import judge, letters
from flow360.monitoring.exposition import Exposition
from flow360.primeur.vans.replay import messages, tours
from flow360.processing import alarms
from flow360.processing.streams import cold_chain, topics

TOPIC = "primeur/vans/VAN-03/temperature"
GOOD = {"run": "r", "van_id": "VAN-03", "measured_at": "2026-05-07T15:38:00Z", "value": 9.4, "unit": "C"}


def test_every_message_of_the_known_day_is_a_reading_or_cut():
    """What the bridge passes on, the alarm can judge: one contract for both."""
    bad = []
    for message in messages("2026-05-07"):
        try:
            van, moment = judge(message.topic, message.payload("r"))
        except BadRecord as error:
            bad.append((message.kind, error.cause))
        else:
            assert (van, moment) == (message.van_id, topics.millis(message.body["measured_at"]))
            assert not cold_chain.parse(message.payload("r").decode()).get("cause", "").startswith("malformed")
    assert bad == [("bad_row", "bad json")] * 6


@pytest.mark.parametrize(
    ("cause", "topic", "change"),
    [
        ("wrong van", "primeur/vans/VAN-04/temperature", {}),
        ("wrong schema", "primeur/vans//temperature", {"van_id": ""}),
        ("wrong schema", "primeur/vans/VAN-٣٣/temperature", {"van_id": "VAN-٣٣"}),
        ("wrong schema", TOPIC, {"van_id": None}),
        ("wrong schema", TOPIC, {"measured_at": "2026-05-07T15:38:00"}),
        ("wrong schema", TOPIC, {"measured_at": "2026-02-30T15:38:00Z"}),
        ("wrong schema", TOPIC, {"measured_at": "20260507T153800Z"}),
        ("wrong schema", TOPIC, {"measured_at": "1969-12-31T23:59:59Z"}),
        ("wrong schema", TOPIC, {"measured_at": 1778168280}),
        ("ahead of its time", TOPIC, {"sent_at": "2026-05-07T15:35:59Z"}),
        ("ahead of its time", TOPIC, {"measured_at": "2099-12-31T00:00:00Z"}),
        ("wrong schema", TOPIC, {"sent_at": "today"}),
        ("wrong schema", TOPIC.replace("temperature", "tour"), {"departed_at": "8:30"}),
        ("too large", TOPIC, {"note": "x" * 900_000}),
    ],
)
def test_what_cannot_be_a_reading(cause, topic, change):
    with pytest.raises(BadRecord) as caught:
        judge(topic, json.dumps(GOOD | change).encode())
    assert caught.value.cause == cause


@pytest.mark.parametrize("payload", [b"", b"{", b"[1]", b"null", b"[" * 4000, b"\xff\xfe", b'{"run": "r", "van_'])
def test_bytes_that_are_no_object(payload):
    with pytest.raises(BadRecord):
        judge(TOPIC, payload)


def test_a_clock_may_run_two_minutes_ahead_and_a_message_may_come_late():
    for sent_at in ("2026-05-07T15:36:00Z", "2026-05-14T15:38:00Z", "2026-05-07T17:38:00+02:00"):
        assert judge(TOPIC, json.dumps(GOOD | {"sent_at": sent_at}).encode())[0] == "VAN-03"


def test_a_van_that_leaves_is_passed_on_to_the_tours(running):
    tour = {"run": "r", "departed_at": "2026-05-07T14:30:00Z", **next(iter(tours("2026-05-07").values()))}
    topic = f"primeur/vans/{tour['van_id']}/tour"
    payload = json.dumps(tour).encode()
    running.bridge._take(None, None, SimpleNamespace(mid=1, qos=1, dup=False, topic=topic, payload=payload))
    ((record, _),) = running.kafka.produced
    assert (record["topic"], record["key"], record["value"]) == ("vans.routes", tour["van_id"], payload)
    assert record["timestamp"] == topics.millis(tour["departed_at"])
    assert cold_chain.tour(payload.decode()) == {"route_id": tour["route_id"], "city": tour["city"]}
    running.kafka.acknowledges(0)
    assert running.acknowledged == [1]


def test_a_value_that_the_alarm_refuses_is_still_a_reading():
    for value, unit in ((None, "C"), (300, "C"), ("warm", "K")):
        assert judge(TOPIC, json.dumps(GOOD | {"value": value, "unit": unit}).encode())[0] == "VAN-03"


@pytest.mark.parametrize(("size", "parts"), [(0, 1), (10, 1), (900_000, 1), (900_001, 2), (2_000_000, 3)])
def test_a_dead_letter_is_whole(size, parts):
    payload = b"x" * size
    found = list(letters(TOPIC, payload, BadRecord("too large", "why")))
    assert b"".join(value for value, _ in found) == payload
    assert [dict(headers)["error.part"] for _, headers in found] == [
        f"{n}/{parts}".encode() for n in range(1, parts + 1)
    ]
    assert {dict(headers)["error.cause"] for _, headers in found} == {b"too large"}


# --- acknowledgements -------------------------------------------------------------------------------------------------


class Kafka:
    """A producer that acknowledges when the test says so."""

    def __init__(self) -> None:
        self.produced: list = []

    def produce(self, topic, on_delivery, **record) -> None:
        self.produced.append(({"topic": topic, **record}, on_delivery))

    def acknowledges(self, number: int, error=None) -> None:
        self.produced[number][1](error, None)


@pytest.fixture
def running(monkeypatch):
    """A bridge between an MQTT client that notes what is acknowledged, and Kafka as above."""
    monkeypatch.setattr(bridge, "Producer", lambda _: Kafka())
    one = Bridge(("127.0.0.1", 1), "127.0.0.1:1")
    acknowledged: list[int] = []
    monkeypatch.setattr(one._client, "ack", lambda mid, qos: acknowledged.append(mid))

    def said(mid: int, dup: bool = False, **change) -> None:
        payload = json.dumps(GOOD | {"reading_id": mid} | change).encode()
        one._take(None, None, SimpleNamespace(mid=mid, qos=1, dup=dup, topic=TOPIC, payload=payload))

    return SimpleNamespace(bridge=one, kafka=one._producer, acknowledged=acknowledged, said=said)


def test_mqtt_hears_of_a_message_after_kafka_has_it_and_in_the_order_of_arrival(running):
    for mid in (1, 2, 3):
        running.said(mid)
    running.kafka.acknowledges(1)
    assert running.acknowledged == []
    running.kafka.acknowledges(0)
    assert running.acknowledged == [1, 2]
    running.kafka.acknowledges(2)
    assert running.acknowledged == [1, 2, 3]


def test_an_idle_reading_is_acknowledged_in_its_turn_and_goes_no_further(running):
    running.said(1)
    running.said(2, run="idle-x-1")
    assert (len(running.kafka.produced), running.acknowledged) == (1, [])
    running.kafka.acknowledges(0)
    assert running.acknowledged == [1, 2]


def test_what_kafka_still_has_before_it_is_not_sent_twice_when_mqtt_sends_it_again(running):
    running.said(1)
    running.said(2)
    running.bridge._disconnected(None, None, None, "gone", None)
    running.said(1, dup=True)
    running.said(2, dup=True)
    assert len(running.kafka.produced) == 2
    running.kafka.acknowledges(0)
    running.kafka.acknowledges(1)
    assert running.acknowledged == [1, 2]


def test_what_kafka_took_and_mqtt_did_not_hear_of_is_acknowledged_at_once(running):
    running.said(1)
    running.bridge._disconnected(None, None, None, "gone", None)
    running.kafka.acknowledges(0)
    assert running.acknowledged == [], "that was the number of a message of the old connection"
    running.said(1, dup=True)
    assert (len(running.kafka.produced), running.acknowledged) == (1, [1])


def test_an_id_that_means_another_message_now_is_another_message(running):
    running.said(1)
    running.bridge._disconnected(None, None, None, "gone", None)
    running.said(1, dup=True, value=4.0)
    assert len(running.kafka.produced) == 2
    running.kafka.acknowledges(0)
    assert running.acknowledged == []
    running.kafka.acknowledges(1)
    assert running.acknowledged == [1]


def test_what_kafka_refuses_ends_the_bridge_and_nothing_behind_it_is_acknowledged(running):
    running.said(1)
    running.said(2)
    running.kafka.acknowledges(0, SimpleNamespace(str=lambda: "no such topic"))
    running.kafka.acknowledges(1)
    running.said(3)
    assert running.acknowledged == []
    assert running.bridge.error == "kafka: no such topic"
    assert len(running.kafka.produced) == 2
    assert not running.bridge.health()[0]


def test_the_memory_of_what_was_written_is_bounded():
    written = Written(3)
    for number in range(5):
        written.add(str(number).encode())
    assert [number for number in range(5) if str(number).encode() in written] == [2, 3, 4]


# --- alarms -----------------------------------------------------------------------------------------------------------

ALARM = {
    "run": "r", "since": "2026-05-07T15:33:00+00:00", "reported_at": "2026-05-07T15:38:00+00:00", "celsius": 9.39,
    "route_id": 87, "city": "Lyon",
}  # fmt: skip


def record(value: object, key: bytes | None = b"VAN-03") -> SimpleNamespace:
    return SimpleNamespace(key=key, value=json.dumps(value).encode(), partition=2, offset=7)


def test_the_row_of_an_alarm():
    state = {"run": "r", "since": ALARM["since"], "at": ALARM["reported_at"], "celsius": 9.39}
    told = cold_chain.alarm(state, {"route_id": 87, "city": "Lyon"})
    assert told == ALARM
    row = alarms.alarm(record(told))
    assert row["since"] == datetime(2026, 5, 7, 15, 33, tzinfo=UTC)
    assert (row["van_id"], row["route_id"], row["kafka_partition"], row["kafka_offset"]) == ("VAN-03", 87, 2, 7)
    assert alarms.alarm(record(cold_chain.alarm(state, None)))["city"] is None


@pytest.mark.parametrize(
    ("value", "key"),
    [
        (ALARM, None),
        (ALARM, b"lorry"),
        ([], b"VAN-03"),
        ({**ALARM, "since": "2026-05-07T15:33:00"}, b"VAN-03"),
        ({**ALARM, "since": "yesterday"}, b"VAN-03"),
        ({**ALARM, "celsius": "hot"}, b"VAN-03"),
        ({**ALARM, "route_id": "87"}, b"VAN-03"),
        ({**ALARM, "city": 5}, b"VAN-03"),
    ],
)
def test_what_is_not_an_alarm(value, key):
    with pytest.raises(BadRecord):
        alarms.alarm(record(value, key))


# --- what they say of themselves --------------------------------------------------------------------------------------


def test_metrics_and_health_are_for_this_machine_and_the_other_containers_only():
    registry = CollectorRegistry()
    Gauge("open", "", registry=registry).set(3)
    well = [True]
    served = Exposition("127.0.0.1", 0, "vans-bridge", lambda: (well[0], {"waiting": 0}), registry)
    url = f"http://127.0.0.1:{served.port}"
    try:
        assert "open 3.0" in requests.get(f"{url}/metrics", timeout=5).text
        assert requests.get(f"{url}/metrics", headers={"Host": "vans-bridge:9309"}, timeout=5).status_code == 200
        assert requests.get(f"{url}/health", timeout=5).json() == {"waiting": 0}
        well[0] = False
        assert requests.get(f"{url}/health", timeout=5).status_code == 503
        assert requests.get(f"{url}/", timeout=5).status_code == 404
        assert requests.post(f"{url}/metrics", timeout=5).status_code == 405
        for headers in ({"Host": "evil.example"}, {"Origin": "http://evil.example"}, {"Origin": "null"}):
            for path in ("/metrics", "/health"):
                assert requests.get(url + path, headers=headers, timeout=5).status_code == 403
    finally:
        served.close()
