"""stack/compose.yaml by its rules, without a daemon."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tomllib

import pytest

from flow360.settings import PORTS, ROOT, SECRETS, SPLIT
from flow360.stack.model import COMPOSE, STACK, merged, read_compose, read_model
from tests.compose import standins

FILE = read_compose(split=True)  # with its neighbour: a rule of the one is a rule of the other
SERVICES: dict[str, dict] = FILE["services"]
TEXT = COMPOSE.read_text("utf-8") + COMPOSE.with_name(SPLIT).read_text("utf-8")
NATIVES = merged(*(tomllib.loads((STACK / f"{name}.toml").read_text("utf-8")) for name in ("native", "native.split")))
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
    *("restart", "logging", "security_opt", "mem_limit", "shm_size", "stop_grace_period", "init", "user", "networks"),
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
    assert set(SERVICES) == set(NATIVES) - {"host", "jars"}


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
    for names in ([COMPOSE.name], [COMPOSE.name, SPLIT]):
        files = [str(COMPOSE.with_name(name)) for name in names]
        services = read_model(env={"COMPOSE_FILE": ":".join(files)})
        for profile in sorted({p for spec in SERVICES.values() for p in spec["profiles"]}):
            command = ["docker", "compose", *(f"--file={file}" for file in files), f"--profile={profile}", "config"]
            done = subprocess.run(
                [*command, "--format", "json"], capture_output=True, text=True, timeout=60, env=environment
            )
            if "unknown command" in done.stderr or "is not a docker command" in done.stderr:
                pytest.skip("docker compose is not installed for every user")
            assert done.returncode == 0, done.stderr
            said = json.loads(done.stdout)["services"]
            assert set(said) == set(services.profile(profile))
            if "postgres-dwh" in said:
                aliases = said["postgres-dwh"]["networks"]["default"].get("aliases") or []
                assert aliases == [name for name, service in services.aliases.items() if service == "postgres-dwh"]
