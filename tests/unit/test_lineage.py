"""Lineage: the events as OpenLineage's own library writes them, a file that bears crashes, arrows and their picture."""

from __future__ import annotations

import json
import os
import random
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flow360.cli import app
from flow360.monitoring import lineage
from flow360.monitoring.lineage import events, graph, journal
from flow360.monitoring.lineage.graph import Arrow
from flow360.processing import dbt_lineage
from flow360.settings import ROOT, settings
from tests.lineage import PARTS

RAW, ORDERS = lineage.raw("shop"), lineage.clean("orders")


@pytest.fixture(autouse=True)
def folder(monkeypatch, tmp_path) -> Path:
    monkeypatch.setattr(settings(), "flow360_lineage", tmp_path / "lineage")
    return tmp_path / "lineage"


def a_run(rows: int = 4, job: str = "clean") -> None:
    with lineage.run(job, RAW, to=ORDERS) as one:
        one.wrote(ORDERS, rows, 50)


# --- The events -------------------------------------------------------------------------------------------------------


def by_the_library(event: dict) -> dict:
    """The same event, built and written by openlineage-python."""
    from openlineage.client import event_v2, facet_v2
    from openlineage.client.serde import Serde

    made_by = {"producer": event["producer"]}
    statistics = {
        "inputStatistics": facet_v2.input_statistics_input_dataset.InputStatisticsInputDatasetFacet,
        "outputStatistics": facet_v2.output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet,
    }

    def datasets(way: str, kind: type) -> list:
        found = []
        for one in event[f"{way}s"]:
            facets = {
                name: statistics[name](**{k: v for k, v in facet.items() if k[0] != "_"}, **made_by)
                for name, facet in one[f"{way}Facets"].items()
            }
            found.append(kind(one["namespace"], one["name"], **{f"{way}Facets": facets}))
        return found

    facets, said = {}, event["run"]["facets"]
    if "errorMessage" in said:
        error = said["errorMessage"]
        facets["errorMessage"] = facet_v2.error_message_run.ErrorMessageRunFacet(
            error["message"], error["programmingLanguage"], **made_by
        )
    if "parent" in said:
        job = facet_v2.parent_run.Job(said["parent"]["job"]["namespace"], said["parent"]["job"]["name"])
        run = facet_v2.parent_run.Run(said["parent"]["run"]["runId"])
        facets["parent"] = facet_v2.parent_run.ParentRunFacet(run=run, job=job, **made_by)
    built = event_v2.RunEvent(
        eventType=event_v2.RunState[event["eventType"]],
        eventTime=event["eventTime"],
        run=event_v2.Run(event["run"]["runId"], facets),
        job=event_v2.Job(event["job"]["namespace"], event["job"]["name"]),
        inputs=datasets("input", event_v2.InputDataset),
        outputs=datasets("output", event_v2.OutputDataset),
        **made_by,
    )
    return json.loads(Serde.to_json(built))


def test_each_event_is_what_the_library_of_openlineage_writes(monkeypatch):
    for name, value in (("DAG_ID", "nightly_lake"), ("TASK_ID", "clean"), ("DAG_RUN_ID", "scheduled__1")):
        monkeypatch.setenv(f"AIRFLOW_CTX_{name}", value)
    a_run()
    with pytest.raises(ValueError, match="no"), lineage.run("clean", RAW) as one:
        one.read(RAW, 3)
        raise ValueError("no\nmore")
    carrier = lineage.Carrier("bridge", lineage.VANS, to=lineage.topic("vans.readings"))
    carrier.wrote(lineage.topic("vans.readings"))
    carrier.close()
    found = journal.read().events
    assert [one["eventType"] for one in found] == ["START", "COMPLETE", "START", "FAIL", "START", "COMPLETE"]
    assert found == [by_the_library(one) for one in found]
    assert {one["run"]["facets"]["parent"]["job"]["name"] for one in found} == {"nightly_lake.clean"}
    assert found[3]["run"]["facets"]["errorMessage"]["message"] == "ValueError: no"
    assert len({one["run"]["runId"] for one in found}) == 3


def test_a_carrier_says_once_a_while_what_it_has_counted_by_the_record(monkeypatch):
    monkeypatch.setattr(events, "FIRST", 3600)
    readings = lineage.topic("vans.readings")
    lineage.Carrier("idle", lineage.VANS, to=readings).close()
    carrier = lineage.Carrier("bridge", lineage.VANS, to=readings)
    for _ in range(10_000):
        carrier.read(lineage.VANS)
        carrier.wrote(readings)
    assert journal.read().events == []
    carrier._say()  # as its thread does
    carrier.wrote(readings, 5)
    carrier.close()
    assert [one["eventType"] for one in journal.read().events] == ["START", "RUNNING", "COMPLETE"]
    (edge,) = graph.edges(journal.read().events)
    assert (edge.arrow, edge.rows) == (Arrow("mosquitto: primeur/vans", "bridge", "kafka: vans.readings"), 10_005)


def test_dbt_says_what_it_wrote_and_reads_through_views(tmp_path):
    def node(kind: str, name: str, materialized: str, *parents: str) -> dict:
        about = {"resource_type": kind, "name": name, "schema": "marts", "database": "d", "alias": name}
        return about | {"config": {"materialized": materialized}, "depends_on": {"nodes": list(parents)}}

    source = {"resource_type": "source", "name": "orders", "identifier": "orders", "schema": "lake", "database": "d"}
    nodes = {
        "m.stg": node("model", "stg", "view", "s.orders"),
        "m.fct": node("model", "fct", "incremental", "m.stg"),
        "m.bad": node("model", "bad", "table", "m.fct"),
        "m.skipped": node("model", "skipped", "table", "m.bad"),
        "t.key": node("test", "key", "test", "m.fct"),
    }
    timing = {"started_at": "2026-05-08T00:00:01.5Z", "completed_at": "2026-05-08T00:00:02.5Z"}

    def result(name: str, status: str, rows: int | None = None) -> dict:
        ran = status in ("success", "error")
        response = {} if rows is None else {"rows_affected": rows}
        found = {"unique_id": name, "status": status, "message": f"{status}\nat", "adapter_response": response}
        return found | {"timing": [{"name": "execute", **timing}] if ran else []}

    results = [
        result("m.stg", "success", -1),
        result("m.fct", "success", 7),
        result("m.bad", "error"),
        result("m.skipped", "skipped"),
        result("t.key", "pass"),
    ]
    (tmp_path / "manifest.json").write_text(json.dumps({"nodes": nodes, "sources": {"s.orders": source}}))
    (tmp_path / "run_results.json").write_text(json.dumps({"results": results}))
    dbt_lineage.emit(tmp_path)
    found = journal.read().events
    said = [(one["job"]["name"], one["eventType"]) for one in found]
    assert said == [("dbt.fct", "START"), ("dbt.fct", "COMPLETE"), ("dbt.bad", "START"), ("dbt.bad", "FAIL")]
    (edge,) = graph.edges(found)
    assert edge.arrow == Arrow("postgres-dwh: lake", "dbt", "postgres-dwh: marts")
    assert (edge.rows, edge.last) == (7, datetime(2026, 5, 8, 0, 0, 2, 500_000, UTC))


# --- The file ---------------------------------------------------------------------------------------------------------


def test_lines_that_are_no_events_are_overlooked_and_counted():
    a_run()
    file = journal.path()
    whole = file.read_bytes()
    spoilt = [b"", b"{", b"null", b"[]", b'"job"', b'{"job": {"name": 1}}', b"\xff\xfe", whole.splitlines()[0][:200]]
    file.write_bytes(b"\n".join([*spoilt, b""]) + whole + whole[:-30])  # the writer was killed in its last line
    found = journal.read()
    assert (len(found.events), found.bad) == (3, len(spoilt) - 1 + 1)
    a_run()
    assert (len(journal.read().events), journal.read().bad) == (5, found.bad), "the cut line took nothing along"


def test_the_file_is_bounded_and_keeps_what_came_last(monkeypatch, folder):
    monkeypatch.setattr(journal, "LIMIT", 20_000)
    for number in range(200):
        a_run(job=f"job-{number}")
    sizes = [file.stat().st_size for file in folder.iterdir()]
    assert len(sizes) == 2
    assert max(sizes) < 22_000
    names = [one["job"]["name"] for one in journal.read().events]
    assert names[-1] == "job-199"
    assert names == [f"job-{number // 2}" for number in range(400)][-len(names) :], "in order, and without a gap"


WRITER = """
import sys
from flow360.monitoring import lineage
for number in range(150):
    with lineage.run(f"job-{sys.argv[1]}", lineage.raw("shop"), to=lineage.clean("orders")) as one:
        one.wrote(lineage.clean("orders"), 1)
"""


def test_programs_that_write_at_the_same_time_lose_nothing(folder):
    environment = {**os.environ, "FLOW360_LINEAGE": str(folder)}
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(one)], env=environment) for one in range(3)]
    assert [one.wait(60) for one in writers] == [0, 0, 0]
    found = journal.read()
    assert (len(found.events), found.bad) == (900, 0)


def test_another_user_can_neither_read_nor_write_it(monkeypatch, open_folder):
    monkeypatch.setattr(settings(), "flow360_lineage", open_folder / "lineage")
    before = os.umask(0)
    try:
        a_run()
    finally:
        os.umask(before)
    assert stat.S_IMODE(journal.path().parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(journal.path().stat().st_mode) == 0o600
    if os.geteuid() == 0:  # nobody else has another user at hand; the modes above say the same
        (open_folder / "open").write_text("for all")
        (open_folder / "open").chmod(0o666)
        assert as_another(f"cat {open_folder / 'open'} && echo >> {open_folder / 'open'}") == 0
        assert as_another(f"cat {journal.path()}") != 0
        assert as_another(f"echo >> {journal.path()}") != 0
        assert as_another(f"rm -f {journal.path()}") != 0
        assert len(journal.read().events) == 2


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user can enter, which pytest's own are not."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def as_another(command: str) -> int:
    """What a shell command of an ordinary user other than this one ends with."""
    shell = ["/bin/sh", "-c", command]
    return subprocess.run(
        shell, user=65534, group=65534, extra_groups=[], cwd="/", timeout=30, capture_output=True
    ).returncode


def test_what_cannot_be_written_is_said_in_a_line_and_stops_nothing(folder, capsys, monkeypatch):
    monkeypatch.setattr(journal, "failed", 0)
    folder.write_text("a file where the folder belongs")
    a_run()
    assert journal.failed == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert lines[1].startswith("lineage: ")
    assert lines[1].endswith("(2 events lost)")


# --- The arrows and their picture -------------------------------------------------------------------------------------


def test_an_arrow_goes_from_place_to_place_and_knows_when_it_last_moved_something():
    with lineage.run("night.shop", map(lineage.shop, ("orders", "payments")), to=RAW) as one:
        one.wrote(RAW, 10)
        one.wrote(RAW, 5)
    with lineage.run("night.shop", lineage.shop("orders"), to=RAW) as one:
        one.wrote(RAW, 0)
    with lineage.run("dbt.x", lineage.warehouse("marts.a"), to=lineage.warehouse("marts.b")) as one:
        one.wrote(lineage.warehouse("marts.b"), 5)  # within a place
    with lineage.run("night.files", lineage.DEPOT, to=lineage.raw("files")) as one:
        one.wrote(lineage.raw("files"), size=100)
    with lineage.run("night.api", lineage.MARKET, to=lineage.raw("api")) as one:
        one.wrote(lineage.raw("api"), 0, 30)  # a page without an item
    with lineage.run("reconcile", ORDERS):
        pass
    with pytest.raises(ValueError), lineage.run("clean", RAW, to=ORDERS) as one:
        one.wrote(ORDERS, 3)
        raise ValueError
    found = journal.read().events
    times = {one["job"]["name"]: datetime.fromisoformat(one["eventTime"]) for one in found[:2]}
    shop, files = Arrow("postgres-source: shop", "night", "hdfs: /raw/shop"), "file: data/seed/files"
    assert [(edge.arrow, edge.rows) for edge in graph.edges(found)] == [
        (Arrow(files, "night", "hdfs: /raw/files"), None),
        (Arrow("hdfs: /clean", "reconcile", ""), None),
        (Arrow("market-api: /", "night", "hdfs: /raw/api"), None),
        (shop, 15),
    ]
    last = {edge.arrow: edge.last for edge in graph.edges(found)}
    assert last[shop] == times["night.shop"]
    assert last[Arrow("market-api: /", "night", "hdfs: /raw/api")] is None
    assert Arrow("market-api: /", "night", "hdfs: /raw/api") not in graph.moved(found)


def test_a_source_of_which_no_row_was_read_has_no_part_in_what_was_written():
    with lineage.run("clean", to=ORDERS) as one:
        one.read(lineage.raw("shop"), 5)
        one.read(lineage.raw("api"), 0)
        one.wrote(ORDERS, 5)
    assert graph.moved(journal.read().events) == {Arrow("hdfs: /raw/shop", "clean", "hdfs: /clean")}


def test_the_picture_is_the_same_whatever_the_order_of_the_arrows():
    arrows = sorted(graph.recorded())
    drawn = graph.mermaid(arrows)
    for seed in range(5):
        random.Random(seed).shuffle(arrows)
        assert graph.mermaid(arrows + arrows[:2]) == drawn
    assert drawn.count(" -->") == len(arrows)
    for arrow in arrows:
        assert f'"{arrow.program}"' in drawn


def test_what_was_recorded_is_read_again(monkeypatch, tmp_path):
    arrows = {Arrow("a: 1", "p", "b: 2"), Arrow("", "p", "a: 1")}
    monkeypatch.setattr(graph, "RECORDED", tmp_path / "picture.json")
    graph.record(arrows)
    first = graph.RECORDED.read_bytes()
    graph.record(sorted(arrows, reverse=True))
    assert graph.RECORDED.read_bytes() == first
    assert graph.recorded() == arrows


def test_each_program_of_the_picture_is_seen_at_work_by_a_test():
    assert {arrow.program for arrow in graph.recorded()} == set().union(*PARTS.values())
    texts = [file.read_text("utf-8") for kind in ("live", "faults") for file in (ROOT / "tests" / kind).glob("*.py")]
    for part in PARTS:
        assert any(f'at_rest("{part}"' in text for text in texts), part


def test_the_command_prints_the_arrows_their_picture_and_how_many_lines_were_overlooked():
    a_run(1234)
    with journal.path().open("ab") as file:
        file.write(b"{\n")
    said = CliRunner().invoke(app, ["lineage"]).output.splitlines()
    assert said[0].endswith("1,234 rows  hdfs: /raw/shop -> clean -> hdfs: /clean")
    assert said[1].startswith("1 lines of ")
    assert len(said) == 2
    drawn = CliRunner().invoke(app, ["lineage", "--mermaid"]).output
    assert drawn == graph.mermaid(graph.moved(journal.read().events)) + "\n"
