"""The Compose files by their rules, without a daemon."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess

import pytest

from flow360.settings import LAYERS, PORTS, PUBLISHED, ROOT, SECRETS, SPLIT, VAULTED
from flow360.stack.model import COMPOSE, read_compose, read_model, read_native
from tests.compose import standins

FILE = read_compose(on_top=[SPLIT])  # with its neighbour: a rule of the one is a rule of the other
SERVICES: dict[str, dict] = FILE["services"]
TEXT = "".join(file.read_text("utf-8") for file in LAYERS.glob("*.yaml"))
NATIVES = read_native(on_top=[SPLIT])
EVERY = pytest.mark.parametrize("name", list(SERVICES))
LONG = pytest.mark.parametrize("name", [name for name, spec in SERVICES.items() if spec["restart"] != "no"])
COMPOSE_IS_HERE = pytest.mark.skipif(
    not shutil.which("docker") or subprocess.run(["docker", "compose", "version"], capture_output=True).returncode != 0,
    reason="docker compose is not installed here",
)
# What the shipper of the logs reads: the daemon's files, and those of Airflow's tasks, another service's volume.
READ = ("/var/lib/docker/containers:/logs/containers:ro", "airflow-scheduler:/logs/tasks:ro")
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
    *("restart", "logging", "security_opt", "mem_limit", "shm_size", "stop_grace_period", "init", "user", "networks"),
    *("hostname", "pull_policy", "cap_add", "cap_drop"),
    "x-flow360",
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
    measured = NATIVES[name].get("memory_mb", 0)
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


def test_with_vault_airflow_has_no_connection_in_its_environment():
    together, vaulted = (read_compose(on_top=on_top)["services"] for on_top in ([], [VAULTED]))
    parts = [name for name, spec in together.items() if spec["image"] == "flow360/airflow:0.1.0"]
    assert len(parts) == 5
    for name in set(parts) - {"airflow-init"}:  # which makes tables and asks for no connection
        held = {key: value for key, value in together[name]["environment"].items() if key.startswith("AIRFLOW_CONN_")}
        left = {key: value for key, value in vaulted[name]["environment"].items() if key.startswith("AIRFLOW_CONN_")}
        assert set(held) == set(left)
        assert all(held.values())
        assert not any(left.values())
        assert held == {key: vaulted["vault"]["environment"][key] for key in held}, "what Vault is given"
        assert "vault" in vaulted[name]["depends_on"]


def test_ports_and_secrets_are_read_from_the_files_as_the_model_has_them():
    services = read_model(env={"COMPOSE_FILE": SPLIT}).services
    assert {name: tuple(PUBLISHED.get(name, {}).values()) for name in services} == {
        name: service.ports for name, service in services.items()
    }
    needed = set(re.findall(r"\$\{(\w+):\?", TEXT)) | set(re.findall(r"\{secret\[(\w+)\]\}", str(NATIVES)))
    assert needed == set(SECRETS)
    for name, number in re.findall(r"\$\{(\w+_PORT):-(\d+)\}", TEXT):
        assert PORTS[name] == int(number), f"{name} has two usual numbers"


def test_an_image_of_ours_is_built_by_one_service_on_which_the_others_depend():
    ours = {spec["image"] for spec in SERVICES.values() if spec["image"].startswith("flow360/")}
    assert len(ours) > 5
    for image in ours:
        users = {name for name, spec in SERVICES.items() if spec["image"] == image}
        (builder,) = [name for name in users if "build" in SERVICES[name]]
        assert all(SERVICES[name]["pull_policy"] == "never" for name in users)
        assert users - {builder} <= set(read_model(env={}).dependants([builder]))


def test_a_version_that_stands_twice_is_the_same():
    text = (ROOT / "stack" / "images" / "Dockerfile").read_text("utf-8")
    assert f"ARG KAFKA={SERVICES['zookeeper']['image']}\n" in text
    versions, project = NATIVES["versions"], (ROOT / "pyproject.toml").read_text("utf-8")
    assert f"apache/kafka:{versions['kafka']}\n" in text
    assert f"apache/airflow:{versions['airflow']}-python3.11\n" in text
    assert f"apache/hive:{versions['hive']}\n" in text
    assert f'"apache-airflow=={versions["airflow"]}"' in project
    assert f'"pyspark[connect]=={versions["spark"]}"' in project


def test_variables_are_those_of_env_or_have_a_default():
    for name, rest in re.findall(r"(?<!\$)\$\{(\w+)([^}]*)\}", TEXT):
        assert name in (*PORTS, *SECRETS) or rest.startswith(":-"), name


def test_volumes_are_named_declared_and_used():
    used: list[str] = []
    for name, spec in SERVICES.items():
        for mount in spec.get("volumes", ()):
            if mount == "../../data/generated:${FLOW360_DATA:-/flow360/data/generated}":
                continue  # what notebooks and Spark both read and write, under the path that it has outside
            if (name, mount) == ("market-day", "../../data/generated:/app/data/generated"):
                continue  # the drop zone of later days
            if name == "logstash" and mount in READ:
                continue
            source, target, *mode = mount.split(":")
            assert target.startswith("/")
            if source.startswith("."):
                assert (LAYERS / source).exists(), f"{name}: {source}"
                assert mode == ["ro"], f"{name}: {source}"
            else:
                used.append(source)
    assert sorted(used) == sorted(FILE["volumes"])  # one service each: `reset` of one cannot take another's data


def test_both_engines_know_the_same_services():
    assert set(SERVICES) == set(NATIVES) - {"host", "jars", "versions"}


def test_every_image_that_is_pulled_has_a_stand_in_or_a_reason():
    text = (ROOT / "stack" / "images" / "Dockerfile").read_text("utf-8")
    bases = set(re.findall(r"^ARG \w+=(\S+:\S+)$", text, re.MULTILINE))
    assert len(bases) == 4
    pulled = {
        spec["image"] for name, spec in SERVICES.items() if "pull_policy" not in spec and name not in standins.NONE
    }
    assert pulled | bases | {standins.DEBIAN} == set(standins._RECIPES)
    readme = (standins.HERE / "README.md").read_text("utf-8")
    for image in standins._RECIPES:
        assert f"`{image}`" in readme or f"`{image.partition(':')[0]}`" in readme
    assert set(standins.NONE) <= set(SERVICES)


@COMPOSE_IS_HERE
def test_compose_itself_accepts_the_file_and_each_profile():
    """`docker compose config` checks against the Compose specification; it needs the client, no daemon."""
    # Nothing of this shell's own variables: what the file does not get from `.env` must have a default.
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    environment |= dict.fromkeys(SECRETS, "x")
    for names in ([COMPOSE.name], [COMPOSE.name, SPLIT], [COMPOSE.name, SPLIT, VAULTED]):
        files = [str(ROOT / name) for name in names]
        services = read_model(env={"COMPOSE_FILE": ":".join(files)})
        for profile in sorted({p for spec in SERVICES.values() for p in spec["profiles"]}):
            command = ["docker", "compose", *(f"--file={file}" for file in files), f"--profile={profile}", "config"]
            done = subprocess.run(
                [*command, "--format", "json"], capture_output=True, text=True, timeout=60, env=environment
            )
            assert done.returncode == 0, done.stderr
            said = json.loads(done.stdout)["services"]
            assert set(said) == set(services.profile(profile))
            if "postgres-dwh" in said:
                aliases = said["postgres-dwh"]["networks"]["default"].get("aliases") or []
                assert aliases == [name for name, service in services.aliases.items() if service == "postgres-dwh"]


@COMPOSE_IS_HERE
def test_compose_itself_reads_the_files_as_we_do():
    """What is extended, included and overridden is resolved twice: by Compose, and by us for the native engine."""
    environment = {name: os.environ[name] for name in ("PATH", "HOME")} | dict.fromkeys(SECRETS, "x")
    for on_top in ([], [SPLIT], [VAULTED]):
        files = [f"--file={name}" for name in ("compose.yaml", *on_top)]
        command = ["docker", "compose", *files, "--profile=*", "config", "--format=json", "--no-interpolate"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, env=environment)
        assert done.returncode == 0, done.stderr
        theirs, ours = json.loads(done.stdout)["services"], read_compose(on_top=on_top)["services"]
        assert set(theirs) == set(ours)
        for name, spec in ours.items():
            for key in ("image", "command", "environment", "profiles", "ports", "depends_on"):
                said = theirs[name].get(key) or {}
                if isinstance(said, list) and key == "environment":
                    said = dict(line.split("=", 1) for line in said)
                if key == "depends_on":
                    said = {other: {"condition": rule["condition"]} for other, rule in said.items()}
                assert said == (spec.get(key) or {}), f"{name}: {key}"
