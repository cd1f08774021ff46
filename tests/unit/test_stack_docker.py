"""The docker engine without a daemon: what is made of docker's answers, written by hand."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from flow360.errors import Exit, FlowError
from flow360.settings import settings
from flow360.stack.docker import compose as cli
from flow360.stack.docker import engine as module
from flow360.stack.docker import images
from flow360.stack.docker.engine import DockerEngine
from flow360.stack.model import COMPOSE, model, read_compose
from flow360.stack.status import Event


class Done:
    """What subprocess.run gives back."""

    def __init__(self, stdout: str = "", stderr: str = "", returncode: int = 0) -> None:
        self.stdout, self.stderr, self.returncode = stdout, stderr, returncode


@pytest.fixture
def engine() -> DockerEngine:
    return DockerEngine(model())


def answering(monkeypatch, *answers: Done | type[FlowError]) -> None:
    given = iter(answers)

    def run(command, _seconds):
        answer = next(given)
        if answer is FlowError:
            raise FlowError(f"{command[:2]} did not end")
        return answer

    monkeypatch.setattr(cli, "run", run)
    monkeypatch.setattr(cli.shutil, "which", lambda _: "/usr/bin/docker")


def test_a_daemon_and_a_new_compose_answer(engine, monkeypatch):
    for version in ("2.24.4", "v2.25", "v5.2.0", "dev", "2.40.3-desktop.1"):
        answering(monkeypatch, Done("28.1.0\n"), Done(version + "\n"))
        assert engine.answers() is None


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ([Done("", "Cannot connect to the Docker daemon at unix:///x. Is it running?", 1)], "does not answer"),
        ([Done("", "permission denied while trying to connect", 1)], r"usermod -aG docker"),
        ([FlowError], "within 5 s"),
        ([Done("28.1.0"), Done("", "docker: unknown command: docker compose", 1)], "no Compose plugin"),
        ([Done("28.1.0"), Done("2.17.3\n")], r"2\.17\.3 is too old: 2\.24\.4 or newer"),
        ([Done("28.1.0"), Done("2.24.3\n")], r"2\.24\.3 is too old"),
        ([Done("28.1.0"), Done("v2.24\n")], r"v2\.24 is too old"),
    ],
)
def test_why_docker_cannot_be_used_is_one_line_with_the_fix(engine, monkeypatch, answers, expected):
    answering(monkeypatch, *answers)
    reason = engine.answers()
    assert reason
    assert re.search(expected, reason)
    assert len(reason.splitlines()) == 1


def test_docker_that_is_not_installed(engine, monkeypatch):
    monkeypatch.setattr(cli.shutil, "which", lambda _: None)
    assert "not installed" in engine.answers()
    with pytest.raises(FlowError, match="not installed") as caught:
        engine.up(["kafka"], lambda _: None)
    assert caught.value.code == Exit.DOCKER
    engine.down(None, lambda _: None)  # nothing can run, so there is nothing to stop
    assert {row.state for row in engine.status()} == {"stopped"}


def test_jupyterlab_is_not_the_engine_s_business(engine, monkeypatch):
    monkeypatch.setattr(cli.shutil, "which", lambda _: None)
    assert "jupyterlab" not in {row.name for row in engine.status()}
    assert "jupyterlab" not in engine._ours(["jupyterlab", "kafka"])


def test_commands_name_project_file_and_variables(engine):
    command = engine.compose.command("up", "kafka")
    for option, value in (("--file", str(COMPOSE)), ("--project-name", engine.compose.project)):
        assert command[command.index(option) + 1] == value
    assert command[-2:] == ["up", "kafka"]
    assert engine.follow_command("kafka")[-1] == "kafka"


def test_the_project_s_name_comes_from_where_compose_takes_it(monkeypatch, tmp_path):
    monkeypatch.setenv("FLOW360_ENV_FILE", str(tmp_path / ".env"))
    monkeypatch.delenv("COMPOSE_PROJECT_NAME", raising=False)
    monkeypatch.delenv("FLOW360_COMPOSE_PROJECT", raising=False)
    assert cli.Compose().project == read_compose()["name"]
    (tmp_path / ".env").write_text("COMPOSE_PROJECT_NAME=mine\n", "utf-8")
    assert cli.Compose().project == "mine"
    monkeypatch.setenv("COMPOSE_PROJECT_NAME", "shell")
    assert cli.Compose().project == "shell"
    monkeypatch.setenv("FLOW360_COMPOSE_PROJECT", "test")
    assert cli.Compose().project == "test"


def test_a_taken_port_names_service_and_variable(engine):
    said = [
        "Error response from daemon: driver failed programming external connectivity on endpoint x: Error starting "
        f"userland proxy: listen tcp4 127.0.0.1:{engine.model['kafka'].port}: bind: address already in use"
    ]
    error = engine._failure(said, ["kafka"], {})
    assert error.code == Exit.PORT
    assert error.message.startswith(f"kafka: port {engine.model['kafka'].port} is taken")
    assert "KAFKA_PORT" in error.message


def container(status: str, health: str | None = None, code: int = 0, restarts: int = 0, **labels: str) -> dict:
    state = {"Status": status, "Running": status == "running", "ExitCode": code, "Pid": 0, "StartedAt": "yesterday"}
    if health:
        state["Health"] = {"Status": health, "Log": [{"Output": "no answer\n"}]}
    return {"Id": "1", "State": state, "RestartCount": restarts, "Config": {"Labels": labels, "Image": "x"}}


@pytest.mark.parametrize(
    ("row", "state"),
    [
        (None, "stopped"),
        (container("created"), "stopped"),
        (container("running", "starting"), "starting"),
        (container("running", "healthy"), "running"),
        (container("running", "unhealthy"), "failed"),
        (container("restarting", code=1), "failed"),
        (container("exited", code=143), "stopped"),
        (container("exited", code=1), "failed"),
    ],
)
def test_states(engine, monkeypatch, row, state):
    monkeypatch.setattr(engine, "_probe", lambda _service: lambda: None)
    assert engine._state(engine.model["kafka"], row) == state


def test_healthy_is_not_yet_running_while_the_published_port_is_silent(engine, monkeypatch):
    monkeypatch.setattr(engine, "_probe", lambda _service: lambda: "metadata: no controller yet")
    assert engine._state(engine.model["kafka"], container("running", "healthy")) == "starting"


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (container("exited", code=3), "ended with exit code 3"),
        (container("restarting", code=1, restarts=3), "ends again and again"),
        (container("running", "unhealthy"), r"unhealthy \(no answer\)"),
    ],
)
def test_trouble_is_told_with_the_end_of_the_log(engine, monkeypatch, row, expected):
    monkeypatch.setattr(engine, "logs", lambda _name, _lines: "one\ntwo")
    sentence = engine._trouble(engine.model["kafka"], row)
    assert re.search(expected, sentence)
    assert "its log says: two" in sentence
    assert "\n" not in sentence


def test_waiting_goes_on_while_there_is_hope(engine):
    assert engine._trouble(engine.model["kafka"], container("running", "starting")) is None
    assert engine._trouble(engine.model["primeur-load"], container("exited", code=0)) is None


def test_status_calls_a_stand_in_a_stand_in(engine):
    service = engine.model["kafka"]
    row = engine._row(service, "running", {images.STAND_IN: "Kafka of somebody else"}, 1.0)
    assert (row.runs, row.what) == ("stand-in", "Kafka of somebody else")
    row = engine._row(service, "running", {}, 1.0)
    assert (row.runs, row.what) == ("real", service.image)


def test_up_says_what_was_running_and_starts_nothing(engine, monkeypatch):
    events: list[Event] = []
    row = container("running", "healthy")
    row["Config"]["Image"] = engine.model["mosquitto"].image
    monkeypatch.setattr(engine, "answers", lambda: None)
    monkeypatch.setattr(engine.compose, "containers", lambda: {"mosquitto": row})
    monkeypatch.setattr(engine, "_probe", lambda _service: lambda: None)
    engine.up(["mosquitto"], events.append)
    assert [(event.state, event.detail) for event in events] == [("running", "already")]


# --- up over the containers of the last run ---------------------------------------------------------------------------


def today(row: dict) -> dict:
    """The same container, started again."""
    return {**row, "State": {**row["State"], "StartedAt": "today"}}


@pytest.fixture
def up_over(engine, monkeypatch, tmp_path) -> Iterator[Callable]:
    """`up` of one service over its container `old`; after three looks Compose has made `new` of it, and ends."""
    monkeypatch.setenv("FLOW360_STATE", str(tmp_path / "state"))
    settings.cache_clear()
    monkeypatch.setattr(engine, "answers", lambda: None)
    monkeypatch.setattr(engine, "fetch", lambda _names, _progress: None)
    monkeypatch.setattr(engine, "logs", lambda _name, _lines: "the log")
    monkeypatch.setattr(engine, "_probe", lambda _service: lambda: None)
    monkeypatch.setattr(engine.compose, "volumes", lambda _services: {})
    monkeypatch.setattr(module.time, "sleep", lambda _seconds: None)

    def up(name: str, old: dict, new: dict, code: int = 0, said: tuple[str, ...] = ()) -> list[Event]:
        looks, events = [], []
        others = {other: container("running", "healthy") for other in engine.model.closure([name]) if other != name}
        for other, row in others.items():
            row["Config"]["Image"] = engine.model[other].image

        @contextmanager
        def background(_command):
            def poll() -> int | None:
                looks.append(name)
                return code if len(looks) > 3 else None

            yield SimpleNamespace(poll=poll, lines=lambda: list(said))

        monkeypatch.setattr(module, "Background", background)
        monkeypatch.setattr(engine.compose, "containers", lambda: {**others, name: new if len(looks) > 3 else old})
        engine.up([name], events.append)
        return [event for event in events if event.service == name]

    yield up
    settings.cache_clear()


def test_a_service_that_somebody_stopped_is_started_again(up_over):
    old = container("exited", code=143)
    assert up_over("mosquitto", old, today(container("running", "healthy")))[-1].state == "running"


def test_a_job_that_failed_is_judged_by_its_new_run(up_over):
    old = container("exited", code=1)
    assert up_over("primeur-load", old, today(container("exited")))[-1].state == "done"


def test_a_job_is_not_done_before_it_has_run_again(engine, up_over):
    with pytest.raises(FlowError, match="primeur-load: ended with exit code 3"):
        up_over("primeur-load", container("exited"), today(container("exited", code=3)))
    assert not engine._is_done(engine.model["primeur-load"])


def test_what_compose_leaves_as_it_was_counts_as_it_stands(up_over):
    old = container("exited", code=143)
    with pytest.raises(FlowError, match="mosquitto: ended with exit code 143"):
        up_over("mosquitto", old, old)
    assert up_over("primeur-load", container("exited"), container("exited"))[-1].state == "done"


def test_the_last_run_is_not_why_compose_fails_now(up_over):
    old = container("exited", code=143)
    with pytest.raises(FlowError, match="the network is gone"):
        up_over("mosquitto", old, old, 1, ("the network is gone",))


# --- down and logs ----------------------------------------------------------------------------------------------------


@pytest.fixture
def silent_daemon() -> Iterator[str]:
    """The address of something that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"tcp://127.0.0.1:{server.getsockname()[1]}"


def test_down_passes_over_a_daemon_that_is_not_there(engine, monkeypatch, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        refused = f"tcp://127.0.0.1:{server.getsockname()[1]}"
    for address in (refused, f"unix://{tmp_path / 'docker.sock'}"):
        answering(monkeypatch, Done("", "no connection", 1), Done(address + "\n"))
        engine.down(None, lambda _: None)


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ([Done("", "permission denied while trying to connect", 1)], "usermod"),
        ([FlowError], "did not answer within 5 s"),
        ([Done("28.1.0"), Done("", "docker: unknown command: docker compose", 1)], "no Compose plugin"),
        ([Done("28.1.0"), Done("2.17.3\n")], "too old"),
    ],
)
def test_down_fails_where_containers_may_run(engine, monkeypatch, silent_daemon, answers, expected):
    answering(monkeypatch, *answers, Done(silent_daemon + "\n"))
    with pytest.raises(FlowError, match=expected) as caught:
        engine.down(None, lambda _: None)
    assert caught.value.code == Exit.DOCKER


def test_a_socket_that_this_user_may_not_open_is_there(monkeypatch):
    def refuse(_socket, _address):
        raise PermissionError

    monkeypatch.setattr(cli.socket, "socket", type("Socket", (socket.socket,), {"connect": refuse}))
    assert cli._listens("unix:///var/run/docker.sock")


@pytest.mark.parametrize("reason", [None, "the docker daemon did not answer within 5 s"])
def test_a_log_that_cannot_be_read_is_an_error(engine, monkeypatch, reason):
    monkeypatch.setattr(module, "run", lambda _command, _seconds: Done("", "docker's own complaint\n", 1))
    monkeypatch.setattr(engine, "answers", lambda: reason)
    with pytest.raises(FlowError, match=reason or "docker compose logs failed: docker's own complaint") as caught:
        engine.logs("kafka", 4)
    assert caught.value.code == Exit.DOCKER


def test_a_log_that_cannot_be_read_does_not_hide_the_trouble(engine, monkeypatch):
    monkeypatch.setattr(module, "run", lambda _command, _seconds: Done("", "no such thing", 1))
    monkeypatch.setattr(engine, "answers", lambda: None)
    sentence = engine._trouble(engine.model["kafka"], container("exited", code=3))
    assert sentence.startswith("kafka: ended with exit code 3")
    assert "cannot be read: docker compose logs failed: no such thing" in sentence


def test_long_commands_are_read_line_by_line_and_ended_in_time():
    said: list[str] = []
    assert cli.follow(["sh", "-c", "echo one; echo two >&2"], said.append, 10) == ["one", "two"] == said
    with pytest.raises(cli.CommandFailed) as failed:
        cli.follow(["sh", "-c", "echo why; exit 3"], said.append, 10)
    assert failed.value.lines == ["why"]
    with pytest.raises(FlowError, match="did not end within"):
        cli.follow(["sleep", "30"], said.append, 0.2)


def test_memory_is_read_from_docker_s_own_figures(engine, monkeypatch):
    monkeypatch.setattr(cli, "run", lambda _command, _seconds: Done("aa 12.5MiB / 64MiB\nbb 1.5GiB / 2GiB\n"))
    assert engine.compose.memory_mb({"mosquitto": "aa", "kafka": "bb", "gone": "cc"}) == {
        "mosquitto": 13.1,
        "kafka": 1610.6,
    }
