"""The lock of the Python environment fits pyproject.toml; scripts and editors' files hold to the house's rules."""

from __future__ import annotations

import re
import stat
import tomllib
from collections import defaultdict

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from flow360.settings import LAYERS, ROOT

LOCK = (ROOT / "requirements.lock").read_text("utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
# The three Pythons that pyproject.toml allows, on the two machines that people have.
MACHINES = [
    {
        "python_version": f"3.{minor}",
        "python_full_version": f"3.{minor}.0",
        "platform_machine": machine,
        "sys_platform": "linux",
        "platform_system": "Linux",
        "os_name": "posix",
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
    }
    for minor in (11, 12, 13)
    for machine in ("x86_64", "aarch64")
]


def pins() -> dict[str, list[tuple[Requirement, int]]]:
    """Each locked package: its requirement line (a version, perhaps a marker) and how many hashes follow."""
    found = defaultdict(list)
    for block in re.split(r"\n(?=[A-Za-z0-9])", LOCK):
        first = block.split("\\\n")[0].strip()
        if "==" in first and not first.startswith("#"):
            requirement = Requirement(first)
            found[canonicalize_name(requirement.name)].append((requirement, block.count("--hash=sha256:")))
    return found


PINS = pins()


def locked(name: str, machine: dict) -> list[Version]:
    return [
        Version(next(iter(pin.specifier)).version)
        for pin, _ in PINS[canonicalize_name(name)]
        if pin.marker is None or pin.marker.evaluate(machine)
    ]


@pytest.mark.parametrize("line", PROJECT["dependencies"], ids=lambda line: Requirement(line).name)
def test_each_requirement_is_locked_within_its_range(line):
    wanted = Requirement(line)
    for machine in MACHINES:
        if wanted.marker and not wanted.marker.evaluate(machine):
            continue
        versions = locked(wanted.name, machine)
        assert len(versions) == 1, f"{wanted.name}: {versions} for {machine}: run ./scripts/lock"
        assert wanted.specifier.contains(versions[0], prereleases=True), f"{line}: {versions[0]}: run ./scripts/lock"


def test_every_pin_is_exact_and_hashed():
    assert len(PINS) > 200
    for name, entries in PINS.items():
        for pin, hashes in entries:
            assert [s.operator for s in pin.specifier] == ["=="], name
            assert "*" not in str(pin.specifier), name
            assert hashes >= 1, name
            assert pin.url is None, name


LOCKS = [ROOT / name for name in ("requirements.lock", "stack/jars.lock", "pyproject.toml")]


@pytest.mark.parametrize("path", [*LOCKS, *sorted(LAYERS.glob("*.toml"))], ids=lambda path: path.name)
def test_no_registry_address_in_a_lock(path):
    text = path.read_text("utf-8")
    assert not re.search(r"https?://(?!127\.0\.0\.1)|--(extra-)?index-url|--find-links|--trusted-host", text)


@pytest.mark.parametrize("path", sorted((ROOT / "scripts").iterdir()), ids=lambda path: path.name)
def test_scripts_can_be_run_and_stop_at_errors(path):
    assert stat.S_IMODE(path.stat().st_mode) & 0o111, f"chmod +x {path}"
    text = path.read_text("utf-8")
    assert text.startswith("#!/usr/bin/env bash\n")
    assert "set -euo pipefail" in text


def test_no_file_of_git_has_windows_line_ends():
    import subprocess

    listed = subprocess.run(["git", "ls-files", "--eol"], cwd=ROOT, capture_output=True, text=True, timeout=60)
    if listed.returncode:
        pytest.skip("not a git checkout")
    assert [line for line in listed.stdout.splitlines() if "crlf" in line or "mixed" in line.split()[1]] == []


# --- what runs elsewhere ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def workflow():
    return yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text("utf-8"))


def test_the_workflow_reads_only_and_ends(workflow):
    assert workflow["permissions"] == {"contents": "read"}
    assert workflow["concurrency"]["cancel-in-progress"]
    assert len(workflow["jobs"]) == 3
    for name, job in workflow["jobs"].items():
        assert 0 < job["timeout-minutes"] <= 90, name
        for step in job["steps"]:
            assert re.fullmatch(r"actions/[a-z-]+@[0-9a-f]{40}", step.get("uses", f"actions/x@{'0' * 40}")), step


def test_uv_is_pinned_where_pip_brings_it():
    text = (ROOT / "requirements-uv.lock").read_text("utf-8")
    assert re.findall(r"^(\S+?)==", text, re.MULTILINE) == ["uv"]
    assert text.count("--hash=sha256:") > 10
    assert "--index-url" not in text
    assert "--require-hashes --requirement requirements-uv.lock" in (ROOT / "scripts" / "setup").read_text("utf-8")


def test_the_workflow_runs_the_scripts_of_the_repository(workflow):
    for name, job in workflow["jobs"].items():
        assert any("./scripts/test" in step.get("run", "") for step in job["steps"]), name


def test_pre_commit_pins_what_it_runs():
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text("utf-8"))
    for repository in config["repos"]:
        if repository["repo"] != "local":
            assert re.fullmatch(r"v?\d+(\.\d+)+", repository["rev"]), repository["repo"]
    ruff = next(r["rev"] for r in config["repos"] if "ruff" in r["repo"])
    assert Version(ruff) in locked("ruff", MACHINES[0]), "pre-commit and requirements.lock must format alike"
