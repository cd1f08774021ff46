"""A trace without the layers: what each hop can say, what is said when nobody answers, and to bad input."""

from __future__ import annotations

import io
import json
import threading
import time
from datetime import UTC, datetime, timedelta

import pytest
from rich.console import Console
from typer.testing import CliRunner

from flow360 import clients, lesson
from flow360.cli import app
from flow360.errors import Exit, FlowError, ServiceError
from flow360.ingestion.topics import Record
from flow360.settings import ROOT
from flow360.stack.model import model
from flow360.trace import asking, documents, drawing, orders, programs, vans, way
from flow360.trace.way import DOWN, MISSING, NONE, THERE, NotThere, Place, Thing, Way
from flow360.waiting import patient

NOON = datetime(2026, 5, 7, 12, tzinfo=UTC)


@pytest.fixture(autouse=True)
def unhurried(monkeypatch):
    """Nobody here is slow on purpose, unless a test says so; a busy machine is not a layer that is down."""
    monkeypatch.setattr(way, "SECONDS", 60)


def runs(name: str) -> str:
    return "runs"


def made(**answers) -> Way:
    """A way of the hops a, b, c …, each of a service of its own name; an answer is places, or what is raised."""
    found, before = Way("order"), ""
    for name, (by, said) in answers.items():

        def ask(thing, said=said):
            if isinstance(said, BaseException):
                raise said
            return said(thing) if callable(said) else said

        found.hop(name, after=before, service=name, by=by)(ask)
        before = name
    return found


def states(trace) -> dict[str, str]:
    return {step.hop.name: step.state for step in trace.steps}


def test_a_hop_is_there_missing_need_not_be_or_is_down():
    found = made(
        shop=("player", [Place("row 1")]),
        raw=("night", [Place("line 1")]),
        quarantine=("", []),
        mart=("dbt", NotThere("its table is not made yet")),
        panel=("dbt", ServiceError("prometheus does not answer: start it")),
    ).follow(Thing("order", 1), runs)
    assert states(found) == {"shop": THERE, "raw": THERE, "quarantine": NONE, "mart": NONE, "panel": DOWN}
    assert found["mart"].said == "its table is not made yet: nothing of it", "its hop before had nothing to bring"
    assert found["panel"].said == "prometheus does not answer: start it"


def test_a_missing_hop_names_the_program_that_would_bring_it_and_whether_it_runs():
    found = made(shop=("player", [Place("row 1")]), raw=("night", []), clean=("night", [])).follow(
        Thing("order", 1), lambda name: f"does not run: flow360 up {name}"
    )
    assert states(found) == {"shop": THERE, "raw": MISSING, "clean": MISSING}
    assert found["raw"].said == "night would bring it"
    assert drawing.notes(found)[0] == "night does not run: flow360 up night", "once for both hops"
    assert drawing.notes(found)[1] == drawing.LEGEND


def test_seconds_are_those_between_two_clocks_and_no_guess_where_one_is_missing():
    found = made(
        a=("x", [Place("row", at=NOON)]),
        b=("x", [Place("late", at=NOON + timedelta(seconds=9)), Place("first", at=NOON + timedelta(seconds=1.5))]),
        c=("x", [Place("timeless")]),
        d=("x", [Place("after it", at=NOON)]),
    ).follow(Thing("order", 1), runs)
    assert [step.seconds for step in found.steps] == [None, 1.5, None, None]
    assert [drawing.lapse(step, found) for step in found.steps] == ["", "+1.5 s", "no time kept", "no time before"]
    again = made(a=("x", [Place("row", at=NOON)]), b=("x", [Place("row", at=NOON - timedelta(hours=1))]))
    found = again.follow(Thing("order", 1), runs)
    assert drawing.lapse(found["b"], found) == "-3,600.0 s"
    assert drawing.notes(found)[-1].endswith(drawing.AGAIN)


def test_a_service_that_says_nothing_costs_its_deadline_once(monkeypatch):
    monkeypatch.setattr(way, "SECONDS", 0.2)
    woken, asked = threading.Event(), []

    def hang(thing):
        asked.append(1)
        woken.wait(60)
        return []

    hung = Way("order")
    hung.hop("shop", after="", service="postgres-source", by="")(lambda thing: [Place("row")])
    for name in ("lake", "fact", "cell"):
        hung.hop(name, after="shop", service="postgres-dwh", by="dbt")(hang)
    begun = time.monotonic()
    found = hung.follow(Thing("order", 1), runs)
    woken.set()
    assert time.monotonic() - begun < patient(5)
    assert len(asked) == 1
    assert states(found) == {"shop": THERE, "lake": DOWN, "fact": DOWN, "cell": DOWN}
    assert "postgres-dwh gave no answer within" in found["cell"].said


def test_a_question_that_fails_is_a_line_and_the_next_one_is_still_asked():
    failing = Way("order")
    failing.hop("shop", after="", service="dwh", by="")(lambda thing: 1 / 0)
    failing.hop("mart", after="shop", service="dwh", by="")(lambda thing: [Place("row")])
    found = failing.follow(Thing("order", 1), runs)
    assert states(found) == {"shop": DOWN, "mart": THERE}
    assert found["shop"].said == "dwh: division by zero"


def test_what_nobody_has_is_one_line_and_a_code_that_says_whether_the_source_was_asked():
    with pytest.raises(FlowError, match="order 7: shop does not have it, nor has any layer that answers") as caught:
        made(shop=("player", []), raw=("night", ServiceError("down"))).follow(Thing("order", 7), runs)
    assert caught.value.code == Exit.FAILED
    with pytest.raises(ServiceError, match="order 7: no layer that answers has it, .*: raw, shop") as caught:
        made(shop=("x", ServiceError("down")), raw=("x", ServiceError("down"))).follow(Thing("order", 7), runs)
    assert caught.value.code == Exit.SERVICE


def test_a_hop_can_only_come_after_one_that_is_known():
    with pytest.raises(ValueError, match="comes before nobody"):
        Way("order").hop("mart", after="nobody", service="", by="")


# --- The ways as they are ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("one", [orders.WAY, vans.WAY, documents.WAY], ids=["order", "van", "document"])
def test_each_hop_asks_a_service_and_is_brought_by_a_program_that_there_is(one):
    for hop in one.hops:
        assert not hop.service or hop.service in model().services, hop
        assert not hop.by or programs.is_dag(hop.by) or hop.by in model().services, hop
        assert hop.after or hop is one.hops[0], "one thing has one source"


def test_with_all_services_down_an_order_is_still_in_the_branch_s_file(monkeypatch):
    monkeypatch.setattr(clients, "postgres", down("postgres"))
    monkeypatch.setattr(clients, "lake", down("namenode"))
    monkeypatch.setattr(clients, "api", down("market-api"))
    monkeypatch.setattr(clients, "prometheus", down("prometheus"))
    monkeypatch.setattr(asking, "read_all", down("kafka"))
    found = orders.WAY.follow(Thing("order", 100933), runs)
    assert states(found) == {hop.name: THERE if hop.name == "file" else DOWN for hop in orders.WAY.hops}
    place = found["file"].places[0]
    assert (place.where, place.what) == ("orders_2026-05-07.csv, line 131", "not right: wrong number of fields")


def test_the_changes_of_an_order_name_offset_position_and_seconds(monkeypatch):
    def change(offset: int, op: str, status: str | None, order: int = 100933) -> Record:
        after = status and {"order_id": order, "status": status}
        value = {"op": op, "after": after, "source": {"lsn": 70 + offset, "ts_ms": 1_000_000}}
        key = f'{{"order_id":{order}}}'.encode()
        return Record(orders.CHANGES, 2, offset, 1_000_250, key, json.dumps(value).encode(), [])

    tombstone = Record(orders.CHANGES, 2, 6, 1_000_250, b'{"order_id":100933}', None, [])
    records = [
        change(1, "r", "placed"),
        change(2, "c", "placed", 5),
        change(4, "u", "packed"),
        change(5, "d", None),
        tombstone,
    ]
    monkeypatch.setattr(asking, "read_all", lambda topic, **_: records)
    places = orders.changes(Thing("order", 100933))
    assert [place.where.rpartition(" ")[2] for place in places] == ["1", "4", "5"]
    assert [place.what for place in places] == [
        "read as it was, placed, LSN 71",
        "updated, packed, LSN 74, 0.25 s after its commit",
        "deleted, LSN 75, 0.25 s after its commit",
    ]
    assert {place.at for place in places} == {datetime.fromtimestamp(1000.25, UTC)}


def test_the_fleets_tours_of_a_van_s_day_and_what_was_captured_of_them(monkeypatch):
    def tour(number: int) -> dict:
        return {"route_id": number, "driver_id": 501, "odometer_from_km": 100.1, "odometer_to_km": 159.2}

    def change(number: int, op: str) -> Record:
        source = {"file": "binlog.000002", "pos": 40 + number, "ts_ms": 1_000_000}
        value = {"op": op, "after": tour(number), "source": source}
        key = f'{{"route_id":{number}}}'.encode()
        return Record(vans.TOURS, 0, number, 1_000_500, key, json.dumps(value).encode(), [])

    asked = []
    monkeypatch.setattr(asking, "fleet_rows", lambda query, *of: asked.append(of) or [tour(7), tour(8)])
    monkeypatch.setattr(asking, "read_all", lambda topic, **_: [change(7, "r"), change(8, "c"), change(9, "c")])
    van = Thing("van", "VAN-03", {"day": NOON.date()})
    with pytest.raises(way.Failed, match="did not say which tours"):  # Kafka is asked for the readings all the same
        vans.changes(van)
    driven = "driver 501, 59.1 km, odometer 159.2 km after it"
    assert [(place.where, place.what) for place in vans.fleet(van)] == [
        ("table tours, route_id = 7", driven),
        ("table tours, route_id = 8", driven),
    ]
    assert asked == [("VAN-03", NOON.date())]
    assert [(place.where, place.what) for place in vans.changes(van)] == [
        ("cdc.fleet.fleet.tours, partition 0, offset 7", f"read as it was, {driven}, binlog.000002 at 47"),
        (
            "cdc.fleet.fleet.tours, partition 0, offset 8",
            f"inserted, {driven}, binlog.000002 at 48, 0.50 s after its commit",
        ),
    ]


def down(name: str):
    def refuse(*args, **options):
        raise ServiceError(f"{name} does not answer: start it with `flow360 up {name}`")

    return refuse


@pytest.mark.parametrize("number", ["abc", "0", "-5", "1.5", "1e5", "１２", "", "9" * 19, "9" * 5000, True])
def test_what_cannot_be_an_order_is_a_usage_error(number):
    with pytest.raises(FlowError, match="a number from 1, of 18 digits at most") as caught:
        orders.follow(number)
    assert caught.value.code == Exit.USAGE
    assert len(caught.value.message) < 150


@pytest.mark.parametrize(
    ("van", "day", "why"),
    [
        ("bus", "2026-05-07", "a van's name is written as VAN-03"),
        ("VAN-3", "2026-05-07", "a van's name"),
        ("VAN-03", "tomorrow", "a date, as 2026-05-07"),
        ("VAN-03", "2026-02-30", "a date"),
        ("VAN-03", "9999-12-31", "a date"),
        ("VAN-03", None, "a date"),
    ],
)
def test_what_cannot_be_a_van_s_day_is_a_usage_error(van, day, why):
    with pytest.raises(FlowError, match=why) as caught:
        vans.follow(van, day)
    assert caught.value.code == Exit.USAGE


@pytest.mark.parametrize("asked", [{}, {"order": 1, "van": "VAN-03"}, {"van": "VAN-03"}, {"order": 1, "day": "x"}])
def test_a_notebook_that_asks_for_half_a_thing_reads_what_a_whole_one_is(asked):
    with pytest.raises(FlowError, match=r"lesson.trace\(order=100933\)"):
        lesson.trace(**asked)


# --- What is shown ----------------------------------------------------------------------------------------------------

SHOWN = made(
    shop=("player", [Place("table orders, order_id = 1", '3.19 EUR, "paid"', NOON)]),
    raw=("nightly_lake", [Place(f"/raw/{n}, line 1", "right", NOON + timedelta(seconds=2)) for n in "abc"]),
    mart=("nightly_dbt", NotThere("its table is not made yet")),
)


@pytest.mark.parametrize("width", [80, 120])
def test_the_table_fits_the_terminal_and_leaves_nothing_out(width):
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(drawing.table(SHOWN.follow(Thing("order", 1), runs)))
    lines = console.export_text().splitlines()
    assert max(map(len, lines)) <= width
    assert lines[0].strip() == "Where is order 1 now?"
    text = " ".join(" ".join(lines).split())
    for part in ("table orders", "+2.0 s", "/raw/c, line 1", "its table is not made yet"):
        assert part in text


def test_the_drawing_names_the_carrier_on_each_arrow_and_dashes_what_is_not_there():
    text = drawing.mermaid(SHOWN.follow(Thing("order", 1), runs))
    assert text.startswith("flowchart LR\n")
    assert 'hop0 -->|"nightly_lake, +2.0 s"| hop1' in text
    assert "<br/>and 1 more" in text
    assert 'hop2["mart"]:::away' in text
    assert 'hop1 -.->|"nightly_dbt"| hop2' in text


def test_a_label_of_the_drawing_holds_whatever_a_place_is_called():
    odd = made(shop=("x", [Place('a "quoted" <b> & more')])).follow(Thing("order", 1), runs)
    assert 'hop0["shop<br/>a &quot;quoted&quot; &lt;b&gt; &amp; more"]' in drawing.mermaid(odd)


def test_a_notebook_gets_the_table_and_the_drawing(monkeypatch, capsys):
    monkeypatch.setattr(orders, "WAY", SHOWN)
    monkeypatch.setattr(programs.Programs, "state", lambda self, name: "runs")
    lesson.trace(order=1)
    said = capsys.readouterr().out
    assert said.startswith("Where is order 1 now?\n")
    assert "/raw/b, line 1" in said
    assert "nightly_dbt runs\n" in said
    assert "flowchart LR" in said


def test_the_command_line_shows_a_table_or_json_and_one_line_for_what_is_wrong(monkeypatch):
    monkeypatch.setattr(orders, "WAY", SHOWN)
    monkeypatch.setattr(programs.Programs, "state", lambda self, name: "runs")
    shown = CliRunner().invoke(app, ["trace", "order", "1"])
    assert shown.exit_code == 0
    assert "Where is order 1 now?" in shown.output
    said = json.loads(CliRunner().invoke(app, ["trace", "order", "1", "--json"]).output)
    assert [hop["state"] for hop in said["hops"]] == [THERE, THERE, MISSING]
    assert said["hops"][1]["seconds"] == 2.0
    assert said["hops"][2]["program"] == "runs"
    wrong = CliRunner().invoke(app, ["trace", "order", "abc"])
    assert wrong.exit_code == Exit.USAGE
    assert wrong.stderr.startswith("flow360: order 'abc': a number")
    assert CliRunner().invoke(app, ["trace", "van", "VAN-03"]).exit_code == Exit.USAGE, "which day?"


# --- Programs ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("paused", "busy", "said"),
    [
        (True, "", "does not run: it is paused"),
        (False, "", "does not run now, and waits for its hour or its data"),
        (False, "manual__1", "runs now, as manual__1"),
    ],
)
def test_a_dag_is_paused_waits_or_runs(monkeypatch, paused, busy, said):
    monkeypatch.setattr(programs.Programs, "_states", {programs.SCHEDULER: "running"})
    monkeypatch.setattr(programs, "_ask", lambda name: (paused, busy))
    assert programs.Programs().state("nightly_lake") == said


def test_without_a_scheduler_no_dag_runs_and_airflow_is_not_asked(monkeypatch):
    monkeypatch.setattr(programs.Programs, "_states", {"vans-bridge": "running"})
    monkeypatch.setattr(programs, "_ask", lambda name: pytest.fail("nobody is there"))
    found = programs.Programs()
    assert found.state("nightly_lake") == "does not run, Airflow is off: flow360 up airflow-scheduler"
    assert found.state("vans-bridge") == "runs"
    assert found.state("alarms-sink") == "does not run: flow360 up alarms-sink"


def test_every_pipeline_is_known_as_one():
    assert all(programs.is_dag(path.stem) for path in (ROOT / "dags").glob("*.py"))
    assert not programs.is_dag("vans-bridge")
