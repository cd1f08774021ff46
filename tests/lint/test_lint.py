"""The code, the scripts, the Dockerfiles and the workflows as their linters see them; what is generated is current."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from flow360.delivery import linters
from tests.environment import ROOT

BIN = Path(sys.executable).parent
SCRIPTS = [*sorted((ROOT / "scripts").iterdir()), *sorted((ROOT / "stack").rglob("*.sh")), ROOT / ".ci" / "run"]
SCRIPTS += [ROOT / ".devcontainer" / "start"]
DOCKERFILES = [*sorted((ROOT / "stack" / "images").glob("*Dockerfile*")), ROOT / ".devcontainer" / "Dockerfile"]
COMMANDS = {
    "ruff check": ["ruff", "check", "."],
    "ruff format": ["ruff", "format", "--check", "."],
    "shellcheck": ["shellcheck", *SCRIPTS],
    "hadolint": ["hadolint", *DOCKERFILES],
    "generated": ["flow360", "generate", "--check"],
}
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


@pytest.mark.parametrize("name", COMMANDS)
def test_a_linter_finds_nothing(name):
    program, *words = COMMANDS[name]
    done = subprocess.run([BIN / program, *words], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_is_valid(path):
    assert linters.workflow(path.read_text("utf-8")) == [], linters.judge()
