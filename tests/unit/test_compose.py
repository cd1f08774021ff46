"""stack/compose.yaml and the docker engine without a daemon: the file's rules, and what is made of docker's words."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterable
from fnmatch import fnmatch
from importlib.metadata import distribution
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from flow360.errors import Exit, FlowError
from flow360.settings import PORTS, ROOT, SECRETS
from flow360.stack import compose as cli
from flow360.stack import docker
from flow360.stack.docker import DockerEngine
from flow360.stack.model import COMPOSE, NATIVE, model
from flow360.stack.status import Event
from tests.compose import standins

FILE = yaml.safe_load(COMPOSE.read_text("utf-8"))
SERVICES: dict[str, dict] = FILE["services"]
TEXT = COMPOSE.read_text("utf-8")
EVERY = pytest.mark.parametrize("name", list(SERVICES))
LONG = pytest.mark.parametrize("name", [name for name, spec in SERVICES.items() if spec["restart"] != "no"])
KEYS = {
    *(
        "image",
        "build",
        "command",
        "entrypoint",
        "environment",
        "ports",
        "volumes",
        "tmpfs",
        "depends_on",
        "profiles",
        "healthcheck",
    ),
    *("restart", "logging", "security_opt", "mem_limit", "shm_size", "stop_grace_period", "init", "user", "x-flow360"),
}


# --- the file ---------------------------------------------------------------------------------------------------------


@EVERY
def test_keys_are_known_and_no_container_has_a_fixed_name(name):
    assert set(SERVICES[name]) <= KEYS  # container_name, privileged, network_mode … are not among them


@EVERY
def test_image_is_pinned(name):
    image = SERVICES[name]["image"]
    tag = image.rpartition(":")[2]
    assert ":" in image
    assert re.match(r"v?\d+\.\d+\.?\d*", tag), image
    assert not image.startswith("bitnami")


@LONG
def test_a_service_that_stays_has_a_healthcheck_that_gives_up(name):
    check = SERVICES[name]["healthcheck"]
    assert check["test"][0] in ("CMD", "CMD-SHELL")
    assert {"interval", "timeout", "retries", "start_period"} <= set(check)
    # PostgreSQL's first start listens on its socket only: a check over TCP cannot pass too early.
    if SERVICES[name]["image"].startswith("postgres:"):
        assert "-h 127.0.0.1" in check["test"][1]


@EVERY
def test_memory_is_bounded_above_what_the_native_engine_measured(name):
    limit = re.fullmatch(r"(\d+)m", SERVICES[name]["mem_limit"])
    assert limit
    measured = tomllib.loads(NATIVE.read_text("utf-8"))[name].get("memory_mb", 0)
    assert int(limit.group(1)) > measured


@EVERY
def test_ports_are_published_on_this_machine_only_and_movable(name):
    for spec in SERVICES[name].get("ports", ()):
        match = re.fullmatch(r"127\.0\.0\.1:\$\{(\w+):-(\d+)\}:\d+", spec)
        assert match, spec
        assert PORTS[match.group(1)] == int(match.group(2))


@EVERY
def test_dependencies_are_waited_for(name):
    for other, rule in SERVICES[name].get("depends_on", {}).items():
        stays = SERVICES[other]["restart"] != "no"
        assert rule == {"condition": "service_healthy" if stays else "service_completed_successfully"}


@EVERY
def test_each_profile_holds_what_its_services_need(name):
    # More DataNodes are for one lesson: the complete stack has one.
    assert {"complete", "replication"} & set(SERVICES[name]["profiles"])
    for other in SERVICES[name].get("depends_on", {}):
        assert set(SERVICES[name]["profiles"]) <= set(SERVICES[other]["profiles"]), other


def test_profiles_are_one_a_layer_and_the_two_of_all():
    assert {p for spec in SERVICES.values() for p in spec["profiles"]} >= {
        "minimal",
        "complete",
        "sources",
        "ingestion",
        "orchestration",
    }


def test_no_secret_stands_in_the_file():
    for name, spec in SERVICES.items():
        for key, value in spec.get("environment", {}).items():
            if re.search("PASSWORD$|TOKEN|SECRET|_KEY$", key):
                match = re.fullmatch(r"\$\{(\w+):\?.+\}=?", value)
                assert match, f"{name}: {key}"
                assert match.group(1) in SECRETS


def test_variables_are_those_of_env_or_have_a_default():
    for name, rest in re.findall(r"(?<!\$)\$\{(\w+)([^}]*)\}", TEXT):
        assert name in (*PORTS, *SECRETS) or rest.startswith(":-"), name


def test_volumes_are_named_declared_and_used():
    used: list[str] = []
    for name, spec in SERVICES.items():
        for mount in spec.get("volumes", ()):
            if mount == "../data/generated:${FLOW360_DATA:-/flow360/data/generated}":
                continue  # what notebooks and Spark both read and write, under the path that it has outside
            source, target, *mode = mount.split(":")
            assert target.startswith("/")
            if source.startswith(("./", "../")):
                assert (COMPOSE.parent / source).exists(), f"{name}: {source}"
                assert mode == ["ro"], f"{name}: {source}"
            else:
                used.append(source)
    assert sorted(used) == sorted(FILE["volumes"])  # one service each: `reset` of one cannot take another's data


def test_both_engines_know_the_same_services():
    native = tomllib.loads(NATIVE.read_text("utf-8"))
    assert set(SERVICES) == set(native) - {"host", "jars"}


def test_the_build_is_one_dockerfile_with_a_pinned_base():
    builds = [spec["build"] for spec in SERVICES.values() if "build" in spec]
    assert {build["dockerfile"] for build in builds} == {"stack/images/Dockerfile"}
    text = (ROOT / "stack" / "images" / "Dockerfile").read_text("utf-8")
    assert re.search(r"^ARG BASE=\S+:\d\S+$", text, re.MULTILINE)
    for build in builds:
        assert f" AS {build['target']}\n" in text
        assert set(build["args"]) <= set(re.findall(r"^ARG (\w+)", text, re.MULTILINE))
    assert re.search(r"^USER \d+$", text, re.MULTILINE)


def test_the_images_take_their_packages_from_the_lock_and_their_files_through_dockerignore():
    lock = set(re.findall(r"^([a-z0-9-]+)==", (ROOT / "requirements.lock").read_text("utf-8"), re.MULTILINE))
    lists = sorted((ROOT / "stack" / "images").glob("*.txt"))
    assert lists
    for wanted in lists:
        lines = wanted.read_text("utf-8").splitlines()
        names = [line.partition("[")[0] for line in lines if not line.startswith("#")]
        assert set(names) <= lock
        assert names == sorted(names)
    ignored = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    assert ignored[1] == "*"
    for entry in docker.INPUTS:
        assert f"!{entry}" in ignored or entry == "stack/images"
        assert (ROOT / entry).exists()


def test_airflow_s_image_has_what_its_added_packages_need():
    """They are installed without their dependencies: each of those is Airflow's own, or stands in the list."""

    def needs(names: set[str]) -> set[str]:
        found, left = set(), {(name, "") for name in names}
        while left:
            name, extra = left.pop()
            found.add((name, extra))
            for text in distribution(name).requires or ():
                one = Requirement(text)
                if one.marker is None or one.marker.evaluate({"extra": extra}):
                    left |= {(canonicalize_name(one.name), extra) for extra in ("", *one.extras)} - found
        return {name for name, _ in found}

    lines = (ROOT / "stack" / "images" / "airflow.txt").read_text("utf-8").splitlines()
    added = {line for line in lines if not line.startswith("#")}
    assert needs(added) - needs({"apache-airflow", "apache-airflow-providers-postgres"}) <= added


def test_what_the_dockerfile_copies_is_there_and_passes_dockerignore():
    lines = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    allowed = [line[1:] for line in lines if line.startswith("!")]
    copies = re.findall(
        r"^COPY (?!--from)(.+) \S+$", (ROOT / "stack" / "images" / "Dockerfile").read_text(), re.MULTILINE
    )
    sources = {source for line in copies for source in line.split()}
    assert "stack/images/spark.sh" in sources
    for source in sources:
        assert (ROOT / source).exists()
        inside = (pattern for pattern in allowed if Path(source).is_relative_to(pattern) or fnmatch(source, pattern))
        assert any(inside) or source == "flow360", source  # of flow360, its allowed parts


def test_every_image_that_is_pulled_has_a_stand_in_or_a_reason():
    text = (ROOT / "stack" / "images" / "Dockerfile").read_text("utf-8")
    bases = set(re.findall(r"^ARG \w+=(\S+:\S+)$", text, re.MULTILINE))
    assert len(bases) == 4
    pulled = {spec["image"] for name, spec in SERVICES.items() if "build" not in spec and name not in standins.NONE}
    assert pulled | bases | {standins.DEBIAN} == set(standins._RECIPES)
    readme = (standins.HERE / "README.md").read_text("utf-8")
    for image in standins._RECIPES:
        assert f"`{image}`" in readme or f"`{image.partition(':')[0]}`" in readme
    assert set(standins.NONE) <= set(SERVICES)


def test_compose_itself_accepts_the_file_and_each_profile():
    """`docker compose config` checks against the Compose specification; it needs the client, no daemon."""
    if not shutil.which("docker") or subprocess.run(["docker", "compose", "version"], capture_output=True).returncode:
        pytest.skip("docker compose is not installed here")
    # Nothing of this shell's own variables: what the file does not get from `.env` must have a default.
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    environment |= dict.fromkeys(SECRETS, "x")
    for profile in sorted({p for spec in SERVICES.values() for p in spec["profiles"]}):
        command = ["docker", "compose", "--file", str(COMPOSE), "--profile", profile, "config", "--format", "json"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
        if "unknown command" in done.stderr or "is not a docker command" in done.stderr:
            pytest.skip("docker compose is not installed for every user")
        assert done.returncode == 0, done.stderr
        assert set(json.loads(done.stdout)["services"]) == set(model().profile(profile))


# --- the engine, with docker's answers written by hand ----------------------------------------------------------------


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
    for version in ("2.24.0", "v5.2.0", "dev", "2.40.3-desktop.1"):
        answering(monkeypatch, Done("28.1.0\n"), Done(version + "\n"))
        assert engine.answers() is None


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ([Done("", "Cannot connect to the Docker daemon at unix:///x. Is it running?", 1)], "does not answer"),
        ([Done("", "permission denied while trying to connect", 1)], r"usermod -aG docker"),
        ([FlowError], "within 5 s"),
        ([Done("28.1.0"), Done("", "docker: unknown command: docker compose", 1)], "no Compose plugin"),
        ([Done("28.1.0"), Done("2.17.3\n")], r"2\.17\.3 is too old: 2\.24"),
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
    assert cli.Compose().project == FILE["name"]
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


@pytest.mark.parametrize(
    ("said", "code", "expected"),
    [
        ("Error response from daemon: manifest for a:1 not found: manifest unknown", Exit.NETWORK, "cannot be pulled"),
        ("toomanyrequests: You have reached your unauthenticated pull rate limit.", Exit.NETWORK, "docker login"),
        ("write /var/lib/docker/tmp/x: no space left on device", Exit.DISK, "docker system df"),
    ],
)
def test_an_image_that_cannot_be_had(said, code, expected):
    error = docker._no_image("a:1", ["a: Pulling", said], built=False)
    assert error.code == code
    assert expected in error.message
    assert len(error.message.splitlines()) == 1


def read_all(count, lines: Iterable[str]) -> list[tuple[int, int]]:
    return [(count.done, count.all) for line in lines if count.read(line)]


def test_progress_of_a_pull():
    lines = [
        *("18.6-bookworm: Pulling from library/postgres", "9824c27679d3: Pulling fs layer", "f6f1b1f9d2a1: Waiting"),
        *("9824c27679d3: Pull complete", "f6f1b1f9d2a1: Download complete", "f6f1b1f9d2a1: Pull complete"),
        "Digest: sha256:0123",
    ]
    assert read_all(docker._Layers(), lines) == [(0, 1), (0, 2), (1, 2), (1, 2), (2, 2)]


@pytest.mark.parametrize(
    "lines",
    [
        ["Step 1/3 : FROM x", " ---> 123", "Step 2/3 : RUN y", "Step 3/3 : RUN z"],
        ["#5 [primeur 1/3] FROM x", "#5 CACHED", "#6 [primeur 2/3] RUN y", "#7 [market-api primeur 3/3] RUN z"],
    ],
)
def test_progress_of_a_build_with_either_builder(lines):
    assert read_all(docker._Steps(), lines) == [(1, 3), (2, 3), (3, 3)]


def container(status: str, health: str | None = None, code: int = 0, restarts: int = 0, **labels: str) -> dict:
    state = {"Status": status, "Running": status == "running", "ExitCode": code, "Pid": 0}
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
    assert sentence.splitlines()[-2:] == ["  one", "  two"]


def test_waiting_goes_on_while_there_is_hope(engine):
    assert engine._trouble(engine.model["kafka"], container("running", "starting")) is None
    assert engine._trouble(engine.model["primeur-load"], container("exited", code=0)) is None


def test_status_calls_a_stand_in_a_stand_in(engine):
    service = engine.model["kafka"]
    row = engine._row(service, "running", {docker.STAND_IN: "Kafka of somebody else"}, 1.0)
    assert (row.runs, row.what) == ("stand-in", "Kafka of somebody else")
    row = engine._row(service, "running", {}, 1.0)
    assert (row.runs, row.what) == ("real", service.image)


def test_our_image_is_built_again_when_its_files_differ(engine, monkeypatch):
    image = engine.model["market-api"].image
    monkeypatch.setattr(engine.compose, "images", lambda _names: {image: {docker.SOURCE: docker.source_digest()}})
    assert engine.images_ready(["market-api", "market-sensors"])
    monkeypatch.setattr(engine.compose, "images", lambda _names: {image: {docker.SOURCE: "older"}})
    assert not engine.images_ready(["market-api"])
    assert [service.image for service in engine._missing(["market-api", "market-sensors"])] == [image]


def test_each_image_is_fetched_once(engine, monkeypatch):
    monkeypatch.setattr(engine.compose, "images", lambda _names: {})
    fetched: list[str] = []
    monkeypatch.setattr(engine, "_fetch_one", lambda service, _progress: fetched.append(service.image))
    engine.fetch([*SERVICES, "jupyterlab"], lambda _: None)
    assert sorted(fetched) == sorted({spec["image"] for spec in SERVICES.values()})


def test_up_says_what_was_running_and_starts_nothing(engine, monkeypatch):
    events: list[Event] = []
    row = container("running", "healthy")
    row["Config"]["Image"] = engine.model["mosquitto"].image
    monkeypatch.setattr(engine, "answers", lambda: None)
    monkeypatch.setattr(engine.compose, "containers", lambda: {"mosquitto": row})
    monkeypatch.setattr(engine, "_probe", lambda _service: lambda: None)
    engine.up(["mosquitto"], events.append)
    assert [(event.state, event.detail) for event in events] == [("running", "was running")]


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
