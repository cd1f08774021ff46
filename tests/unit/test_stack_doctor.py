"""The doctor: each finding, in a situation that was made for it, names its fix and has its own exit code."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from flow360.course.registry import course
from flow360.environment import MARK
from flow360.errors import Exit, FlowError
from flow360.settings import ROOT, settings
from flow360.stack import doctor
from flow360.stack.facade import Stack
from flow360.stack.model import model
from flow360.stack.native import jars, java
from flow360.stack.native.program import Program
from flow360.stack.native.supervise import Supervisor
from flow360.waiting import wait_for

TOGETHER = {f"chapter {chapter.number}": chapter.services for chapter in course().chapters}


def stack(supervisor: Supervisor | None = None, engine: str = "native", rows: tuple = ()) -> SimpleNamespace:
    """As much of a Stack as the doctor looks at; nothing runs but what `rows` says."""
    host = SimpleNamespace(supervisor=supervisor or Supervisor(Path("/no/such/state")))
    return SimpleNamespace(model=model(), host=host, engine=SimpleNamespace(name=engine), status=lambda ask: list(rows))


def row(name: str, state: str = "running", pss_mb: float = 0) -> SimpleNamespace:
    return SimpleNamespace(name=name, state=state, pss_mb=pss_mb)


def one(findings: list[doctor.Finding]) -> doctor.Finding:
    assert len(findings) == 1
    found = findings[0]
    assert "\n" not in found.message + found.fix
    assert bool(found.fix) == (found.level != "ok")
    assert (found.code is Exit.OK) == (found.level == "ok") or found.level == "warning"
    return found


@pytest.fixture
def use(monkeypatch):
    """Set environment variables and read the settings again."""

    def change(**values: object) -> None:
        for name, value in values.items():
            monkeypatch.setenv(name, str(value))
        settings.cache_clear()

    yield change
    settings.cache_clear()


def test_a_user_id_without_a_name_is_a_blocker_for_what_asks_for_it(monkeypatch):
    assert one(doctor.user(stack(), ["kafka"])).level == "ok"

    def nobody(_uid: int) -> None:
        raise KeyError

    monkeypatch.setattr(doctor.pwd, "getpwuid", nobody)
    for name in ("postgres-dwh", "namenode", "spark-connect"):
        found = one(doctor.user(stack(), [name]))
        assert (found.level, found.code) == ("blocker", Exit.PERMISSION)
        assert f"flow360:x:{os.geteuid()}:" in found.fix
    assert one(doctor.user(stack(), ["mosquitto"])).level == "ok"
    assert one(doctor.user(stack(engine="docker"), ["namenode"])).level == "ok"


# --- Python, Java -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("version", "level"), [((3, 11, 2), "ok"), ((3, 13, 0), "ok"), ((3, 10, 9), "blocker")])
def test_python(monkeypatch, version, level):
    monkeypatch.setattr(doctor.sys, "version_info", _Version(version))
    found = one(doctor.python(stack(), []))
    assert found.level == level
    assert f"Python 3.{version[1]}" in found.message
    assert level == "ok" or found.code is Exit.PYTHON


class _Version(tuple):
    major = property(lambda self: self[0])
    minor = property(lambda self: self[1])


def test_java_that_does_not_fit_and_java_that_nobody_needs(tmp_path, monkeypatch):
    program = tmp_path / "bin" / "java"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho 'openjdk version \"11.0.2\"' >&2\n")
    program.chmod(0o755)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    found = one(doctor.java_version(stack(), ["kafka"]))
    assert (found.level, found.code) == ("blocker", Exit.JAVA)
    assert "Java 11" in found.message
    assert "set JAVA_HOME" in found.fix
    assert one(doctor.java_version(stack(), ["postgres-dwh"])).level == "ok"
    assert one(doctor.java_version(stack(engine="docker"), ["kafka"])).level == "ok"


def test_without_java_one_will_come(monkeypatch):
    monkeypatch.setattr(java, "locate", lambda: None)
    assert "will be downloaded" in one(doctor.java_version(stack(), ["kafka"])).message


# --- ports ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def taken():
    """A port that this very process listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        yield sock.getsockname()[1]


def test_a_port_that_somebody_has_names_who_and_the_variable(taken, tmp_path, use, monkeypatch):
    env = tmp_path / "some.env"
    env.write_text(f"KAFKA_PORT={taken}\n")
    use(FLOW360_ENV_FILE=env)
    services = {**model().services}
    services["kafka"] = _with_port(services["kafka"], taken)
    busy = stack()
    busy.model = type(model())(services, model().jar_groups)
    found = one(doctor.ports(busy, ["kafka"]))
    assert (found.level, found.code) == ("blocker", Exit.PORT)
    assert f"port {taken} of kafka is taken by" in found.message
    assert f"(pid {doctor.os.getpid()})" in found.message
    assert "KAFKA_PORT" in found.fix
    assert "some.env" in found.fix
    busy.status = lambda ask: [row("kafka")]
    assert one(doctor.ports(busy, ["kafka"])).level == "ok", "what runs already holds its own port"


def test_a_port_of_another_users_program_names_the_user_and_does_not_say_to_end_it(taken, monkeypatch):
    """Whose process it is, the system tells root alone; whose socket, it tells everybody."""
    me = doctor.os.geteuid()
    monkeypatch.setattr(doctor.os, "geteuid", lambda: me + 1)
    process = doctor.psutil.Process()
    user = process.username()
    assert doctor._holder(taken, doctor._listener(taken)) == (
        f"{process.name()} (pid {process.pid}) of user {user}",
        False,
    )
    monkeypatch.setattr(doctor.psutil, "net_connections", lambda _kind: [])
    assert doctor._holder(taken, doctor._listener(taken)) == (f"a program of user {user}", False)
    monkeypatch.setattr(doctor, "_free", lambda _port: False)
    found = doctor.ports(stack(), ["kafka"])[0]
    assert found.service == "kafka"
    assert "set KAFKA_PORT" in found.fix


LISTENER = """
import signal, socket
server = socket.create_server(("127.0.0.1", 0))
print(server.getsockname()[1], flush=True)
signal.pause()
"""


@pytest.mark.parametrize(("state", "level"), [("state", "ok"), ("state-of-another-checkout", "blocker")])
def test_a_service_of_ours_that_was_killed_and_started_again_is_not_a_stranger(tmp_path, state, level):
    """The keeper starts it at once: when we ask who runs, it does not yet, and when we try its port, it does."""
    mark = {MARK: f"{tmp_path / state}:kafka"}
    with subprocess.Popen([sys.executable, "-c", LISTENER], stdout=subprocess.PIPE, env=os.environ | mark) as process:
        services = {**model().services}
        services["kafka"] = _with_port(services["kafka"], int(process.stdout.readline()))
        looked_at = stack(Supervisor(tmp_path / "state"))
        looked_at.model = type(model())(services, model().jar_groups)
        found = one(doctor.ports(looked_at, ["kafka"]))
        process.kill()
    assert found.level == level


def _with_port(service, port):
    import dataclasses

    return dataclasses.replace(service, ports=(port,))


def test_a_port_given_twice_is_told_before_one_server_answers_for_the_other():
    services = {**model().services}
    services["kafka"] = _with_port(services["kafka"], services["zookeeper"].port)
    twice = stack()
    twice.model = type(model())(services, model().jar_groups)
    found = one(doctor.ports(twice, []))
    assert (found.level, found.code) == ("blocker", Exit.PORT)
    assert f"port {services['zookeeper'].port} is given twice, to" in found.message
    assert "zookeeper" in found.message
    assert "kafka" in found.message


def test_a_port_in_time_wait_is_free(tmp_path):
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            connection, _ = server.accept()
            connection.close()
    assert doctor._free(port)


def test_a_clone_that_containers_cannot_read_is_named_with_its_mend(monkeypatch, tmp_path):
    (tmp_path / "stack" / "kafka").mkdir(parents=True)
    file = tmp_path / "stack" / "kafka" / "server.properties"
    file.write_text("x")
    monkeypatch.setattr(doctor, "ROOT", tmp_path)
    monkeypatch.setattr(doctor, "MOUNTED", ("stack",))
    assert one(doctor.readable(stack(engine="docker"), [])).level == "ok"
    file.chmod(0o600)
    assert one(doctor.readable(stack(), [])).level == "ok", "natively they are the learner's own processes"
    found = one(doctor.readable(stack(engine="docker"), []))
    assert (found.level, found.fix.endswith("chmod -R go+rX stack")) == ("blocker", True)
    file.chmod(0o644)
    file.parent.chmod(0o700)
    assert one(doctor.readable(stack(engine="docker"), [])).level == "blocker"


# --- memory, disk, network --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("free", "level", "says"),
    [
        (20000.0, "ok", "`flow360 up complete` fits"),
        (6000.0, "ok", "chapter by chapter"),
        (1000.0, "warning", "chapter by chapter"),
    ],
)
def test_the_profile_that_fits(monkeypatch, free, level, says):
    monkeypatch.setattr(doctor, "_available_memory_mb", lambda: free)
    found = one(doctor.profile(TOGETHER, stack(), []))
    assert (found.level, says in found.message) == (level, True), found


def test_the_smaller_profile_is_named_where_only_that_fits(monkeypatch):
    found = stack()
    monkeypatch.setattr(doctor, "_available_memory_mb", lambda: 3000.0)
    monkeypatch.setattr(
        type(found.model), "profile", lambda self, name: ["kafka"] if name == "minimal" else self.services
    )
    assert "`flow360 up minimal` fits" in one(doctor.profile(TOGETHER, found, [])).message


def test_the_whole_course_is_asked_for_its_profile_not_for_all_at_once():
    checks = {finding.check for finding in doctor.examine(stack(), None, TOGETHER)}
    assert "profile" in checks
    assert "memory" not in checks


def test_too_little_memory(monkeypatch):
    monkeypatch.setattr(doctor, "_available_memory_mb", lambda: 100.0)
    found = one(doctor.memory(stack(), ["kafka", "zookeeper"]))
    assert (found.level, found.code) == ("blocker", Exit.MEMORY)
    need = sum(model()[name].native.memory_mb for name in ("kafka", "zookeeper"))
    assert f"{need} MB of memory needed, 100 MB there" in found.message
    running = stack(rows=(row("kafka", pss_mb=300), row("zookeeper", pss_mb=80), row("jupyterlab", pss_mb=999)))
    assert one(doctor.memory(running, ["kafka", "zookeeper"])).level == "ok", "what runs has its memory already"


@pytest.mark.parametrize(
    ("limit", "used", "prefix"),
    [("memory.max", "memory.current", ""), ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_")],
)
def test_the_limit_of_a_container_counts_and_its_cached_files_do_not(monkeypatch, limit, used, prefix):
    files = {limit: "300000000", used: "250000000", "memory.stat": f"{prefix}inactive_file 150000000\nrss 7"}

    def read_text(self, *_args, **_kwargs):
        if self.name not in files:
            raise FileNotFoundError
        return files[self.name]

    monkeypatch.setattr(Path, "read_text", read_text)
    assert doctor._available_memory_mb() == pytest.approx(200)


def test_too_little_disk(monkeypatch):
    usage = shutil.disk_usage("/")._replace(free=250_000_000)
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: usage)
    found = one(doctor.disk(stack(), ["kafka"]))
    assert (found.level, found.code) == ("blocker", Exit.DISK)
    assert "250 MB free" in found.message
    assert "FLOW360_STATE" in found.fix


def test_the_cache_needs_room_only_for_what_is_missing(monkeypatch, tmp_path, use):
    use(FLOW360_CACHE=tmp_path / "cache", FLOW360_STATE=tmp_path / "state")
    usage = shutil.disk_usage("/")._replace(free=1_010_000_000)
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: usage)
    found = one(doctor.disk(stack(), ["kafka"]))
    assert found.level == "blocker", "both lie on one disk: the jars come on top of the data"
    assert one(doctor.disk(stack(), ["postgres-dwh"])).level == "ok"


def test_network_is_asked_only_when_something_is_missing(monkeypatch, tmp_path, use):
    use(FLOW360_CACHE=tmp_path / "cache")
    asked = []
    monkeypatch.setattr(jars, "reachable", lambda: bool(asked.append(1)))
    assert one(doctor.network(stack(), ["postgres-dwh"])).level == "ok"
    assert asked == []
    found = one(doctor.network(stack(), ["kafka", "mosquitto"]))
    assert (found.level, found.code) == ("blocker", Exit.NETWORK)
    assert "jars and the packages of mosquitto must be fetched" in found.message
    monkeypatch.setattr(jars, "reachable", lambda: True)
    assert one(doctor.network(stack(), ["kafka"])).level == "ok"
    assert one(doctor.network(stack(engine="docker"), ["kafka"])).level == "ok"


# --- folders, line ends, leftovers, docker ----------------------------------------------------------------------------


@pytest.mark.parametrize("variable", ["FLOW360_STATE", "FLOW360_CACHE"])
def test_a_folder_that_cannot_be_written(variable, tmp_path, use, monkeypatch):
    use(**{variable: tmp_path / "locked" / "deep" / "er"})
    (tmp_path / "locked").mkdir()
    real = doctor.os.access  # root may write everywhere, so the answer is forged
    monkeypatch.setattr(doctor.os, "access", lambda path, mode: Path(path).name != "locked" and real(path, mode))
    found = one([f for f in doctor.folders(stack(), []) if f.level == "blocker"])
    assert found.code is Exit.PERMISSION
    assert found.message == f"{tmp_path / 'locked'} cannot be written"
    assert variable in found.fix


def test_a_file_where_a_folder_should_be(tmp_path, use):
    (tmp_path / "file").write_text("")
    use(FLOW360_STATE=tmp_path / "file" / "state")
    found = one([f for f in doctor.folders(stack(), []) if f.level == "blocker"])
    assert found.code is Exit.PERMISSION


def test_secrets_that_others_can_read_are_a_warning(tmp_path, use):
    env = tmp_path / ".env"
    env.write_text("")
    env.chmod(0o644)
    use(FLOW360_ENV_FILE=env)
    found = one(doctor.folders(stack(), []))
    assert found.level == "warning"
    assert found.fix == f"chmod 600 '{env}'"


def test_windows_line_ends(tmp_path, monkeypatch):
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts")
    shutil.copytree(ROOT / "stack", tmp_path / "stack")
    monkeypatch.setattr(doctor, "ROOT", tmp_path)
    assert one(doctor.line_ends(stack(), [])).level == "ok"
    path = tmp_path / "stack" / "kafka" / "server.properties"
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    found = one(doctor.line_ends(stack(), []))
    assert (found.level, found.code) == ("blocker", Exit.LINE_ENDS)
    assert "stack/kafka/server.properties has Windows line ends" in found.message
    assert "autocrlf" in found.fix


def test_leftovers_of_a_killed_supervisor(tmp_path):
    supervisor = Supervisor(tmp_path)
    looked_at = stack(supervisor)
    assert one(doctor.leftovers(looked_at, [])).level == "ok"
    supervisor.run.mkdir()
    supervisor.pidfile.write_text("99999999")
    found = one(doctor.leftovers(looked_at, []))
    assert (found.level, found.message) == ("warning", "a stale pid file of a killed run")
    log = tmp_path / "sleeper.log"
    supervisor.ensure([Program("sleeper", [sys.executable, "-c", "import signal; signal.pause()"], tmp_path, log)])
    supervisor.start("sleeper")
    try:
        sleeper = psutil.Process(supervisor.processes()["sleeper"]["pid"])
        wait_for(lambda: MARK in sleeper.environ(), 10, "the program, which supervisord has only begun to start")
        assert one(doctor.leftovers(looked_at, [])).level == "ok", "a supervisor that answers has no leftovers"
        supervisor.daemon().kill()
        from flow360.stack import probes

        gone = probes.wait_ready(lambda: "alive" if supervisor.alive() else None, 10, lambda: None)
        assert gone is None
        found = one(doctor.leftovers(looked_at, []))
        assert found.level == "warning"
        assert "1 processes of a killed run are still there" in found.message or "1 process " in found.message
        assert "flow360 down" in found.fix
    finally:
        supervisor.end_orphans(2)


def test_docker_that_does_not_answer(monkeypatch):
    from flow360.stack.docker.engine import DockerEngine

    monkeypatch.setattr(DockerEngine, "answers", lambda _self: "the docker daemon does not answer")
    monkeypatch.setattr(doctor.shutil, "which", lambda _: "/usr/bin/docker")
    found = one(doctor.docker(stack(engine="docker"), []))
    assert (found.level, found.code) == ("blocker", Exit.DOCKER)
    assert "--engine native" in found.fix
    found = one(doctor.docker(stack(), []))
    assert found.level == "warning", "the native engine does not need it, but it is not well"
    assert "native engine runs the stack" in found.message
    monkeypatch.setattr(doctor.shutil, "which", lambda _: None)
    assert "needs none" in one(doctor.docker(stack(), [])).message


# --- all together -----------------------------------------------------------------------------------------------------


def test_the_first_blocker_is_the_error_of_up(monkeypatch):
    monkeypatch.setattr(doctor, "_free", lambda _port: True)
    monkeypatch.setattr(doctor, "_available_memory_mb", lambda: 1.0)
    with pytest.raises(FlowError, match="MB of memory needed, 1 MB there: close other programs") as caught:
        doctor.require(stack(), ["postgres-dwh"])
    assert caught.value.code is Exit.MEMORY
    assert "\n" not in caught.value.message


def test_a_taken_port_holds_back_what_needs_it_and_nothing_else(monkeypatch, tmp_path):
    taken = doctor.Finding("ports", "blocker", "port 1 of kafka is taken by x", "end that program", Exit.PORT, "kafka")
    monkeypatch.setattr(doctor, "examine", lambda *_, **__: [taken])
    course_stack, asked = Stack("native", model(), tmp_path), []
    monkeypatch.setattr(course_stack.host, "up", lambda names, _progress: asked.append(names))
    with pytest.raises(FlowError) as caught:
        course_stack.up(["mosquitto", "kafka-streams", "zookeeper", "kafka"])
    assert asked == [["mosquitto", "zookeeper"]]
    assert caught.value.code is Exit.PORT
    assert caught.value.message.splitlines() == [
        "port 1 of kafka is taken by x: end that program",
        "so these were not started, which need it: kafka-streams",
    ]
    asked.clear()
    with pytest.raises(FlowError, match=r"^port 1 of kafka is taken by x: end that program$"):
        course_stack.up(["kafka"])
    assert asked == []


def test_every_check_answers_here():
    found = doctor.examine(stack(), ["kafka", "postgres-dwh", "mosquitto"])
    names = {finding.check for finding in found}
    expected = {
        "python",
        "variables",
        "user",
        "folders",
        "line ends",
        "readable",
        "leftovers",
        "docker",
        "java",
        "ports",
        "memory",
        "disk",
        "network",
    }
    assert names == expected
    json.dumps([vars(finding) for finding in found])


def test_setup_refuses_windows_line_ends_before_anything_else(tmp_path):
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts")
    up = tmp_path / "scripts" / "up"
    up.write_bytes(up.read_bytes().replace(b"\n", b"\r\n"))
    done = subprocess.run([tmp_path / "scripts" / "setup"], capture_output=True, text=True, timeout=30)
    assert done.returncode == Exit.LINE_ENDS
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / ".venv").exists()
