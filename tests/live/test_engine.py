"""The native engine with real servers: what `up`, `status`, `down` and `reset` promise."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import time
from pathlib import Path

import psutil
import pytest

from flow360 import clients
from flow360.course.registry import course
from flow360.settings import ROOT, settings
from flow360.stack import probes
from flow360.stack.model import read_model
from flow360.stack.native import java
from flow360.stack.native.engine import NativeEngine
from flow360.stack.status import Event
from flow360.waiting import patient
from tests.live.listeners import listeners

SERVICES = ("complete",)

TOPIC = "engine-test"


@pytest.fixture(scope="module")
def everything(stack) -> list[str]:
    """All that the chapters need."""
    wanted = dict.fromkeys(name for chapter in course().chapters for name in chapter.services)
    return [name for name in stack.model.closure(wanted) if stack.model[name].native.runs != "compose only"]


@pytest.fixture(scope="module", autouse=True)
def events(stack, everything) -> list[Event]:
    """What `up` said while it started all of them together: nothing runs that the bundle before left."""
    stack.down()
    said: list[Event] = []
    stack.up(everything, said.append)
    return said


def rows(stack) -> dict:
    return {row.name: row for row in stack.status()}


def until(condition, what: str, deadline: float = 60.0) -> None:
    missing = probes.wait_ready(lambda: None if condition() else what, deadline, lambda: None, pause=0.05)
    assert missing is None, missing


def family(stack) -> list[psutil.Process]:
    daemon = stack.host.supervisor.daemon()
    return [daemon, *daemon.children(recursive=True)]


def over(process: psutil.Process) -> bool:
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


# --- up and status ----------------------------------------------------------------------------------------------------


@pytest.mark.timeout(400)
def test_up_starts_everything_and_status_says_so(stack, everything):
    # All are asked at once, and right after all were started a busy one may miss the second that status gives it.
    until(lambda: "starting" not in [row.state for row in rows(stack).values()], "nothing to be starting any more", 20)
    for name, row in rows(stack).items():
        service = stack.model[name]
        assert row.runs == service.native.runs, name
        if name not in everything:
            assert row.state in ("stopped", "done" if service.job else "stopped"), name
            continue
        assert row.state == ("done" if service.job else "running"), f"{name}: {row.state}"
        assert row.port == service.port
        assert service.job or row.pss_mb > 1, name


def test_a_second_up_does_nothing(stack, everything):
    before, events = stack.host.pids(), []
    start = time.monotonic()
    stack.up(everything, events.append)
    seconds = time.monotonic() - start
    print(f"\nsecond up: {seconds:.2f} s for {len(everything)} services")
    assert stack.host.pids() == before
    assert {event.detail for event in events} == {"already", "was done"}


def test_dependencies_were_ready_before_their_users_began(stack, events):
    """ZooKeeper answered before the broker was started."""
    ready = {event.service: number for number, event in enumerate(events)}
    # Not what is fetched for it, which may come before.
    begun = {event.service: number for number, event in reversed(list(enumerate(events))) if event.state == "starting"}
    pairs = [(service.name, other) for service in stack.model.services.values() for other in service.depends_on]
    asked = [(name, other) for name, other in pairs if name in begun and other in ready]
    assert len(asked) > 20
    for name, other in asked:
        assert ready[other] < begun[name], f"{name} before {other}"


def test_memory_is_what_the_doctor_counts_with(stack, everything):
    found = {name: row.pss_mb for name, row in rows(stack).items() if row.pss_mb}
    declared = {name: stack.model[name].native.memory_mb for name in found}
    for name, pss in found.items():
        print(f"\n{name:<16} PSS {pss:>6.0f} MB, declared {declared[name]:>4}", end="")
    print(f"\n{'sum':<16} PSS {sum(found.values()):>6.0f} MB, declared {sum(declared.values()):>4}")
    assert sum(found.values()) <= sum(declared.values())


def test_nothing_listens_beyond_this_machine(stack, everything):
    listening = {address: name for name, address, _ in listeners(family(stack))}
    assert set(listening) <= {"127.0.0.1", "::ffff:127.0.0.1", "::1"}, listening


def test_every_published_port_is_ours(stack, everything):
    ports = {port for _, _, port in listeners(family(stack))}
    assert {port for name in everything for port in stack.model[name].ports} <= ports


@pytest.mark.skipif(os.geteuid() != 0, reason="only root starts PostgreSQL as somebody else")
def test_for_root_postgresql_runs_as_another_user(stack, everything):
    for name in ("postgres-source", "postgres-dwh"):
        server = psutil.Process(stack.host.pids()[name])
        for process in (server, *server.children()):
            assert process.uids().real != 0, process.cmdline()
            assert pwd.getpwuid(process.uids().real).pw_name in ("postgres", "nobody")
        data = stack.host.programs.data(stack.model[name])
        assert data.stat().st_mode & 0o077 == 0, "its folder is its own"


@pytest.mark.timeout(200)
@pytest.mark.parametrize("name", ["mosquitto", "postgres-source", "kafka", "market-api"])
def test_status_tells_the_truth_about_a_killed_service(stack, everything, name):
    """From the kill until it answers again, status never says "running" of a service that does not answer."""
    pid = stack.host.pids()[name]
    server = psutil.Process(pid)
    killed = [server, *server.children(recursive=True)]
    for process in killed:
        process.kill()
    psutil.wait_procs(killed, 10)  # the signal takes its time, and until then they may answer
    state = rows(stack)[name].state
    assert state != "running" or stack.host.pids().get(name) != pid
    end, seen = time.monotonic() + patient(90), []
    while (state := rows(stack)[name].state) != "running":
        seen.append(state)
        assert time.monotonic() < end, f"{name} stays {state}"
    assert stack.host._probe(stack.model[name])() is None, "running, and it does not answer"
    assert stack.host.pids()[name] != pid
    assert set(seen) <= {"starting", "stopped", "failed"}


def test_a_stopped_service_is_stopped_and_its_dependants_too(stack, everything):
    events: list[Event] = []
    stack.down(["zookeeper"], events.append)
    found = rows(stack)
    assert found["zookeeper"].state == found["kafka"].state == "stopped"
    stopped = [event.service for event in events]
    needing = set(stack.model.dependants(["zookeeper"])) & set(everything)
    assert set(stopped) == {name for name in needing if not stack.model[name].job}
    assert stopped[-2:] == ["kafka", "zookeeper"], "the broker says goodbye first"
    assert found["postgres-dwh"].state == "running"
    assert found["zookeeper"].pss_mb == 0
    stack.up(everything)
    assert rows(stack)["kafka"].state == "running"


# --- down, up, reset --------------------------------------------------------------------------------------------------


def keep_something(stack) -> str:
    """A word of its own, in each database and in Kafka."""
    from confluent_kafka import Producer
    from confluent_kafka.admin import AdminClient, NewTopic

    word = f"kept-{time.time_ns()}"
    for which in ("warehouse", "source"):
        with clients.postgres(which) as db:
            db.execute("create table if not exists engine_test (word text)")
            db.execute("insert into engine_test values (%s)", (word,))
    admin = AdminClient(clients.confluent())
    if TOPIC not in admin.list_topics(timeout=20).topics:
        admin.create_topics([NewTopic(TOPIC, 1, 1)])[TOPIC].result(20)
    producer = Producer(clients.confluent(acks="all"))
    producer.produce(TOPIC, word.encode())
    assert producer.flush(20) == 0
    return word


def kept(which: str, word: str) -> bool:
    with clients.postgres(which) as db:
        exists = db.execute("select to_regclass('engine_test')").fetchone()[0]
        return bool(exists) and (word,) in db.execute("select word from engine_test").fetchall()


def kept_in_kafka(word: str) -> bool:
    consumer = clients.consumer(TOPIC, consumer_timeout_ms=8000)
    try:
        return any(record.value == word.encode() for record in consumer)
    finally:
        consumer.close()


@pytest.mark.timeout(300)
def test_down_leaves_nothing_and_data_survives(stack, everything):
    word = keep_something(stack)
    processes, socket_file = family(stack), stack.host.supervisor.socket
    ports = [port for service in stack.model.services.values() for port in service.ports]
    start = time.monotonic()
    stack.down()
    print(f"\ndown: {time.monotonic() - start:.1f} s for {len(processes)} processes")
    assert [process for process in processes if not over(process)] == []
    assert stack.host.supervisor.orphans() == []
    assert not socket_file.exists()
    for port in ports:
        with socket.socket() as sock:
            sock.settimeout(1)
            assert sock.connect_ex(("127.0.0.1", port)) != 0, port
    assert {row.state for row in stack.status()} <= {"stopped", "done"}
    start = time.monotonic()
    stack.up(everything)
    print(f"up again: {time.monotonic() - start:.1f} s")
    assert kept("warehouse", word)
    assert kept("source", word)
    assert kept_in_kafka(word)


@pytest.mark.timeout(200)
def test_reset_removes_only_what_was_named(stack, everything):
    word = keep_something(stack)
    stack.reset(["postgres-source"])
    found = rows(stack)
    assert found["postgres-source"].state == "stopped"
    assert not stack.host.programs.data(stack.model["postgres-source"]).exists()
    assert found["primeur-load"].state == "stopped", "what it had loaded is gone, so the job is to be done again"
    assert found["postgres-dwh"].state == "running"
    assert kept("warehouse", word)
    assert kept_in_kafka(word)
    stack.up(["postgres-source", "primeur-load"])
    assert not kept("source", word)
    with clients.postgres("source") as db:
        assert db.execute("select count(*) from orders").fetchone()[0] > 0


# --- starting quicker the second time ---------------------------------------------------------------------------------


@pytest.mark.timeout(200)
def test_the_class_archive_is_made_at_the_stop_and_used_at_the_next_start(stack, everything, tmp_path, monkeypatch):
    """AppCDS, with a cache that has the jars and no archive yet."""
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / "maven").symlink_to(settings().cache_dir / "maven")
    monkeypatch.setenv("FLOW360_CACHE", str(cache))
    monkeypatch.setenv("FLOW360_ARCHIVES", "true")
    settings.cache_clear()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    engine = NativeEngine(read_model(env={"ZOOKEEPER_PORT": str(port)}), tmp_path / "state")
    took = []
    try:
        for archives in (0, 1):
            assert len(list((cache / "cds").glob("*.jsa"))) == archives
            start = time.monotonic()
            engine.up(["zookeeper"], lambda _event: None)
            took.append(time.monotonic() - start)
            mapped = Path(f"/proc/{engine.pids()['zookeeper']}/maps").read_text()
            assert mapped.count(str(cache / "cds")) > 0 if archives else str(cache / "cds") not in mapped
            engine.down(None, lambda _event: None)
        print(f"\nzookeeper ready: {took[0]:.2f} s without an archive, {took[1]:.2f} s with one")
        assert not list((cache / "cds").glob("*.part"))
        # A disk that was full, a power cut: the JVM would crash on what is left, so it is not given to it.
        (archive,) = (cache / "cds").glob("*.jsa")
        archive.chmod(0o600)  # the JVM makes it readable only
        archive.write_bytes(archive.read_bytes()[: archive.stat().st_size // 2])
        engine.up(["zookeeper"], lambda _event: None)
        before = engine.pids()
        engine.up(["zookeeper"], lambda _event: None)
        assert engine.pids() == before
        assert not list(ROOT.glob("hs_err*"))
    finally:
        engine.down(None, lambda _event: None)
        shutil.rmtree(tmp_path / "state", ignore_errors=True)
        settings.cache_clear()
        java.jdk.cache_clear()
