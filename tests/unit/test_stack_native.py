"""The native engine's own decisions, with a supervisor that only notes what it is told."""

from __future__ import annotations

import os
import platform
import stat
import subprocess
import sys
import time
from pathlib import Path
from threading import Lock

import psutil
import pytest

from flow360.errors import Exit, FlowError
from flow360.settings import SPLIT
from flow360.stack import probes
from flow360.stack.facade import Stack
from flow360.stack.model import read_model
from flow360.stack.native import prepare
from flow360.stack.native.engine import NativeEngine
from flow360.stack.status import Event, with_log
from flow360.waiting import wait_for


class Keeper:
    """A supervisor without processes: `told` is the order in which services were started and stopped."""

    def __init__(self, running: tuple[str, ...] = (), inside: str | None = None) -> None:
        self.inside = inside
        self.running, self.told, self.lock = running, [], Lock()

    def around(self) -> str | None:
        return self.inside

    def shutdown(self) -> None:
        self.start("supervisord")

    def end_orphans(self) -> list[str]:
        return []

    def alive(self) -> bool:
        return True

    def processes(self) -> dict[str, dict]:
        return {name: {"pid": 1, "statename": "RUNNING"} for name in self.running}

    def ensure(self, _programs: list) -> None:
        pass

    def dead(self, _name: str, _since: float = 0) -> None:
        return None

    def start(self, name: str) -> None:
        with self.lock:
            self.told.append(name)

    def stop(self, name: str) -> bool:
        time.sleep(0.05 if name.startswith("airflow") else 0)  # whoever does not wait for it is told first
        self.start(name)
        return True


def engine_of(folder: Path, keeper: Keeper, **env: str) -> NativeEngine:
    engine = NativeEngine(read_model(env=env), folder)
    engine.supervisor = keeper
    engine.fetch = lambda *_: None  # what a service is made of comes over the network
    (folder / "run").mkdir(parents=True)
    return engine


@pytest.mark.parametrize("server", ["postgres-dwh", "postgres-airflow"])
def test_a_database_is_stopped_after_those_that_need_it_by_way_of_a_job(tmp_path, server):
    users = ("airflow-webserver", "airflow-triggerer")
    keeper = Keeper((server, *users))
    engine_of(tmp_path, keeper, COMPOSE_FILE=SPLIT).down([server, "airflow-init"], lambda _: None)
    assert keeper.told[-1] == server
    assert set(keeper.told) == {server, *users}


def test_a_reset_lets_a_job_run_again_whose_work_was_in_what_is_gone_and_no_other(tmp_path):
    engine = engine_of(tmp_path, Keeper(()))
    for name in ("kafka-connectors", "primeur-load"):
        engine.programs.mark_done(engine.model[name])
    engine.reset(["zookeeper", "kafka"], lambda _: None)
    assert not engine.programs.is_done(engine.model["kafka-connectors"]), "it spoke to kafka-connect alone"
    assert engine.programs.is_done(engine.model["primeur-load"])


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (None, ["kafka", "zookeeper", "supervisord"]),
        (["jupyterlab", "zookeeper"], ["kafka", "zookeeper", "jupyterlab"]),
    ],
)
def test_a_down_typed_inside_of_jupyterlab_stops_that_last(tmp_path, names, told):
    """Its terminal, and with it the command, ends with JupyterLab: with all asked for, supervisord does the rest."""
    keeper = Keeper(("jupyterlab", "kafka", "zookeeper"), "jupyterlab")
    events: list[Event] = []
    engine_of(tmp_path, keeper).down(names, events.append)
    assert keeper.told == told
    assert (events[-1].service, events[-1].detail) == ("jupyterlab", "last, with this terminal")
    keeper.told.clear()
    engine_of(tmp_path / "b", keeper).down(["kafka"], events.append)
    assert keeper.told == ["kafka"], "nobody asked for JupyterLab"


@pytest.mark.parametrize("answers", [True, False])
def test_the_desk_answers_before_anything_else_starts_and_its_failure_stops_nothing_else(
    tmp_path, monkeypatch, answers
):
    keeper, events = Keeper(), []
    engine = engine_of(tmp_path, keeper)
    monkeypatch.setattr("flow360.stack.native.engine.DEADLINE", 0.2)

    def probe(service):
        silent = service.name == "jupyterlab" and not answers
        return lambda: "not yet" if silent or service.name not in keeper.told else None

    monkeypatch.setattr(engine, "_probe", probe)
    if answers:
        engine.up(["mosquitto", "jupyterlab"], events.append)
        said = [(event.service, event.state) for event in events]
        assert said.index(("jupyterlab", "running")) < said.index(("mosquitto", "starting"))
    else:
        with pytest.raises(FlowError, match="jupyterlab: not ready"):
            engine.up(["mosquitto", "jupyterlab"], events.append)
    assert ("mosquitto", "running") in [(event.service, event.state) for event in events]


def test_what_ctrl_c_cuts_off_is_not_gone_on_with(tmp_path, monkeypatch):
    keeper = Keeper()
    engine = engine_of(tmp_path, keeper)
    monkeypatch.setattr(engine, "_probe", lambda _service: lambda: "not yet")
    monkeypatch.setattr("flow360.stack.native.engine.wait", lambda _futures: (_ for _ in ()).throw(KeyboardInterrupt))
    events: list[Event] = []
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        engine.up(["market-sensors"], events.append)  # it needs mosquitto, which never answers here
    assert time.monotonic() - began < 20
    assert "market-sensors" not in keeper.told
    assert all(event.state != "running" for event in events)


@pytest.mark.parametrize(("answers_after", "starts"), [(1, 1), (2, 2), (9, 2)])
def test_what_lives_and_never_answers_is_started_once_more(tmp_path, monkeypatch, answers_after, starts):
    keeper = Keeper()
    engine = engine_of(tmp_path, keeper)
    monkeypatch.setattr("flow360.stack.native.engine.DEADLINE", 0.2)
    told = []
    monkeypatch.setattr(keeper, "stop", lambda _name: told.append("stop"))
    monkeypatch.setattr(keeper, "start", lambda _name: told.append("start"))
    monkeypatch.setattr(
        engine, "_probe", lambda _service: lambda: None if told.count("start") >= answers_after else "not yet"
    )
    if answers_after > starts:
        with pytest.raises(FlowError, match=r"zookeeper: not ready after .* \(not yet\)") as caught:
            engine.up(["zookeeper"], lambda _: None)
        assert "\n" not in caught.value.message
    else:
        engine.up(["zookeeper"], lambda _: None)
    assert told == ["start", "stop", "start"][: 2 * starts - 1]


STACK = """2026-11-28 11:40:29 ERROR KafkaServer: Fatal error during startup. Prepare to shutdown
org.apache.zookeeper.KeeperException$NodeExistsException: KeeperErrorCode = NodeExists
\tat org.apache.zookeeper.KeeperException.create(KeeperException.java:126)
\t... 4 more
2026-11-28 11:40:29 INFO  KafkaServer: shutting down
"""


@pytest.mark.parametrize(
    ("log", "says"),
    [
        (STACK, "KeeperErrorCode = NodeExists"),
        ("one\ntwo\n", "says: two"),
        ("", "says: nothing"),
        ("\tat x", "nothing"),
    ],
)
def test_what_failed_is_told_in_one_line_with_the_reason_that_its_log_gives(log, says):
    said = with_log("kafka", "it ended", log)
    assert says in said
    assert "\n" not in said
    assert "\tat" not in said


def test_a_password_of_before_is_told_at_once_with_its_fix(tmp_path, monkeypatch):
    engine = engine_of(tmp_path, Keeper())
    refused = f'FATAL:  {probes.REFUSED} for user "shop"'
    monkeypatch.setattr(engine, "_probe", lambda _service: lambda: refused)
    monkeypatch.setitem(prepare.STEPS, "postgres", lambda *_: None)
    with pytest.raises(FlowError, match="flow360 reset postgres-source") as caught:
        engine.up(["postgres-source"], lambda _: None)
    assert caught.value.code == Exit.SERVICE


def test_what_is_made_for_other_processors_is_left_out_with_the_reason(tmp_path, monkeypatch):
    engine = engine_of(tmp_path, Keeper())
    assert engine.left_out("postgres-source") is None
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    assert engine.left_out("mysql") == "its program is made for x86_64, not for riscv64"


def test_other_users_cannot_list_the_state_nor_read_logs(tmp_path):
    state = tmp_path / "state"
    NativeEngine(read_model(env={}), state)._folders()
    modes = {folder.name: stat.S_IMODE(folder.stat().st_mode) for folder in (state, state / "run", state / "logs")}
    # PostgreSQL, which root starts as another user, must get down to its data.
    assert modes == {"state": 0o711 if os.geteuid() == 0 else 0o700, "run": 0o700, "logs": 0o700}


def test_what_is_frozen_goes_on_afterwards_with_what_it_has_started(tmp_path):
    stack = Stack("native", read_model(env={}), tmp_path)
    keeper = Keeper()
    stack.host.supervisor = keeper
    with pytest.raises(FlowError, match="kafka does not run, so it cannot be frozen"), stack.frozen("kafka"):
        raise AssertionError("nothing was frozen")
    program = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'print(1, flush=True); input()'])"
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        keeper.processes = lambda: {"kafka": {"pid": process.pid}}
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children()]
        with pytest.raises(ZeroDivisionError), stack.frozen("kafka"):
            wait_for(lambda: {one.status() for one in family} == {psutil.STATUS_STOPPED}, 20, "both to stand still")
            raise ZeroDivisionError
        wait_for(lambda: psutil.STATUS_STOPPED not in [one.status() for one in family], 20, "both to go on")
        process.stdin.close()
        assert process.wait(20) == 0
