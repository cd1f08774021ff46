"""The whole minimal stack with real containers: the engine brings it up, lessons run on it, and compose does by hand.

The tests run in this order, on one stack. What has no image on this machine is left out, and the reason is printed.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import time
from datetime import date

import pytest
import requests

from flow360 import clients
from flow360.orchestration import pipelines
from flow360.primeur import plays
from flow360.settings import ROOT, SPLIT, settings
from flow360.stack import probes
from flow360.stack.docker.engine import DockerEngine
from flow360.stack.model import read_model
from flow360.storage.reconcile import reconcile
from tests.compose.asking import check_containers, of_project, until
from tests.compose.conftest import forget, reason_to_skip

if reason := reason_to_skip():
    pytest.skip(reason, allow_module_level=True)
pytestmark = pytest.mark.timeout(1800)
# The command of the course's source, word for word.
BY_HAND = (
    "docker compose up -d namenode datanode hive-server zookeeper kafka postgres-dwh airflow-webserver "
    "airflow-scheduler spark-master spark-worker prometheus grafana"
)


@pytest.fixture(scope="module")
def names(course) -> list[str]:
    """List all of the minimal profile that has an image here, dependencies first."""
    return course.engine.model.closure(n for n in course.engine.model.profile("minimal") if n not in course.left_out)


def test_the_minimal_profile_comes_up(course, names):
    for name, why in course.left_out.items():
        print(f"\nleft out: {name}: {why}", end="")
    start = time.monotonic()
    course.engine.fetch(names, course.say)
    fetched = time.monotonic() - start
    course.told()
    start = time.monotonic()
    course.engine.up(names, course.say)
    last = course.told()
    print(f"\n{course.images}: fetched in {fetched:.1f} s, up in {time.monotonic() - start:.1f} s: ", end="")
    print(", ".join(f"{name} {event.seconds:.1f}" for name, event in last.items()), end="")
    assert {name: event.state for name, event in last.items()} == {
        name: "done" if course.engine.model[name].job else "running" for name in names
    }


def test_it_is_healthy_bounded_and_told_by_status(course, names):
    check_containers(course.engine, names)
    rows = {row.name: row for row in course.engine.status()}
    for name in names:
        row = rows[name]
        print(f"\n{name:21} {row.state:8} {row.runs:9} {row.what} {row.pss_mb} MB", end="")
        assert row.state == ("done" if course.engine.model[name].job else "running")
    print(f"\ntogether {sum(row.pss_mb for row in rows.values()):.0f} MB", end="")


def test_prometheus_reaches_what_it_watches(course):
    """Its targets are the names of services inside the docker network."""
    minimal = set(course.engine.model.profile("minimal"))

    def silent() -> set[str]:
        rows = clients.prometheus().query("up")
        return {job for job, value in zip(rows["job"], rows["value"], strict=True) if job in minimal and value != 1}

    until(lambda: not silent(), "every target is up", 60)
    jobs = set(clients.prometheus().query("up")["job"])
    assert {"kafka", "kafka-exporter", "node-exporter", "postgres-exporter"} <= jobs & minimal
    print(f"\nup: {sorted(jobs & minimal)}", end="")


def test_hive_and_spark_share_a_table_on_hdfs(course):
    """HiveServer2 writes (Tez, HDFS, metastore), Spark reads with an executor of its worker."""
    connection = clients.hive()
    cursor = connection.cursor()
    cursor.execute("create table compose_test (n int)")
    cursor.execute("insert into compose_test values (1), (2), (39)")
    cursor.execute("select sum(n) from compose_test")
    assert cursor.fetchall() == [(42,)]
    spark = clients.spark()
    assert spark.sql("select sum(n) from compose_test").collect()[0][0] == 42
    spark.stop()
    cursor.execute("drop table compose_test")
    connection.close()


@pytest.mark.parametrize("stem", ["03_orchestration", "05a_data_lake"])
def test_a_lesson_runs_on_it(course, stem):
    """In a fresh kernel, which finds the engine and the ports through the environment as a learner's would."""
    from flow360.course import run

    target = course.folder / "minimal" / f"{stem}.ipynb"
    start = time.monotonic()
    run.execute(ROOT / "notebooks" / target.name, target)
    print(f"\n{stem}: {time.monotonic() - start:.1f} s", end="")
    assert target.exists()


def test_a_played_day_reaches_the_warehouse_as_an_alarm(course):
    """The player, the vans, MQTT, the bridge, Kafka, Streams and the sink, each in a container of its own."""

    def recorded() -> bool:
        with clients.postgres("warehouse") as db:
            return bool(db.execute("select from ops.alarms where van_id = 'VAN-03' and run = %s", [day.run]).fetchone())

    start = time.monotonic()
    day = plays.play("2026-05-07", speed=7200)
    assert day.wait().vans == "complete"
    until(recorded, "VAN-03's alarm in the warehouse", 120)
    print(f"\nplayed, and the alarm in the warehouse: {time.monotonic() - start:.1f} s", end="")


def test_a_night_runs_on_it(course):
    """Airflow's tasks reach the shop, its API, HDFS, Spark, dbt's project, the warehouse and the Pushgateway."""
    pipelines.forget("nightly_lake", "nightly_dbt")
    clients.airflow().patch("/dags/nightly_dbt", json={"is_paused": False})
    run = pipelines.start("nightly_lake", "2026-05-08T06:00Z")
    assert pipelines.finish("nightly_lake", run, 240) == "success"
    # Unpaused, Airflow also starts the night that is due today, which has its own run of nightly_dbt.
    answered = until(lambda: pipelines.triggered_by("nightly_dbt", run), "a run of nightly_dbt", 90)
    assert pipelines.finish("nightly_dbt", answered, 240) == "success"
    pipelines.pause("nightly_lake", "nightly_dbt")
    found = reconcile(date(2026, 5, 7))
    print(f"\n{found.frame().to_string(index=False)}", end="")
    assert found.equal, found.differences
    assert len(found.layers["mart"]) > 300
    until(lambda: clients.prometheus().value('nightly_dbt_nodes{job="nightly_dbt", status="pass"}'), "its numbers", 30)


def test_down_leaves_nothing_but_named_volumes(course):
    compose = course.engine.compose
    kept = set(of_project("volume", compose.project))
    start = time.monotonic()
    course.engine.down(None, course.say)
    print(f"\ndown: {time.monotonic() - start:.1f} s", end="")
    assert of_project("container", compose.project) == of_project("network", compose.project) == []
    assert set(of_project("volume", compose.project)) == kept


def test_airflow_and_hive_on_servers_of_their_own(course, monkeypatch):
    """One line in `.env`; the scheduler's heartbeat and the metastore's answer come out of the new servers."""
    monkeypatch.setenv("COMPOSE_FILE", f"compose.yaml:{SPLIT}")
    forget()
    engine, own = DockerEngine(read_model()), ["postgres-airflow", "postgres-hive"]
    try:
        engine.up(["airflow-scheduler", "hive-metastore"], course.say)
        states = {row.name: row.state for row in engine.status()}
        assert [states[name] for name in (*own, "airflow-scheduler", "hive-metastore")] == ["running"] * 4
        for which, server, table in (("airflow", own[0], "dag"), ("metastore", own[1], "DBS")):
            with clients.postgres(which) as db:
                assert db.info.port == engine.model[server].port
                assert db.execute("select count(*) from pg_tables where tablename = %s", [table]).fetchone() == (1,)
        engine.down(None, course.say)
    finally:
        engine.reset(own, course.say)
        monkeypatch.undo()
        forget()


def test_compose_by_hand_from_the_repository_s_root(course, monkeypatch):
    """The source's command; only the file of variables is the tests' own, in the place of a learner's `.env`."""
    words = [word for word in shlex.split(BY_HAND) if word not in course.left_out]
    wanted = words[words.index("-d") + 1 :]
    project = f"flow360-test-{os.getpid()}-minimal"
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("FLOW360_", "COMPOSE_"))}
    environment |= {"COMPOSE_PROJECT_NAME": project, "COMPOSE_ENV_FILES": os.environ["FLOW360_ENV_FILE"]}

    def run(*command: str) -> str:
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=900)
        assert done.returncode == 0, done.stderr
        return done.stdout

    try:
        start = time.monotonic()
        run(*words)
        model = course.engine.model
        for name in wanted:
            assert probes.wait_ready(probes.of(model, model[name]), 180, lambda: None) is None, name
        print(f"\n{' '.join(words)}\nall answer after {time.monotonic() - start:.1f} s", end="")
        # With everything that they need, and the engine sees what was started by hand.
        monkeypatch.setenv("FLOW360_COMPOSE_PROJECT", project)
        engine = DockerEngine(read_model())
        needed = {name for name in model.closure(wanted) if not model[name].job}
        until(lambda: {r.name for r in engine.status() if r.state == "running"} == needed, "status", 60)
        answer = requests.get(f"http://127.0.0.1:{settings().airflow_port}/api/v2/version", timeout=10)
        assert answer.ok
        run("docker", "compose", "down")
        assert of_project("container", project) == of_project("network", project) == []
    finally:
        run("docker", "compose", "down", "--volumes")
