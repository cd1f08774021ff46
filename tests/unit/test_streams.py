"""Kafka Streams from Python without a broker: the bridge, the driver, and the cold-chain alarm with known readings."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime

import pytest

from flow360.errors import Exit, FlowError
from flow360.primeur.vans.replay import messages
from flow360.processing.streams import cold_chain, readings, topics
from flow360.settings import ROOT
from flow360.stack.native import jars


@pytest.fixture(scope="session")
def driver():
    """The driver's module, its JVM started; skipped only where the jars are not here and cannot be fetched."""
    try:
        jars.fetch(jars.missing(["streams"]))
    except FlowError as error:
        if error.code == Exit.NETWORK:
            print(f"Kafka Streams is not tested: {error}")
            pytest.skip(f"the jars cannot be fetched: {error}")
        raise
    from flow360.processing.streams import driver

    return driver


def at(minute: int, second: int = 0) -> str:
    return datetime(2026, 5, 7, 10, minute, second, tzinfo=UTC).isoformat()


# --- the bridge -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [{"a": [1, {"b": None}], "ä": "é€"}, [1, "two"], 1.5, 3, "text", True])
def test_json_goes_through_java_unchanged(driver, value):
    from flow360.processing.streams.api import JSON, TEXT, Consumed, Materialized, Produced

    def topology(builder):
        stream = builder.stream("in", Consumed.with_(TEXT, JSON)).mapValues(lambda v: v)
        stream.to("out", Produced.with_(TEXT, JSON))
        stream.toTable(Materialized.as_("last").withKeySerde(TEXT).withValueSerde(JSON))

    with driver.Driver(topology) as running:
        running.send("in", "k", json.dumps(value), at=at(1))
        assert running.read("out") == [topics.Record("k", value, "2026-05-07T10:01:00Z")]
        assert running.store("last") == {"k": value}
        running.send("in", "k", None)
        assert running.store("last") == {}


def test_a_list_becomes_several_records(driver):
    from flow360.processing.streams.api import JSON, TEXT, Consumed, Produced

    def topology(builder):
        stream = builder.stream("in", Consumed.with_(TEXT, JSON))
        stream.flatMapValues(lambda v: [{"n": n} for n in range(v)]).to("out", Produced.with_(TEXT, JSON))

    with driver.Driver(topology) as running:
        running.send("in", "k", 0)
        running.send("in", "k", 2)
        assert running.values("out") == [{"n": 0}, {"n": 1}]


def test_a_key_is_a_str_and_the_number_of_arguments_decides(driver):
    from flow360.processing.streams.api import JSON, TEXT, Consumed, KeyValue, Produced

    seen = []

    def topology(builder):
        stream = builder.stream("in", Consumed.with_(TEXT, JSON))
        stream = stream.peek(lambda key, value: seen.append((type(key), type(value))))
        stream = stream.mapValues(lambda key, value: {**value, "key": key})
        stream.map(lambda key, value: KeyValue.pair(key.lower(), value)).to("out", Produced.with_(TEXT, JSON))

    with driver.Driver(topology) as running:
        running.send("in", "VAN", {"a": 1})
        assert seen == [(str, dict)]
        assert [(r.key, r.value) for r in running.read("out")] == [("van", {"a": 1, "key": "VAN"})]


def test_what_a_lambda_raises_arrives_as_it_was_raised(driver):
    from flow360.processing.streams.api import JSON, TEXT, Consumed, Produced

    def topology(builder):
        stream = builder.stream("in", Consumed.with_(TEXT, JSON))
        stream.mapValues(lambda v: v["celsius"]).to("out", Produced.with_(TEXT, JSON))

    with driver.Driver(topology) as running, pytest.raises(driver.StepFailed, match="KeyError: 'celsius'"):
        running.send("in", "k", {"fahrenheit": 1})
    with driver.Driver(topology) as running, pytest.raises(FlowError) as caught:
        running.send("in", "k", '{"cel')
    assert isinstance(caught.value.cause, json.JSONDecodeError)
    with pytest.raises(FlowError, match="reads no topic"):
        driver.Driver(lambda builder: None)


def test_a_topic_that_the_topology_does_not_know_is_one_line(driver):
    with driver.Driver(cold_chain.on("x")) as running:
        with pytest.raises(FlowError, match=r"does not read the topic 'y'; it reads: x\.readings, x\.routes"):
            running.send("y", "k", 1)
        with pytest.raises(FlowError, match=r"does not write the topic 'y'; it writes: x\.alarms, x\.refused"):
            running.read("y")
        with pytest.raises(FlowError, match="no key-value store 'y'"):
            running.store("y")
        assert "vans" in driver.stores(running.topology)


@pytest.mark.parametrize("moment", ["2026-05-07T10:01:00Z", "2026-05-07T12:01:00+02:00", "2026-05-07T10:01:00"])
def test_moments(moment):
    assert topics.millis(moment) == topics.millis(datetime.fromisoformat(at(1))) == 1_778_148_060_000
    assert topics.iso(topics.millis(moment)) == "2026-05-07T10:01:00Z"


@pytest.mark.usefixtures("driver")  # the jars are here
def test_a_fork_of_a_process_with_a_jvm_is_told_so():
    code = """
import os
from flow360.processing.streams import jvm
from flow360.errors import FlowError
jvm.start()
child = os.fork()
if not child:
    try:
        jvm.start()
    except FlowError as error:
        print(error, flush=True)
    os._exit(0)
os.waitpid(child, 0)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout.startswith("this process was forked"), done.stderr
    assert len(done.stdout.splitlines()) == 1


def test_importing_the_package_starts_no_jvm():
    code = "import sys; from flow360.processing.streams import cold_chain, live; print('jpype' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout == "False\n", done.stderr


def test_a_function_travels_by_value_with_java_classes_and_serdes(driver):
    """What `streams.run(function)` does: another process knows nothing of this one's names."""
    from flow360.processing.streams import live
    from flow360.processing.streams.api import JSON, TEXT, Consumed, Produced

    limit = 8.0

    def warm(reading: dict) -> bool:
        return reading["celsius"] > limit

    def topology(builder):
        stream = builder.stream("in", Consumed.with_(TEXT, JSON))
        stream.filter(lambda key, reading: warm(reading)).to("out", Produced.with_(TEXT, JSON))

    topology.__module__ = warm.__module__ = "__main__"  # as in a notebook
    code = """
import pickle, sys
from flow360.processing.streams.driver import Driver
with Driver(pickle.loads(sys.stdin.buffer.read())) as running:
    for celsius in (7.0, 9.0):
        running.send("in", "k", {"celsius": celsius})
    print(running.values("out"))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, input=live._pickled(topology), capture_output=True, timeout=60
    )
    assert done.stdout == b"[{'celsius': 9.0}]\n", done.stderr.decode()


def test_what_cannot_travel_is_one_line(driver, tmp_path):
    from flow360.processing.streams import live

    with (tmp_path / "x").open("w") as file:

        def topology(builder):
            file.write("x")

        with pytest.raises(FlowError, match="topology cannot travel to its process") as caught:
            live._pickled(topology)
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nowhere.at_all"], "nowhere"),
        (["nowhere.py"], "nowhere.py"),
        (["flow360.errors"], "flow360.errors has no function `topology(builder)`"),
        (["flow360.processing.streams.cold_chain", "--guarantee", "perhaps"], "exactly_once_v2 or at_least_once"),
        (["flow360.processing.streams.cold_chain", "--bootstrap", "127.0.0.1:9"], "kafka at 127.0.0.1:9"),
    ],
)
def test_the_program_says_in_one_line_what_is_wrong(driver, tmp_path, arguments, says):
    command = [
        sys.executable,
        "-m",
        "flow360.processing.streams",
        *arguments,
        "--application",
        "x",
        "--state",
        str(tmp_path),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=90, env=os.environ)
    assert done.returncode in (Exit.USAGE, Exit.SERVICE), done.stderr
    lines = [line for line in done.stderr.splitlines() if "WARN" not in line]
    assert len(lines) == 1, done.stderr
    assert says in lines[0]


# --- the alarm --------------------------------------------------------------------------------------------------------


def reading(minute: int, celsius: float | None, unit: str = "C", run: str = "r", second: int = 0) -> dict:
    moment = at(minute, second)
    about = {"run": run, "reading_id": 60 * minute + second + 1, "van_id": "VAN-01", "sequence": minute + 1}
    return {**about, "measured_at": moment, "value": celsius, "unit": unit}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (json.dumps(reading(1, 4.0)), 4.0),
        (json.dumps(reading(1, 41.0, "F")), 5.0),
        (json.dumps(reading(1, 0)), 0),
        (json.dumps(reading(1, None)), "value: missing"),
        (json.dumps(reading(1, 39.2)), "not possible"),
        (json.dumps(reading(1, 4.0, "K")), "unit: not one of the known values"),
        (json.dumps(reading(1, "4.0")), "value: not a number"),
        (json.dumps(reading(1, True)), "value: not a number"),
        (json.dumps(reading(1, float("nan"))), "value: not a number"),
        (json.dumps(reading(1, 4.001)), "value: more than 2 decimals"),
        (json.dumps({**reading(1, 4.0), "measured_at": "noon"}), "measured_at: not a moment with its offset"),
        (
            json.dumps({**reading(1, 4.0), "measured_at": "2026-05-07T08:15:00"}),
            "measured_at: not a moment with its offset",
        ),
        ('{"run": "r", "van', "not JSON (JSONDecodeError)"),
        ("[1]", "JSON, but not an object (list)"),
        ("", "an empty line or message"),
        (None, "an empty line or message"),
        ("[" * 4000, "not JSON (RecursionError)"),
        (json.dumps(reading(1, 10**400)), "value: out of range"),
        (json.dumps({**reading(1, 4.0), "measured_at": "0001-01-01T00:00:00+14:00"}), "measured_at: out of range"),
        (json.dumps(reading(1, 4.0, run="r" * 101)), "run: too long"),
        (json.dumps(reading(1, 4.0, run=["r"])), "run: not a text"),
        (json.dumps(reading(1, 4.0, unit=["C"])), "unit: not a text"),
        (json.dumps(reading(1, 4.0, run="\ud83d")), "run: not readable (NUL, or a character that was lost)"),
    ],
)
def test_a_reading_is_parsed_or_refused_with_its_cause(text, expected):
    found = cold_chain.parse(text)
    if isinstance(expected, str):
        assert found == {"cause": expected, "text": text}
    else:
        assert found == {"run": "r", "at": at(1), "celsius": expected}


def test_a_refusal_fits_into_a_message_whatever_was_refused():
    for text in ("\x00" * 1_000_000, "\ufffd" * 1_000_000, "\udfff" * 1_000_000):
        found = cold_chain.parse(text)
        assert len(json.dumps(found, ensure_ascii=False).encode("utf-8", "backslashreplace")) < 1_000_000
        assert (found["length"], text.startswith(found["text"])) == (1_000_000, True)


def alarms(driver, *given: dict, route: bool = True) -> list[dict]:
    with driver.Driver(cold_chain.topology) as running:
        if route:
            running.send("vans.routes", "VAN-01", {"route_id": 7, "half": "am", "city": "Nice"}, at=at(0))
        for one in given:
            running.send("vans.readings", "VAN-01", one, at=one["measured_at"])
        return running.values("vans.alarms")


def warm(*minutes: int, celsius: float = 9.0) -> list[dict]:
    return [reading(minute, celsius) for minute in minutes]


def test_five_minutes_above_the_limit_give_one_alarm(driver):
    told = {"run": "r", "since": at(1), "reported_at": at(6), "celsius": 9.0, "route_id": 7, "city": "Nice"}
    assert alarms(driver, *warm(*range(1, 30))) == [told]


def test_less_than_five_minutes_give_none(driver):
    assert alarms(driver, *warm(1, 2, 3, 4, 5), reading(6, 7.0), *warm(7, 8, 9)) == []
    assert alarms(driver, *warm(*range(1, 20), celsius=8.0)) == [], "8.0 is not above 8"


def test_a_van_that_recovered_may_alarm_again(driver):
    found = alarms(driver, *warm(*range(1, 8)), reading(8, 4.0), *warm(*range(9, 16)))
    assert [one["since"] for one in found] == [at(1), at(9)]


def test_late_and_doubled_readings_change_nothing(driver):
    late = reading(3, 2.0)  # cold, but of a moment that has passed
    given = warm(1, 2, 4)
    assert len(alarms(driver, *given, late, given[-1], *warm(5, 6))) == 1


def test_another_replay_is_another_history(driver):
    given = [reading(minute, 9.0, run=run) for run in ("one", "two") for minute in range(1, 9)]
    assert [one["run"] for one in alarms(driver, *given)] == ["one", "two"]


def test_runs_that_come_at_the_same_time_do_not_disturb_each_other(driver):
    """Minute by minute from two runs of one van, and a lost message of a third: each run has its one alarm."""
    given = [reading(minute, 9.0, run=run) for minute in range(1, 30) for run in ("one", "two")]
    given.insert(20, reading(3, 2.0, run="three"))
    found = alarms(driver, *given)
    assert [(one["run"], one["since"]) for one in found] == [("one", at(1)), ("two", at(1))]


def test_of_many_runs_the_last_ones_are_remembered():
    state = cold_chain.NEW
    for run in [*"abcdefg", None, "g"]:
        state = cold_chain.by_run("VAN-01", {"run": run, "at": at(1), "celsius": 9.0}, json.loads(json.dumps(state)))
    assert (state["run"], list(state["others"])) == ("g", ["e", "f", ""])


def test_a_reading_of_last_week_raises_nothing_and_hides_nothing(driver):
    """As the first of its run, it would be the beginning of a week of warmth; later, it says nothing about now."""
    old = reading(0, 9.0) | {"measured_at": "2026-04-30T10:00:00Z"}
    told = {"since": at(1), "reported_at": at(6)}
    for given in ([old, *warm(*range(1, 9))], [*warm(1, 2), old, *warm(*range(3, 9))]):
        (found,) = alarms(driver, *given)
        assert found.items() >= told.items()


def test_a_reading_from_tomorrow_is_refused_and_its_van_goes_on(driver):
    tomorrow = reading(3, 9.0) | {"measured_at": "2026-05-08T10:03:00Z", "sent_at": "2026-05-07T10:03:00Z"}
    right = [one | {"sent_at": one["measured_at"]} for one in warm(*range(1, 9))]
    with driver.Driver(cold_chain.topology) as running:
        for one in [*right[:2], tomorrow, *right[2:]]:
            running.send("vans.readings", "VAN-01", one, at=one["measured_at"])
        refused, found = running.values("vans.refused"), running.values("vans.alarms")
    assert [one["cause"] for one in refused] == ["measured_at: ahead of sent_at"]
    assert [(one["since"], one["reported_at"]) for one in found] == [(at(1), at(6))]


def test_the_hour_that_comes_twice_is_two_hours(driver):
    """In the night of 25 October a van is warm from 2:58 summer time to 2:02 winter time, by its own clock."""
    given = [f"2026-10-25T02:{minute}:00+02:00" for minute in (57, 58, 59)]
    given += [f"2026-10-25T02:{minute:02}:00+01:00" for minute in range(4)]
    readings_ = [reading(n, 4.0 if n == 0 else 9.0) | {"measured_at": moment} for n, moment in enumerate(given)]
    (found,) = alarms(driver, *readings_)
    assert (found["since"], found["reported_at"]) == ("2026-10-25T00:58:00+00:00", "2026-10-25T01:03:00+00:00")


def test_a_van_without_a_tour_is_told_all_the_same(driver):
    found = alarms(driver, *warm(*range(1, 8)), route=False)
    assert [(one["route_id"], one["city"]) for one in found] == [(None, None)]


def test_a_tour_that_cannot_be_used_is_refused_and_a_tombstone_ends_one(driver):
    bad = [
        '{"route_id": 7, "ci',
        "[" * 4000,
        "7",
        '{"route_id": 7, "city": ["Nice"]}',
        '{"route_id": "x", "city": "N"}',
    ]
    with driver.Driver(cold_chain.topology) as running:
        running.send("vans.routes", "VAN-01", {"route_id": 7, "half": "am", "city": "Nice"}, at=at(0))
        running.send("vans.routes", "VAN-02", {"route_id": 8, "half": "am", "city": "Lyon"}, at=at(0))
        running.send("vans.routes", "VAN-02", None, at=at(0))
        for text in bad:
            running.send("vans.routes", "VAN-01", text, at=at(0))
        assert [one["text"] for one in running.values("vans.refused")] == bad
        for van in ("VAN-01", "VAN-02"):
            for one in warm(*range(1, 8)):
                running.send("vans.readings", van, one, at=one["measured_at"])
        told = {record.key: record.value["city"] for record in running.read("vans.alarms")}
    assert told == {"VAN-01": "Nice", "VAN-02": None}


def test_half_a_surrogate_pair_does_not_end_the_alarm(driver):
    """Such a reading is refused, and what was refused is read back as it came."""
    with driver.Driver(cold_chain.topology) as running:
        half = reading(1, 9.0, run="\ud83d")
        for one in [half, *warm(*range(1, 8))]:
            running.send("vans.readings", "VAN-01", one, at=one["measured_at"])
        assert [json.loads(one["text"]) for one in running.values("vans.refused")] == [half]
        assert [one["run"] for one in running.values("vans.alarms")] == ["r"]


def test_the_known_day_gives_the_one_alarm_and_refuses_what_was_planted(driver):
    truth = json.loads((ROOT / "data" / "seed" / "manifest.json").read_text("utf-8"))
    vans = [
        truth["incident"]["van_id"],
        truth["mislabelled_van"],
        truth["fahrenheit_van"],
        truth["long_stop"]["van_id"],
    ]
    with driver.Driver(cold_chain.topology) as running:
        for van, data, moment in readings.routes():
            running.send("vans.routes", van, data, at=moment)
        for van, data, moment in readings.readings("day", vans=vans):
            running.send("vans.readings", van, data, at=moment)
        found, refused = running.read("vans.alarms"), running.values("vans.refused")
    assert [record.key for record in found] == [truth["incident"]["van_id"]]
    assert found[0].value["route_id"] == truth["incident"]["route_id"]
    names = {"bad_row": "not JSON", "not_a_number": "value: missing", "wrong_unit": "not possible"}
    spoilt = [m for m in messages(truth["day"]) if m.van_id in vans and m.kind in names]
    assert Counter(one["cause"].partition(" (")[0] for one in refused) == Counter(names[m.kind] for m in spoilt)


def test_routes_and_readings_have_the_keys_of_the_day():
    tours = readings.routes()
    assert len(tours) == 24
    assert {van for van, _, _ in tours} == {van for van, _, _ in readings.readings("x")}
    assert [moment for _, _, moment in tours] == sorted(moment for _, _, moment in tours)
    assert {van for van, _, _ in readings.readings("x", vans=["VAN-03"])} == {"VAN-03"}


@pytest.mark.parametrize(("code", "passes"), [("GROUP_ID_NOT_FOUND", True), ("NON_EMPTY_GROUP", False)])
def test_a_group_that_has_gone_by_itself_needs_no_deleting(code, passes):
    """The broker lets go of an empty group that has kept no offset, at a moment of its own."""
    from concurrent.futures import Future

    from confluent_kafka import KafkaError, KafkaException

    from flow360.processing.streams import live

    class Admin:
        def delete_consumer_groups(self, names, request_timeout):
            answer: Future = Future()
            answer.set_exception(KafkaException(KafkaError(getattr(KafkaError, code))))
            return dict.fromkeys(names, answer)

    if passes:
        live._delete_group(Admin(), "mine")
    else:
        with pytest.raises(KafkaException):
            live._delete_group(Admin(), "mine")
