"""Three judges of delivery files: of workflows, Dockerfiles and compose files. Chapter 07 and the lint phase ask them.

Each takes text and answers with findings; none means that the judge has no objection. Nothing is fetched or started but
actionlint, once, where Go is installed; without it GitHub's published schema judges a workflow, and `judge` says so.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from flow360.delivery.image_layers import steps
from flow360.errors import FlowError
from flow360.settings import settings

ACTIONLINT = "github.com/rhysd/actionlint/cmd/actionlint@v1.7.12"
SECONDS = 120


@dataclass(frozen=True)
class Finding:
    """One objection. `line` counts from 1; 0 where the judge names none."""

    line: int
    rule: str
    message: str

    def __str__(self) -> str:
        where = f"line {self.line}: " if self.line else ""
        return f"{where}{self.message} [{self.rule}]"


def _run(command: Sequence[str | Path], seconds: float = SECONDS, **env: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            [str(word) for word in command], capture_output=True, text=True, timeout=seconds, env={**os.environ, **env}
        )
    except subprocess.TimeoutExpired:
        raise FlowError(f"{Path(str(command[0])).name} did not answer within {seconds:g} s") from None


def _tool(name: str) -> Path:
    """Find a program of this environment."""
    return Path(sys.executable).parent / name


# --- workflows --------------------------------------------------------------------------------------------------------


@cache
def actionlint() -> Path | None:
    """Find actionlint on the PATH or in the cache, or build it once by Go; None where there is no Go or no network."""
    if found := shutil.which("actionlint"):
        return Path(found)
    program = settings().cache_dir / "go" / ACTIONLINT.rpartition("@")[2] / "actionlint"
    if program.exists():
        return program
    if not shutil.which("go"):
        return None
    program.parent.mkdir(parents=True, exist_ok=True)
    # Built beside its place and moved, so that a build that was broken off leaves nothing that looks whole.
    with tempfile.TemporaryDirectory(dir=program.parent) as folder:
        done = _run(["go", "install", ACTIONLINT], 300, GOBIN=folder)
        if done.returncode:
            return None
        (Path(folder) / "actionlint").replace(program)
    return program


def judge() -> str:
    """Say which judge decides about workflows on this machine, as a sentence for people."""
    if actionlint():
        return "actionlint decides"
    return "GitHub's schema decides: actionlint is not on the PATH, and there is no Go (or no network) to build it"


def workflow(text: str) -> list[Finding]:
    """Find what is wrong with a workflow of GitHub Actions: unknown keys, needs without a job, old actions …"""
    program = actionlint()
    if program is None:
        return _schema(text, "vendor.github-workflows")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "workflow.yml")
        path.write_text(text, "utf-8")
        done = _run([program, "-no-color", "-format", "{{json .}}", "-shellcheck", _tool("shellcheck"), path])
    if done.returncode not in (0, 1):
        raise FlowError(f"actionlint: {(done.stderr or done.stdout).strip().splitlines()[-1][:200]}")
    return [Finding(one["line"], one["kind"], one["message"]) for one in json.loads(done.stdout or "[]")]


# --- Dockerfiles ------------------------------------------------------------------------------------------------------


def dockerfile(text: str) -> list[Finding]:
    """Ask hadolint about a Dockerfile."""
    # hadolint up to 2.15 wants an empty line behind a heredoc (language-docker#115); elsewhere one does no harm.
    ends = {step.last for step in steps(text) if step.last > step.line}
    numbered = [(n, row) for n, line in enumerate(text.split("\n"), 1) for row in [line, ""][: 1 + (n in ends)]]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "Dockerfile")
        path.write_text("\n".join(row for _, row in numbered), "utf-8")
        done = _run([_tool("hadolint"), "--no-color", "--format", "json", path])
    try:
        found = json.loads(done.stdout)
    except ValueError:
        raise FlowError(f"hadolint: {(done.stderr or done.stdout).strip()[:200] or 'no answer'}") from None
    return [Finding(numbered[min(one["line"], len(numbered)) - 1][0], one["code"], one["message"]) for one in found]


# --- compose files ----------------------------------------------------------------------------------------------------


def compose(text: str) -> list[Finding]:
    """Hold a compose file against its specification, and find what only its meaning shows: a dependency on nothing.

    `docker compose config` is asked too where the client is installed; it needs no daemon.
    """
    if found := _schema(text, "vendor.compose-spec"):
        return found
    import yaml

    services = yaml.safe_load(text).get("services", {})
    for name, spec in services.items():
        for other in spec.get("depends_on", {}):
            if other not in services:
                found.append(Finding(0, "depends_on", f"{name} depends on {other}, which is not a service"))
    if found or not has_compose():
        return found
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "compose.yaml")
        path.write_text(text, "utf-8")
        # What `.env` must give gets a value here: the question is about the file.
        required = dict.fromkeys(re.findall(r"\$\{(\w+):?\?", text), "x")
        done = _run(["docker", "compose", "--file", path, "--profile", "*", "config", "--quiet"], **required)
    if done.returncode:
        found.append(Finding(0, "compose", done.stderr.strip().splitlines()[-1]))
    return found


@cache
def has_compose() -> bool:
    """Say whether there is a `docker compose` client."""
    return bool(shutil.which("docker")) and _run(["docker", "compose", "version"], 20).returncode == 0


def _schema(text: str, name: str) -> list[Finding]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "file.yaml")
        path.write_text(text, "utf-8")
        done = _run([_tool("check-jsonschema"), "--builtin-schema", name, "--output-format", "json", path])
    try:
        answer = json.loads(done.stdout)
    except ValueError:
        raise FlowError(f"check-jsonschema: {(done.stderr or done.stdout).strip()[:200] or 'no answer'}") from None
    found = [Finding(0, "yaml", one["message"].splitlines()[0]) for one in answer.get("parse_errors", [])]
    for one in answer.get("errors", []):
        # Where a value may take several forms, the deepest complaint is about the form that was meant.
        best = one.get("best_deep_match") or one
        found.append(Finding(0, re.sub(r"^\$\.?", "", best["path"]) or "file", best["message"]))
    return found
