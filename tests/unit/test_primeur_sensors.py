"""The vans' replays without a broker: what a request may say, how it is paced, what it counts."""

from __future__ import annotations

import json
from queue import SimpleQueue
from threading import Event

import pytest

from flow360.primeur.manifest import manifest
from flow360.primeur.plan import DAY
from flow360.primeur.vans.replay import Request, messages, play
from flow360.primeur.vans.sensors import Sensors

DAY_ = DAY.isoformat()


def replay(request: Request, stop_after: int | None = None) -> tuple[list[tuple[str, bytes]], dict, bool, list[float]]:
    """Play with a clock that jumps: (what was published, the counts, complete, the moments of publishing)."""
    now, sent, moments, departures = [0.0], [], [], []

    def pause(seconds: float) -> bool:
        now[0] += seconds
        return stop_after is not None and len(sent) >= stop_after

    def publish(topic: str, payload: bytes) -> None:
        if topic.endswith("/tour"):
            departures.append((topic.split("/")[2], json.loads(payload)["half"]))
            return
        sent.append((topic, payload))
        moments.append(now[0])

    tally, complete = play(request, publish, pause, lambda: now[0])
    assert len(departures) == len(set(departures)), "each departure is said once"
    assert complete <= ({van for van, _ in departures} == {topic.split("/")[2] for topic, _ in sent})
    return sent, tally.as_dict(), complete, moments


def test_a_replay_tells_the_truth_about_itself() -> None:
    sent, counts, complete, moments = replay(Request("a"))
    m = manifest()
    planted = {kind: m.count(channel="mqtt", kind=kind) for kind in ("duplicate", "late", "not_a_number", "bad_row")}
    assert complete
    assert counts == {
        "sent": len(sent),
        "readings": m.head["messages"]["readings"],
        "doubled": planted["duplicate"],
        "late": planted["late"],
        "not_a_number": planted["not_a_number"],
        "wrong_unit": m.count(channel="mqtt", kind="wrong_unit"),
        "malformed": planted["bad_row"],
    }
    assert all(payload.startswith(b'{"run": "a"') for _, payload in sent)
    assert moments == sorted(moments)
    assert 9.9 < moments[-1] < 10.3  # ten hours at 3,600


def test_two_replays_differ_only_in_their_mark() -> None:
    first, second = (replay(Request(name))[0] for name in ("a", "b"))
    assert [(t, p.replace(b'"a"', b'"b"', 1)) for t, p in first] == second


def test_a_van_says_which_tour_it_sets_out_on_before_its_first_reading() -> None:
    said: list[tuple[str, dict]] = []
    play(
        Request("a", speed=0, vans=("VAN-03", "VAN-09")),
        lambda topic, payload: said.append((topic, json.loads(payload))) if payload.endswith(b"}") else None,
        lambda _: False,
    )
    tours = [(place, one) for place, (topic, one) in enumerate(said) if topic.endswith("/tour")]
    assert [(one["van_id"], one["half"]) for _, one in tours] == [
        ("VAN-03", "am"), ("VAN-09", "am"), ("VAN-03", "pm"), ("VAN-09", "pm")
    ]  # fmt: skip
    evening = next(one for _, one in tours if (one["van_id"], one["half"]) == ("VAN-03", "pm"))
    incident = manifest().incident
    assert (evening["route_id"], evening["run"], evening["city"]) == (incident.route_id, "a", "Lyon")
    for place, one in tours:
        first = next(r for _, r in said[place + 1 :] if r["van_id"] == one["van_id"] and "value" in r)
        assert first["measured_at"] == one["departed_at"]


def test_some_vans_only_and_as_fast_as_can_be() -> None:
    sent, counts, _, moments = replay(Request("a", speed=0, vans=("VAN-03",)))
    assert {topic for topic, _ in sent} == {"primeur/vans/VAN-03/temperature"}
    assert counts["readings"] == 480
    assert set(moments) == {0.0}
    hot = {b["measured_at"] for _, p in sent if (b := json.loads(p))["value"] and b["value"] > 8}
    assert min(hot) >= manifest().incident.above_limit_from
    assert len(hot) >= manifest().incident.readings_above_limit - counts["not_a_number"]


def test_a_replay_that_follows_a_clock() -> None:
    asked = b'{"clock": "2026-05-07T10:30:00+02:00", "since": "2026-05-07T10:20:00Z", "speed": 60}'
    request = Request.parse(asked, "f")
    sent, counts, complete, moments = replay(request)
    assert complete
    first, last = (json.loads(payload) for payload in (sent[0][1], sent[-1][1]))
    assert (first["measured_at"], last["measured_at"]) == ("2026-05-07T10:20:00Z", "2026-05-07T18:29:00Z")
    assert counts["sent"] == len(sent) == sum(m.at >= 110 * 60 for m in messages(DAY_))
    # the clock stood at 10:30 in Paris, 8:30 in UTC: 110 minutes of the day are 110 seconds at this speed
    assert (round(moments[0]), round(moments[-1])) == (110, 599)
    late = replay(Request.parse(b'{"clock": "2026-05-07T16:00:00Z", "speed": 60}', "f"))
    assert late[1]["readings"] == manifest().head["messages"]["readings"]
    overdue = sum(moment == 0 for moment in late[3])
    assert overdue == sum(m.at <= 7.5 * 3600 for m in messages(DAY_)) > 3000  # at once; the rest in its time
    assert round(late[3][-1]) == 149


def test_replays_that_follow_a_clock_take_each_others_place() -> None:
    sensors = Sensors("127.0.0.1", 1)  # nothing is sent before it runs
    begun, ended = SimpleQueue(), SimpleQueue()

    def replay(asked: Request, enough: Event) -> None:
        begun.put(asked)
        ended.put(enough.wait(20))

    sensors.replay = replay
    first, second = Request("a", clock=1.0), Request("a", clock=2.0)
    for asked in (first, second):
        sensors._follow(asked)
        assert begun.get(timeout=20) == asked
        assert sensors._is_following()
    assert ended.get(timeout=20)  # the first one, before the second began
    sensors._following["a"].end()
    assert ended.get(timeout=20)
    assert not sensors._is_following()


def test_a_replay_can_be_stopped() -> None:
    sent, counts, complete, _ = replay(Request("a"), stop_after=100)
    assert (len(sent), counts["sent"], complete) == (100, 100, False)


def test_every_day_has_readings() -> None:
    for day in ("2026-05-04", "2026-05-11", "2026-10-25", "2027-03-28"):
        assert len(messages(day)) == 5760
        assert {m.body["measured_at"][:10] for m in messages(day)} == {day}
    numbers = [{m.body["reading_id"] for m in messages(f"2026-05-{day:02}")} for day in range(4, 14)]
    assert len(set.union(*numbers)) == sum(map(len, numbers)) == 10 * 5760
    assert [m.body["van_id"] for m in messages("2026-05-05")[:12]] == [f"VAN-{n:02d}" for n in range(1, 13)]


def test_a_request_may_be_empty() -> None:
    assert Request.parse(b"", "fallback") == Request.parse(b"{}", "fallback") == Request("fallback")
    full = b'{"id": "x", "day": "2026-05-05", "speed": 0, "vans": ["VAN-01"]}'
    assert Request.parse(full, "") == Request("x", "2026-05-05", 0.0, ("VAN-01",))


@pytest.mark.parametrize(
    ("payload", "problem"),
    [
        (b"{", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[]", "not a JSON object"),
        (b'{"van": []}', "unknown field 'van'"),
        (b'{"id": "a/b"}', "id:"),
        (b'{"id": "#"}', "id:"),
        (b'{"id": 5}', "id:"),
        (b'{"id": "idle-1"}', "id:"),
        (b'{"day": "2020-01-01"}', "day: a date from 2026-05-04 to 2035-12-31"),
        (b'{"day": "20260507"}', "day: a date, as 2026-05-07"),
        (b'{"clock": "10:30"}', "clock: a moment"),
        (b'{"clock": "2026-05-07T10:30:00"}', "clock: a moment"),
        (b'{"since": 5}', "since: a moment"),
        (b'{"day": ["2026-05-07"]}', "day:"),
        (b'{"speed": -1}', "speed:"),
        (b'{"speed": true}', "speed:"),
        (b'{"speed": Infinity}', "speed:"),
        (b'{"speed": NaN}', "speed:"),
        (b'{"speed": 1' + b"0" * 400 + b"}", "speed:"),
        (b"[" * 4000, "not JSON"),
        (b'{"vans": ["VAN-99"]}', "vans:"),
        (b'{"vans": "VAN-01"}', "vans:"),
    ],
)
def test_a_bad_request_has_one_line(payload: bytes, problem: str) -> None:
    with pytest.raises(ValueError, match=problem) as caught:
        Request.parse(payload, "f")
    assert "\n" not in str(caught.value)
