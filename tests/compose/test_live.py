"""The docker engine with real containers: what `up`, `status`, `down` and `reset` promise, and compose by hand.

The tests run in this order, on one stack; which daemon and images they use is tests/compose/conftest.py's matter.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest

from flow360 import clients
from flow360.course.registry import course as registry
from flow360.errors import Exit, FlowError
from flow360.settings import ROOT, settings
from flow360.stack import probes
from flow360.stack.docker import images
from flow360.stack.docker.engine import DockerEngine
from flow360.stack.model import read_model
from tests.compose.asking import all_volumes, check_containers, docker, of_project, until
from tests.compose.conftest import reason_to_skip

if reason := reason_to_skip():
    pytest.skip(reason, allow_module_level=True)
pytestmark = pytest.mark.timeout(900)
CHAPTERS = ("00_welcome", "01_sources", "02_ingestion")


@pytest.fixture(scope="module")
def names(course) -> list[str]:
    """List all that chapters 00 to 02 need, dependencies first."""
    wanted = [name for c in registry().chapters if c.stem in CHAPTERS for name in c.services]
    return course.engine.model.closure(dict.fromkeys(wanted))


# --- up and status ----------------------------------------------------------------------------------------------------


def test_fetch_brings_what_is_missing_and_up_makes_everything_ready(course, names):
    start = time.monotonic()
    course.engine.fetch(names, course.say)
    fetched = time.monotonic() - start
    assert course.engine.images_ready(names)
    for event in course.told().values():
        assert event.state == "ready"
    start = time.monotonic()
    course.engine.up(names, course.say)
    last = course.told()
    print(f"\n{course.images}: fetched in {fetched:.1f} s, up in {time.monotonic() - start:.1f} s: ", end="")
    print(", ".join(f"{name} {event.seconds:.1f}" for name, event in last.items()))
    assert {name: event.state for name, event in last.items()} == {
        name: "done" if course.engine.model[name].job else "running" for name in names
    }


def test_status_says_what_really_runs(course, names):
    rows = {row.name: row for row in course.engine.status()}
    assert set(rows) == {s.name for s in course.engine.model.services.values() if not s.host}
    for name in names:
        row = rows[name]
        print(f"\n{name:16} {row.state:8} {row.runs:9} {row.what} {row.pss_mb} MB", end="")
        assert row.state == ("done" if course.engine.model[name].job else "running")
        assert row.runs == ("stand-in" if course.images == "standins" else "real")
        assert row.what
        assert row.pss_mb > 0 or row.state == "done"


def test_every_container_is_healthy_bounded_and_published_on_this_machine_only(course, names):
    check_containers(course.engine, names)


def test_a_second_up_does_nothing(course, names):
    before = {name: row["Id"] for name, row in course.engine.compose.containers().items()}
    start = time.monotonic()
    course.engine.up(names, course.say)
    print(f"\nsecond up: {time.monotonic() - start:.2f} s", end="")
    assert {event.detail for event in course.told().values()} == {"already", "was done"}
    assert {name: row["Id"] for name, row in course.engine.compose.containers().items()} == before


# --- the services, through the course's own clients -------------------------------------------------------------------


def kafka_round_trip(topic: str, count: int) -> list[int]:
    """Send `count` numbers and read the whole topic."""
    from kafka import TopicPartition

    producer = clients.producer()
    for number in range(count):
        producer.send(topic, str(number).encode())
    producer.flush(timeout=30)
    producer.close()
    return kafka_read(topic, TopicPartition(topic, 0))


def kafka_read(topic: str, partition) -> list[int]:
    consumer = clients.consumer(auto_offset_reset="earliest", enable_auto_commit=False, consumer_timeout_ms=5000)
    consumer.assign([partition])
    consumer.seek_to_beginning(partition)
    end = consumer.end_offsets([partition])[partition]
    found = []
    for record in consumer:
        found.append(int(record.value))
        if record.offset + 1 >= end:
            break
    consumer.close()
    return found


def test_postgres_holds_primeur(course):
    with clients.postgres("source") as source, clients.postgres("warehouse") as warehouse:
        orders = source.execute("select count(*) from orders").fetchone()[0]
        assert orders > 0
        assert warehouse.execute("select count(*) from primeur.orders").fetchone()[0] == orders
        warehouse.execute("create table staging.kept (n int)")
        warehouse.execute("insert into staging.kept select generate_series(1, 1000)")
    print(f"\n{orders} orders in both databases", end="")


def test_kafka_takes_and_gives(course):
    from kafka.admin import NewTopic

    admin = clients.kafka_admin()
    admin.create_topics([NewTopic(name="kept", num_partitions=1, replication_factor=1)])
    admin.close()
    assert kafka_round_trip("kept", 2000) == list(range(2000))


def test_mosquitto_keeps_messages_for_a_client_that_is_away(course):
    import paho.mqtt.client as paho

    def client() -> paho.Client:
        return paho.Client(paho.CallbackAPIVersion.VERSION2, client_id="away", clean_session=False)

    reader = client()
    acks: list[int] = []
    reader.on_subscribe = lambda *_: acks.append(1)
    reader.connect("127.0.0.1", settings().mqtt_port)
    reader.loop_start()
    reader.subscribe("compose/test", qos=1)
    until(lambda: acks, "SUBACK")
    reader.disconnect()
    reader.loop_stop()
    writer = clients.mqtt("writer")
    for number in range(100):
        writer.publish("compose/test", str(number), qos=1).wait_for_publish(10)
    writer.disconnect()
    reader, got = client(), []
    reader.on_message = lambda _c, _u, message: got.append(int(message.payload))
    reader.connect("127.0.0.1", settings().mqtt_port)
    reader.loop_start()
    until(lambda: len(got) == 100, "the 100 messages")
    reader.disconnect()
    reader.loop_stop()
    assert got == list(range(100))


def test_market_api_and_sensors_answer(course):
    from flow360.primeur.vans.sensors import online

    answer = until(lambda: (a := clients.api().get("/orders", params={"limit": 5})).ok and a, "200 from /orders")
    assert answer.json()
    assert clients.api().get("/docs").ok
    assert online("127.0.0.1", settings().mqtt_port)


@pytest.mark.parametrize("kind", ["notebooks", "solutions"])
def test_a_chapter_runs_on_it(course, kind):
    """In a fresh kernel, which finds the engine and the ports through the environment as a learner's would."""
    from flow360.course import run

    target = course.folder / kind / "00_welcome.ipynb"
    run.execute(ROOT / kind / "00_welcome.ipynb", target)
    assert target.exists()


# --- down, up again, reset --------------------------------------------------------------------------------------------


def test_down_leaves_only_named_volumes_and_up_finds_the_data(course, names):
    from kafka import TopicPartition

    compose = course.engine.compose
    kept = set(of_project("volume", compose.project))
    start = time.monotonic()
    course.engine.down(None, course.say)
    print(f"\ndown: {time.monotonic() - start:.1f} s", end="")
    assert {event.state for event in course.told().values()} == {"stopped"}
    assert of_project("container", compose.project) == of_project("network", compose.project) == []
    assert set(of_project("volume", compose.project)) == kept
    # An image may declare volumes that compose.yaml does not name: nothing of that kind piles up.
    assert [v for v in all_volumes() if len(v) == 64 and not docker("ps", "-aq", "--filter", f"volume={v}")] == []
    start = time.monotonic()
    course.engine.up(names, course.say)
    print(f", up again: {time.monotonic() - start:.1f} s", end="")
    assert course.told()["primeur-load"].detail == "was done"
    with clients.postgres() as warehouse:
        assert warehouse.execute("select count(*), sum(n) from staging.kept").fetchone() == (1000, 500500)
    assert kafka_read("kept", TopicPartition("kept", 0)) == list(range(2000))


def test_down_of_one_takes_what_depends_on_it(course):
    course.engine.down(["zookeeper"], course.say)
    assert set(course.told()) == {"zookeeper", "kafka"}
    left = set(course.engine.compose.containers())
    assert not left & {"zookeeper", "kafka"}
    assert "postgres-dwh" in left
    states = {row.name: row.state for row in course.engine.status()}
    assert states["kafka"] == "stopped"
    assert states["postgres-dwh"] == "running"


def test_reset_removes_the_named_volume_and_no_other(course):
    compose = course.engine.compose
    before = set(of_project("volume", compose.project))
    foreign = f"flow360-test-foreign-{uuid.uuid4().hex[:8]}"
    docker("volume", "create", foreign)
    try:
        course.engine.reset(["postgres-dwh"], course.say)
        assert before - set(of_project("volume", compose.project)) == {f"{compose.project}_postgres-dwh"}
        assert foreign in all_volumes()
    finally:
        docker("volume", "rm", foreign)
    # The job that filled it knows that it has to run again.
    assert {row.name: row.state for row in course.engine.status()}["primeur-load"] == "stopped"
    course.told()
    course.engine.up(["primeur-load"], course.say)
    assert course.told()["primeur-load"].detail == ""
    with clients.postgres() as warehouse:
        assert warehouse.execute("select to_regclass('staging.kept')").fetchone() == (None,)
        assert warehouse.execute("select count(*) from primeur.orders").fetchone()[0] > 0


# --- what goes wrong --------------------------------------------------------------------------------------------------


def failure(engine: DockerEngine, names: list[str]) -> FlowError:
    with pytest.raises(FlowError) as caught:
        engine.up(names, lambda _: None)
    print(f"\n{caught.value.message}", end="")
    return caught.value


def test_a_taken_port_is_named_with_its_variable(course):
    course.engine.down(["mosquitto"], course.say)
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("127.0.0.1", settings().mqtt_port))
        sock.listen()
        error = failure(course.engine, ["mosquitto"])
    assert error.code == Exit.PORT
    assert "MQTT_PORT" in error.message
    assert str(settings().mqtt_port) in error.message
    course.engine.up(["mosquitto"], course.say)


def test_a_volume_with_another_password_is_told_at_once(course, monkeypatch):
    course.engine.down(["postgres-source"], course.say)
    monkeypatch.setenv("POSTGRES_SOURCE_PASSWORD", "another1")
    settings.cache_clear()
    start = time.monotonic()
    error = failure(DockerEngine(read_model()), ["postgres-source"])
    monkeypatch.undo()
    settings.cache_clear()
    assert "another password" in error.message
    assert "flow360 reset postgres-source" in error.message
    assert time.monotonic() - start < 60
    course.engine.down(["postgres-source"], course.say)


def test_a_service_that_dies_shows_the_end_of_its_log(course, monkeypatch):
    """A config that the server refuses, in a copy of the stack."""
    copy = course.folder / "broken"
    shutil.copytree(ROOT / "stack", copy / "stack")
    shutil.copy(ROOT / "compose.yaml", copy)
    (copy / "stack" / "mosquitto" / "mosquitto.conf").write_text("listener 1883\nno_such_option true\n", "utf-8")
    course.engine.down(["mosquitto"], course.say)
    engine = DockerEngine(course.engine.model)
    engine.compose.file = copy / "compose.yaml"
    error = failure(engine, ["mosquitto"])
    assert error.code == Exit.SERVICE
    assert "no_such_option" in error.message
    assert len(error.message.splitlines()) <= 6
    course.engine.down(["mosquitto"], course.say)


def test_an_image_that_cannot_be_had_is_one_line(course, monkeypatch):
    from dataclasses import replace

    model = course.engine.model
    broken = replace(model["mosquitto"], image="flow360/no-such-image:0.0.0")
    engine = DockerEngine(replace(model, services={**model.services, "mosquitto": broken}))
    assert not engine.images_ready(["mosquitto"])
    assert not images.can_pull("flow360/no-such-image:0.0.0")
    with pytest.raises(FlowError) as caught:
        engine.fetch(["mosquitto"], lambda _: None)
    print(f"\n{caught.value.message}", end="")
    assert caught.value.code == Exit.NETWORK
    assert "flow360/no-such-image:0.0.0" in caught.value.message
    assert len(caught.value.message.splitlines()) == 1


# --- without flow360 --------------------------------------------------------------------------------------------------


def test_compose_by_hand_word_for_word(course, tmp_path, monkeypatch):
    """`docker compose up -d kafka postgres-dwh` in a folder that holds what the repository's root holds."""
    course.engine.down(None, course.say)
    (tmp_path / "stack").symlink_to(ROOT / "stack")
    shutil.copy(ROOT / "compose.yaml", tmp_path)
    shutil.copy(os.environ["FLOW360_ENV_FILE"], tmp_path / ".env")
    (tmp_path / ".env").chmod(0o600)
    project = f"flow360-test-{os.getpid()}-hand"
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("FLOW360_", "COMPOSE_"))}
    environment["COMPOSE_PROJECT_NAME"] = project

    def compose(*words: str) -> str:
        done = subprocess.run(
            ["docker", "compose", *words], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    try:
        start = time.monotonic()
        compose("up", "-d", "kafka", "postgres-dwh")
        model = course.engine.model
        until(lambda: probes.kafka(model["kafka"].port) is None, "kafka answers", 120)
        until(lambda: probes.postgres(model["postgres-dwh"].port, "postgres_dwh") is None, "postgres answers", 120)
        print(f"\nby hand: {time.monotonic() - start:.1f} s", end="")
        assert set(compose("ps", "--services").split()) == {"zookeeper", "kafka", "postgres-dwh"}
        # The engine sees what was started by hand.
        monkeypatch.setenv("FLOW360_COMPOSE_PROJECT", project)
        engine = DockerEngine(read_model())
        wanted = {"zookeeper", "kafka", "postgres-dwh"}
        until(lambda: {row.name for row in engine.status() if row.state == "running"} == wanted, "status", 60)
        compose("down")
        assert of_project("container", project) == of_project("network", project) == []
    finally:
        compose("down", "--volumes")


@pytest.mark.parametrize("profile", ["sources", "ingestion", "storage", "minimal", "complete"])
def test_each_profile_stands_by_itself(course, profile):
    """Every dependency of a profile's services is in it: Compose plans its containers without a complaint."""
    command = course.engine.compose.command("create", "--dry-run", "--no-build", "--pull", "never")
    place = command.index("--profile")
    command[place + 1] = profile
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    for name in course.engine.model.profile(profile):
        assert f"-{name}-1" in done.stdout + done.stderr


def test_the_command_line_drives_it(course):
    """`flow360 up`, `status --json`, `logs` and `down` with --engine docker, as a learner types them."""

    def flow360(*words: str) -> subprocess.CompletedProcess[str]:
        command = [str(Path(sys.executable).with_name("flow360")), *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=300)

    done = flow360("up", "mosquitto", "--engine", "docker")
    assert done.returncode == 0, done.stderr
    done = flow360("status", "--engine", "docker", "--json")
    assert done.returncode == 0, done.stderr
    rows = {row["name"]: row for row in json.loads(done.stdout)}
    assert rows["mosquitto"]["state"] == "running"
    assert rows["kafka"]["state"] == "stopped"
    assert "mosquitto version" in flow360("logs", "mosquitto", "--engine", "docker").stdout
    done = flow360("down", "--engine", "docker")
    assert done.returncode == 0, done.stderr


def test_nothing_is_left(course):
    course.engine.down(None, course.say)
    assert of_project("container", course.engine.compose.project) == []
    assert of_project("network", course.engine.compose.project) == []
    for service in course.engine.model.services.values():
        for port in service.ports:
            with socket.socket() as sock:
                assert sock.connect_ex(("127.0.0.1", port)) != 0, service.name
