"""Airflow without running it: its settings in both engines, each DAG file by its id, and what the tasks call."""

from __future__ import annotations

import configparser
import json
import os
import re
import subprocess
import sys
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pendulum
import pytest
import yaml

from flow360.errors import FlowError
from flow360.orchestration import pipelines
from flow360.settings import ROOT, settings
from flow360.stack.model import model, read_compose, read_native
from flow360.stack.native.programs import Programs

DAGS = ROOT / "dags"
FILES = sorted(path.stem for path in DAGS.glob("*.py"))
PARTS = ("airflow-init", "airflow-webserver", "airflow-scheduler", "airflow-dag-processor", "airflow-triggerer")
# What one engine needs and the other one has by itself.
ONLY_NATIVE = {"AIRFLOW_HOME", "AIRFLOW__API__HOST", "AIRFLOW__API__PORT", "PYTHON"}


# --- settings ---------------------------------------------------------------------------------------------------------


def settings_file() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(ROOT / "stack" / "airflow" / "airflow.cfg")
    return parser


def test_every_setting_is_one_that_airflow_knows():
    """A key that Airflow does not know would change nothing, and nobody would notice."""
    known = yaml.safe_load((Path(find_spec("airflow").origin).parent / "config_templates" / "config.yml").read_text())
    for section in settings_file().sections():
        for key in settings_file()[section]:
            assert key in known[section]["options"], f"[{section}] {key}"


def test_settings_are_a_laptop_s():
    cfg = settings_file()
    assert cfg["core"]["executor"] == "LocalExecutor"
    assert cfg["core"].getint("parallelism") == 4
    assert cfg["core"].getboolean("load_examples") is False
    assert cfg["api"].getint("workers") == 1
    assert cfg["api"].getboolean("expose_config") is False
    assert "simple_auth_manager_all_admins" not in cfg["core"]
    for section in cfg.sections():
        for key in cfg[section]:
            assert not key.endswith(("password", "secret", "_key", "_conn")), key


@pytest.mark.parametrize("name", PARTS)
def test_natively_airflow_has_the_container_s_variables_with_this_machine_s_addresses_and_folders(name, tmp_path):
    docker = read_compose()["services"][name]["environment"]
    native = Programs(model(), tmp_path).environment(model()[name])
    assert set(native) == set(docker) | ONLY_NATIVE
    for key, value in native.items():
        assert not re.search(r"/opt/|@[a-z]|://[a-z][\w-]*(:\d+)?(/|$)", value.replace(str(tmp_path), "")), key
    lake = f"webhdfs://primeur:{settings().lake_secret}@127.0.0.1:{settings().namenode_web_port}"
    assert native["AIRFLOW_CONN_LAKE"] == lake


def test_all_parts_share_their_keys_and_only_the_api_knows_the_password():
    tables = read_native()
    for name in PARTS[1:]:
        assert tables[name]["like"] == PARTS[0]
        assert ("AIRFLOW_PASSWORD" in model()[name].environment) == (name == "airflow-webserver")


# --- DAG files --------------------------------------------------------------------------------------------------------

READ = """
import json, sys
from airflow.dag_processing.dagbag import DagBag
bag = DagBag(sys.argv[1])
dags = {dag.dag_id: {
    "file": dag.fileloc.rpartition("/")[2], "catchup": dag.catchup, "doc": dag.doc_md, "tags": sorted(dag.tags),
    "start": dag.start_date.isoformat(), "max_active_runs": dag.max_active_runs,
    "retries": {task.task_id: task.retries for task in dag.tasks},
    "patience": min(
        sum(task.retry_delay.total_seconds() * (task.retry_exponential_backoff or 1) ** n for n in range(task.retries))
        for task in dag.tasks
    ),
} for dag in bag.dags.values()}
print("READ", json.dumps({"dags": dags, "errors": bag.import_errors}))
"""


@pytest.fixture(scope="module")
def bag(tmp_path_factory) -> dict:
    """All DAG files, as Airflow reads them: in a process of its own, with no database and no services."""
    home = tmp_path_factory.mktemp("airflow")
    folder = home / "dags"
    folder.mkdir()
    for path in [*DAGS.glob("*.py"), DAGS / "include", DAGS / ".airflowignore"]:
        (folder / path.name).symlink_to(path)
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith("AIRFLOW")},
        "AIRFLOW_HOME": str(home),
        "PYTHONPATH": str(folder),
    }
    done = subprocess.run(
        [sys.executable, "-c", READ, str(folder)], capture_output=True, text=True, timeout=120, env=environment
    )
    said = [line for line in done.stdout.splitlines() if line.startswith("READ ")]
    assert said, done.stderr[-2000:]
    return json.loads(said[0].removeprefix("READ "))


def test_every_file_can_be_imported(bag):
    assert bag["errors"] == {}


@pytest.mark.parametrize("name", FILES)
def test_one_dag_a_file_with_the_file_s_name(bag, name):
    assert [dag_id for dag_id, dag in bag["dags"].items() if dag["file"] == f"{name}.py"] == [name]


@pytest.mark.parametrize("name", FILES)
def test_a_dag_can_be_run_by_a_learner_and_repeated_by_airflow(bag, name):
    dag = bag["dags"][name]
    assert dag["doc"]
    assert dag["tags"]
    assert dag["catchup"] is False, "unpaused, it would run for every interval since its start"
    assert dag["max_active_runs"] <= 4
    assert all(retries >= 2 for retries in dag["retries"].values())


@pytest.mark.parametrize("name", ["nightly_lake", "nightly_dbt", "reconciliation"])
def test_a_night_outlasts_a_minute_without_one_of_its_services(bag, name):
    assert bag["dags"][name]["patience"] > 60


def test_nothing_heavy_is_imported_when_a_file_is_read():
    """The dag-processor reads every file again and again: what a task needs is imported in the task."""
    for path in DAGS.glob("*.py"):
        for line in path.read_text("utf-8").splitlines():
            if line.startswith(("import ", "from ")):
                assert line.split()[1].split(".")[0] in ("__future__", "datetime", "airflow"), f"{path.name}: {line}"


# --- what the tasks call ----------------------------------------------------------------------------------------------


def test_the_quality_gate_finds_exactly_what_was_planted():
    """Line by line against the manifest; `late` is a good line in the next day's file."""
    code = """
import json, sys
sys.path.insert(0, "dags")
from include.quality import FILES, judge
from flow360.primeur.snapshot import seed_table
known = [set(seed_table(f"{name}s")[f"{name}_id"].to_pylist()) for name in ("customer", "store")]
found = {path.name: judge(path, *known) for path in sorted(FILES.glob("orders_*.csv"))}
read = {path.name: path.read_bytes().count(b"\\n") - 1 for path in FILES.glob("orders_*.csv")}
assert {name: len(one.good) + len(one.bad) for name, one in found.items()} == read
print(json.dumps({name: [[row["line"], row["defect"]] for row in one.bad] for name, one in found.items()}))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    manifest = json.loads((ROOT / "data" / "seed" / "manifest.json").read_text("utf-8"))
    called = {
        "encoding": "not utf-8",
        "bad_row": "wrong number of fields",
        "missing_key": "customer_id: missing",
        "orphan": "customer_id: unknown",
        "not_a_number": "total_eur: not an amount with two decimals",
        "wrong_unit": "total_eur: cents, not euros",
        "duplicate": "doubled",
    }
    for name, found in json.loads(done.stdout).items():
        planted = [
            [one["line"], called[one["kind"]]]
            for one in manifest["defects"]
            if one["where"] == name and one["kind"] in called
        ]
        assert sorted(found) == sorted(planted), name


@pytest.fixture
def include(monkeypatch):
    """The plain functions of dags/include, as a task imports them."""
    monkeypatch.syspath_prepend(str(DAGS))
    import include.interval
    import include.night
    import include.transform

    return include


HEADER = "order_id,ordered_at,customer_id,store_id,channel,status,items,total_eur,delivery_note"
ORDER = "200001,2026-05-10T08:00:00+02:00,1301,1,web,delivered,2,7.50,a"


@pytest.mark.parametrize(
    ("lines", "defects"),
    [
        ([ORDER, "", ORDER.replace("200001", "200002")], {3: "an empty line or message"}),
        ([ORDER, ORDER], {3: "doubled"}),
        ([ORDER.replace(",1,web", ",77,web")], {2: "store_id: unknown"}),
        ([ORDER.replace("1301", "1302")], {2: "customer_id: unknown"}),
        ([ORDER.replace("7.50", "123456789.00")], {2: "total_eur: not an amount with two decimals"}),
        ([ORDER.replace("T08:00:00+02:00", " 08:00:00")], {2: "ordered_at: not a moment with its offset"}),
        ([f"{ORDER}\0", ORDER], {2: "delivery_note: not readable (NUL, or a character that was lost)"}),
        (
            [ORDER[:-1] + '"Sonner\ndeux fois, merci"', ORDER.replace("200001", "x")],
            {4: "order_id: not a whole number"},
        ),
        ([f"{ORDER}{'x' * 140_000}"], {2: "delivery_note: too long"}),
    ],
)
def test_the_gate_says_of_each_row_what_it_is_and_keeps_it_whole(monkeypatch, tmp_path, lines, defects):
    monkeypatch.syspath_prepend(str(DAGS))
    from include.quality import judge

    path = tmp_path / "orders_2026-05-10.csv"
    path.write_bytes("\n".join([HEADER, *lines, ""]).encode())
    found = judge(path, {1301}, {1})
    assert {row["line"]: row["defect"] for row in found.bad} == defects
    assert len(found.good) + len(found.bad) == len(lines)
    for row in found.bad:
        assert row["original"].decode() == "\n".join([HEADER, *lines]).split("\n")[row["line"] - 1]
        assert "\0" not in row["content"]


def test_a_file_that_has_not_come_is_awaited_and_not_an_empty_day(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(DAGS))
    from include.quality import judge

    with pytest.raises(FileNotFoundError, match="orders_2026-05-11.csv has not come"):
        judge(tmp_path / "orders_2026-05-11.csv", set(), set())


class Database:
    """A connection, to the shop or the warehouse, that gives the rows it was made with and counts what it is given."""

    def __init__(self, *rows: dict) -> None:
        self.rows, self.given, self.rowcount = rows, [], len(rows)

    def execute(self, text, parameters=()):
        return self

    def executemany(self, text, rows):
        self.given += rows

    def fetchall(self):
        return list(self.rows)

    def cursor(self, **_):
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


def test_what_a_pipeline_carries_is_written_down_with_its_rows(include, monkeypatch, tmp_path):
    from include import deliveries, orders, quality

    from flow360.monitoring.lineage import graph, journal

    monkeypatch.setattr(settings(), "flow360_lineage", tmp_path)
    warehouse, begin = Database(), pendulum.datetime(2026, 5, 7, tz=PARIS)
    assert deliveries.load(Database({"store_id": 1}, {"store_id": 2}), warehouse, begin, begin.add(days=1)) == 2
    assert quality.set_aside(warehouse, "2026-05-07", [{"line": 3}]) == 1
    assert quality.let_in(warehouse, "2026-05-07", [{"order_id": n} for n in range(4)]) == 4
    assert quality.let_in(warehouse, "2026-05-08", []) == 0
    assert orders.refresh_store_sales(Database({}, {}, {}), begin, begin.add(hours=1)) == 3
    assert len(warehouse.given) == 7
    found = {edge.arrow: edge.rows for edge in graph.edges(journal.read().events)}
    staging = "postgres-dwh: staging"
    assert found == {
        graph.Arrow("postgres-source: shop", "backfill_deliveries", staging): 2,
        graph.Arrow("file: data/seed/files", "nightly_quality", staging): 5,
    }, "one within a place is not an arrow"
    (sales,) = (
        one
        for one in journal.read().events
        if one["job"]["name"] == "store_sales" and one["outputs"][0]["outputFacets"]
    )
    assert sales["outputs"][0]["outputFacets"]["outputStatistics"]["rowCount"] == 3


PARIS = "Europe/Paris"


@pytest.mark.parametrize(
    ("unit", "zone", "run_after", "start", "end"),
    [
        ("hour", "UTC", "2026-05-07T09:41:12+00:00", "2026-05-07T08:00:00+00:00", "2026-05-07T09:00:00+00:00"),
        ("day", PARIS, "2026-05-07T22:30:00+00:00", "2026-05-07T00:00:00+02:00", "2026-05-08T00:00:00+02:00"),
        ("day", PARIS, "2026-03-30T08:00:00+00:00", "2026-03-29T00:00:00+01:00", "2026-03-30T00:00:00+02:00"),
        ("day", PARIS, "2026-10-26T08:00:00+00:00", "2026-10-25T00:00:00+02:00", "2026-10-26T00:00:00+01:00"),
    ],
)
def test_a_run_without_a_logical_date_works_on_the_last_whole_interval(include, unit, zone, run_after, start, end):
    """Airflow's own client starts runs so; two days a year have 23 and 25 hours."""
    moment = datetime.fromisoformat
    by_hand = SimpleNamespace(data_interval_start=None, data_interval_end=None, run_after=moment(run_after))
    found = include.interval.interval_of(by_hand, unit, zone)
    assert [one.isoformat() for one in found] == [start, end]
    scheduled = SimpleNamespace(
        data_interval_start=moment(start).astimezone(UTC),
        data_interval_end=moment(end).astimezone(UTC),
        run_after=moment(end),
    )
    assert include.interval.interval_of(scheduled, unit, zone) == found


def test_every_dag_asks_its_run_for_the_interval():
    """A task's own `data_interval_start` is None where the run has no logical date."""
    for path in DAGS.glob("*.py"):
        assert "data_interval" not in path.read_text("utf-8").replace("DataInterval", ""), path.name


def test_each_day_keeps_its_own_number_of_differences(include, monkeypatch):
    import include.reconcile

    told = {}

    def push(gateway, job, registry, timeout):
        assert (gateway, job) == ("gateway:9091", "reconciliation")
        told.update({day: registry.get_sample_value("reconciliation_differences", {"day": day}) for day in days})

    monkeypatch.setattr("prometheus_client.pushadd_to_gateway", push)
    days = {"2026-05-07": 0, "2026-05-08": 3}
    include.reconcile.report("gateway:9091", days)
    assert told == days


class Marts:
    """A warehouse whose mart needs so many days to be looked back; None: it is empty."""

    def __init__(self, ends: int | None, there: bool = True) -> None:
        self.answers = ["marts.fct_orders" if there else None, ends]

    def execute(self, text, parameters=()):
        self.asked = parameters
        return SimpleNamespace(fetchone=lambda: (self.answers.pop(0),))


@pytest.mark.parametrize(
    ("marts", "days", "expected"),
    [
        (Marts(9), ["2026-05-07", "2026-05-04"], 9),
        (Marts(2), ["2026-05-09"], None),
        (Marts(None), ["2026-05-09"], None),
    ],
    ids=["old", "new", "empty"],
)
def test_a_night_that_brings_an_old_day_makes_the_marts_look_back_as_far(include, marts, days, expected):
    assert include.transform.lookback(marts, days) == expected
    assert marts.asked == (min(days),)


def test_the_marts_look_back_as_always_where_nothing_came_or_nothing_is_there(include):
    said = yaml.safe_load((ROOT / "dbt" / "dbt_project.yml").read_text("utf-8"))
    assert said["vars"]["lookback_days"] == include.transform.ALWAYS
    assert include.transform.lookback(Marts(9), []) is None
    assert include.transform.lookback(Marts(None, there=False), ["2026-05-07"]) is None


@pytest.mark.parametrize("failed", [[], ["orders_come_once: found 3"]])
def test_what_is_told_of_a_night_says_when_all_was_well_only_if_it_was(include, monkeypatch, failed):
    told = {}

    def push(gateway, job, registry, timeout):
        assert (gateway, job) == ("gateway:9091", "nightly_dbt")
        for metric in registry.collect():
            told.update({(one.name, *one.labels.values()): one.value for one in metric.samples})

    monkeypatch.setattr("prometheus_client.pushadd_to_gateway", push)
    built = {"seconds": 12.5, "nodes": {"success": 25, "fail": len(failed)}, "failed": failed}
    include.transform.report("gateway:9091", built, "2026-05-07", {"lake": 403, "warehouse": 403})
    assert told["nightly_dbt_seconds",] == 12.5
    assert told["nightly_dbt_nodes", "fail"] == len(failed)
    assert told["nightly_orders", "2026-05-07", "warehouse"] == 403
    assert (("nightly_dbt_last_success_timestamp_seconds",) in told) == (not failed)


# --- backfills --------------------------------------------------------------------------------------------------------


class Backfills:
    """Airflow's API for backfills: one that is not complete keeps out the next one, and a complete one no cancel."""

    def __init__(self, completed: bool, refused: str = "") -> None:
        self.known = {1: completed}
        self.refused = refused  # "complete": the scheduler completes it right before the cancel; "down": nothing works
        self.calls: list[str] = []

    def get(self, url: str, params: dict | None = None):
        rows = [{"id": number, "completed_at": "now" if over else None} for number, over in self.known.items()]
        found = {"backfills": rows[-1:]} if params else rows[int(url.rpartition("/")[2]) - 1]
        return SimpleNamespace(json=lambda: found)

    def put(self, url: str):
        self.calls.append(url)
        self.known[1] = self.refused != "down"
        if self.refused:
            raise FlowError("airflow: 409")

    def patch(self, url: str, json: dict):
        assert json == {"is_paused": False}

    def post(self, url: str, json: dict):
        assert all(self.known.values()), "409: there is already a running backfill"
        self.known[2] = False
        return SimpleNamespace(json=lambda: {"id": 2})


@pytest.mark.parametrize(
    ("api", "awaited"),
    [(Backfills(True), []), (Backfills(False), [1]), (Backfills(False, "complete"), [1])],
    ids=["complete", "open", "completed meanwhile"],
)
def test_a_backfill_may_be_asked_for_again_at_once(monkeypatch, api, awaited):
    waits = []
    monkeypatch.setattr(pipelines, "_api", lambda: api)
    monkeypatch.setattr(pipelines, "await_backfill", waits.append)
    assert pipelines.backfill("lab_reviews", "2026-05-03T22:00Z", "2026-05-07T22:00Z") == 2
    assert waits == awaited
    assert api.calls == [f"/backfills/{number}/cancel" for number in awaited]


def test_a_backfill_that_cannot_be_cancelled_is_reported(monkeypatch):
    monkeypatch.setattr(pipelines, "_api", lambda: Backfills(False, "down"))
    with pytest.raises(FlowError, match="409"):
        pipelines.backfill("lab_reviews", "2026-05-03T22:00Z", "2026-05-07T22:00Z")
