"""The checks of 04a: topologies are asked with known records (TopologyTestDriver), the last one live, over Kafka."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from flow360.checks.verdict import NotYet, Verdict, exercise, expect, expect_equal, expect_type, explain, limited
from flow360.errors import FlowError, ServiceError
from flow360.processing.streams import Live, topics
from flow360.waiting import wait_for

Topology = Callable[[Any], None]
Given = Sequence[tuple[str, str, Any, str]]  # topic, key, value, time of day in UTC


def drive(name: str, topology: Topology, given: Given, out: str) -> list[topics.Record]:
    """What comes out on a topic when these records pass through the learner's topology."""
    expect(callable(topology), f"{name}: expected a function that takes a builder, found {type(topology).__name__}")
    from flow360.processing.streams.driver import Driver

    def run() -> list[topics.Record]:
        with Driver(topology) as driver:
            for topic, key, value, at in given:
                driver.send(topic, key, value, at=f"2026-05-07T{at}Z")
            return driver.read(out)

    try:
        return limited(run, 60, name)()
    except Verdict:
        raise
    except FlowError as error:  # what a function of the topology raised, or a topic that it does not know
        raise NotYet(f"{name}: {error}") from error
    except Exception as error:  # no service takes part: whatever it is, it is the topology's
        raise NotYet(explain(error, {name: topology})) from error


def dicts(name: str, records: list[topics.Record], fields: set[str]) -> list[dict[str, Any]]:
    """The values, each a dict with exactly these fields."""
    for record in records:
        expect_type(f"{name}: a value", record.value, dict)
        if set(record.value) != fields:
            raise NotYet(f"{name}: expected values with the fields {sorted(fields)}, found {sorted(record.value)}")
    return [record.value for record in records]


@exercise
def clean_celsius(clean: Topology) -> None:
    """readings -> celsius: {"celsius": …} for each reading with a value, °F converted."""
    given = [
        ("readings", "VAN-01", {"value": 4.5, "unit": "C"}, "10:00:00"),
        ("readings", "VAN-08", {"value": 41.0, "unit": "F"}, "10:00:01"),
        ("readings", "VAN-02", {"value": None, "unit": "C"}, "10:00:02"),
        ("readings", "VAN-08", {"value": None, "unit": "F"}, "10:00:03"),
        ("readings", "VAN-03", {"value": 0.0, "unit": "C"}, "10:00:04"),
        ("readings", "VAN-08", {"value": 0.0, "unit": "F"}, "10:00:05"),
        ("readings", "VAN-04", {"value": 9.1, "unit": "C"}, "10:00:06"),
    ]
    found = drive("clean", clean, given, "celsius")
    values = [value["celsius"] for value in dicts("clean", found, {"celsius"})]
    expect(None not in values, "clean: a reading without a value came out; nothing can be computed with it")
    keys = [record.key for record in found]
    gone = {"VAN-03"} - set(keys)
    expect(not gone, "clean: the reading of 0.0 °C is missing: it is a temperature, and None is not")
    expect_equal(
        "clean: the keys on `celsius`", found=keys, expected=[k for _, k, v, _ in given if v["value"] is not None]
    )
    truth = [4.5, 5.0, 0.0, -17.78, 9.1]
    for key, value, expected in zip(keys, values, truth, strict=True):
        why = "°C = (°F - 32) / 1.8, to two decimals, and only what is °F"
        expect_type("clean: celsius", value, float)
        expect(abs(value - expected) < 0.001, f"clean: {key}: expected {expected} °C, found {value}: {why}")


@exercise
def average_per_van(averages: Topology) -> None:
    """celsius -> averages: {"from", "n", "average"} by van and five minutes, 15 minutes of grace."""
    given = [
        ("celsius", "VAN-01", {"celsius": 4.0}, "10:00:00"),
        ("celsius", "VAN-02", {"celsius": 7.0}, "10:01:00"),
        ("celsius", "VAN-01", {"celsius": 4.5}, "10:02:00"),
        ("celsius", "VAN-01", {"celsius": 6.0}, "10:04:59"),
        ("celsius", "VAN-01", {"celsius": 8.0}, "10:05:00"),
        ("celsius", "VAN-01", {"celsius": 9.0}, "10:19:00"),
        ("celsius", "VAN-01", {"celsius": 1.55}, "10:03:00"),  # late, within grace by a minute
        ("celsius", "VAN-01", {"celsius": 9.0}, "10:20:01"),
        ("celsius", "VAN-01", {"celsius": 1.0}, "10:01:00"),  # too late: 10:05 + 15 has passed
    ]
    found = drive("averages", averages, given, "averages")
    values = dicts("averages", found, {"from", "n", "average"})
    last = {(record.key, value["from"]): value for record, value in zip(found, values, strict=True)}
    starts = sorted({value["from"] for value in values})
    expected = [f"2026-05-07T10:{m:02d}:00Z" for m in (0, 5, 15, 20)]
    expect_equal("averages: the windows (`from`)", found=starts, expected=expected, why="five minutes each, in UTC")
    first = last.get(("VAN-01", expected[0]))
    expect(first is not None, "averages: nothing for VAN-01 under its own key: is the key the van, as text?")
    expect(first["n"] != 5, "averages: a reading that came after the grace of 15 minutes was still counted")
    expect_equal(
        "averages: n of VAN-01 from 10:00",
        found=first["n"],
        expected=4,
        why="10:03 came within the grace",
    )
    why = "of 4.0, 4.5, 6.0 and 1.55, to two decimals"
    expect_equal("averages: average of VAN-01 from 10:00", found=first["average"], expected=4.01, why=why)
    other = last.get(("VAN-02", expected[0]))
    expect(other == {"from": expected[0], "n": 1, "average": 7.0}, f"averages: VAN-02 from 10:00: found {other}")
    expect_equal("averages: average of VAN-01 from 10:05", found=last["VAN-01", expected[1]]["average"], expected=8.0)


@exercise
def on_tour(toured: Topology) -> None:
    """celsius + tours -> on-tour: {"celsius", "route_id", "city"}, None where the van has no tour."""
    given = [
        ("celsius", "VAN-01", {"celsius": 3.0}, "08:00:00"),
        ("tours", "VAN-01", {"route_id": 73, "half": "am", "city": "Paris"}, "08:30:00"),
        ("tours", "VAN-02", {"route_id": 74, "half": "am", "city": "Lyon"}, "08:30:00"),
        ("celsius", "VAN-01", {"celsius": 4.0}, "09:00:00"),
        ("celsius", "VAN-02", {"celsius": 5.0}, "09:00:00"),
        ("tours", "VAN-01", {"route_id": 85, "half": "pm", "city": "Paris"}, "14:30:00"),
        ("celsius", "VAN-01", {"celsius": 6.0}, "15:00:00"),
        ("tours", "VAN-01", None, "18:30:00"),
        ("celsius", "VAN-01", {"celsius": 7.0}, "19:00:00"),
    ]
    found = drive("toured", toured, given, "on-tour")
    values = dicts("toured", found, {"celsius", "route_id", "city"})
    rows = [(record.key, v["celsius"], v["route_id"], v["city"]) for record, v in zip(found, values, strict=True)]
    expected = [
        ("VAN-01", 3.0, None, None),
        ("VAN-01", 4.0, 73, "Paris"),
        ("VAN-02", 5.0, 74, "Lyon"),
        ("VAN-01", 6.0, 85, "Paris"),
        ("VAN-01", 7.0, None, None),
    ]
    lost = [row for row in expected if row[:2] not in [one[:2] for one in rows]]
    if lost:
        raise NotYet(
            f"toured: the reading {lost[0][1]} °C of {lost[0][0]} is missing: it had no tour, but it is a reading"
        )
    expect_equal("toured: records on `on-tour`", found=len(rows), expected=len(expected), why="one for each reading")
    for row, right in zip(rows, expected, strict=True):
        expect_equal(
            f"toured: {right[1]} °C of {right[0]}", found=row[2:], expected=right[2:], why="the tour of that time"
        )


@exercise
def final_count(counts: Topology) -> None:
    """celsius -> counts: one {"from", "n"} for each van and ten minutes, when the grace of five has passed."""
    given = [
        ("celsius", "VAN-01", {"celsius": 4.0}, "10:00:00"),
        ("celsius", "VAN-01", {"celsius": 4.0}, "10:05:00"),
        ("celsius", "VAN-01", {"celsius": 4.0}, "10:11:00"),
        ("celsius", "VAN-01", {"celsius": 4.0}, "10:09:00"),  # late, within grace
        ("celsius", "VAN-01", {"celsius": 4.0}, "10:14:59"),
        ("celsius", "VAN-01", {"celsius": 4.0}, "10:08:00"),  # late, within grace by a second
    ]
    early = drive("counts", counts, given, "counts")
    if early:
        raise NotYet(
            f"counts: {len(early)} answers at 10:14:59, when the window of 10:00 still waits for late readings: "
            "expected none before it closes"
        )
    later = [
        *given,
        ("celsius", "VAN-01", {"celsius": 4.0}, "10:15:01"),
        ("celsius", "VAN-01", {"celsius": 4.0}, "10:07:00"),  # too late
        ("celsius", "VAN-01", {"celsius": 4.0}, "10:26:00"),
    ]
    found = drive("counts", counts, later, "counts")
    values = dicts("counts", found, {"from", "n"})
    expect(
        bool(values), "counts: no answer although two windows have closed: does the grace last longer than 5 minutes?"
    )
    expect(all(record.key == "VAN-01" for record in found), f"counts: expected the van as key, found {found[0].key!r}")
    expected = [{"from": "2026-05-07T10:00:00Z", "n": 4}, {"from": "2026-05-07T10:10:00Z", "n": 3}]
    expect_equal("counts: windows that have closed by 10:26", found=[v["from"] for v in values],
                 expected=[v["from"] for v in expected], why="ten minutes, then five of grace")  # fmt: skip
    expect_equal("counts: n from 10:00", found=values[0]["n"], expected=4, why="the late ones of 10:09 and 10:08 count")
    expect_equal("counts: n from 10:10", found=values[1]["n"], expected=3)


READINGS, ALARMS = "lab-04a.readings", "lab-04a.alarms"


@exercise
def door_alarm(live: Live) -> None:
    """A live program: three warm readings in a row raise one alarm on lab-04a.alarms, and a kill changes nothing."""
    expect_type("live", live, Live)
    expect(live.alive, f"live: the program is not running: start it with streams.run(door, {live.application!r})")
    van = f"CHECK-{time.time_ns()}"
    _send(live, van, [9.0, 9.0])
    expect(not _told(van), "live: an alarm after two warm readings in a row: expected it after three")
    live.kill()
    try:
        live.start()
    except ServiceError:
        raise
    except FlowError as error:
        raise NotYet(f"live: killed, and it does not start again: {error}") from error
    _send(live, van, [9.0])
    told = _told(van)
    expect(told, "live: killed after two warm readings and started again: no alarm at the third, the count was lost")
    _send(live, van, [9.5] * 4)
    expect_equal("live: alarms of seven warm readings in a row", found=_told(van), expected=1, why="once is enough")
    _send(live, van, [8.0, 9.0, 9.0])
    expect_equal("live: alarms after a reading of 8.0 and two warm ones", found=_told(van), expected=1,
                 why="8.0 is not above 8.0, and the count begins again")  # fmt: skip
    _send(live, van, [9.0])
    expect_equal("live: alarms after three warm readings again", found=_told(van), expected=2, why="a new incident")


def _send(live: Live, van: str, celsius: list[float]) -> None:
    """Send readings, and behind them, on every partition, three warm ones of other vans: when these have raised their
    alarms, the others were processed."""
    now = time.time_ns() // 1_000_000
    others = [f"{van}-{now}-{number}" for number in range(12)]
    behind = [(other, {"celsius": 12.0}, now) for _ in range(3) for other in others]
    topics.publish(READINGS, [*[(van, {"celsius": value}, now) for value in celsius], *behind])
    try:
        wait_for(
            lambda: not live.alive or set(others) <= {r.key for r in topics.read(ALARMS)}, 45, "the alarms", every=0.3
        )
    except FlowError as error:
        raise NotYet(f"live: three warm readings of a new van raised no alarm on {ALARMS} within 45 s") from error
    expect(live.alive, f"live: the program has ended: {live.problem() or 'live.log() has its last lines'}")


def _told(van: str) -> int:
    return sum(record.key == van for record in topics.read(ALARMS))
