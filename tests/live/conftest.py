"""What the live tests share."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable

import pytest


@pytest.fixture
def as_another() -> Callable[..., subprocess.CompletedProcess]:
    """Run a program as `nobody`, who is not the owner of the stack."""
    if os.geteuid() != 0 or not shutil.which("setpriv"):
        pytest.skip("only root can become another user")

    def run(*command: str) -> subprocess.CompletedProcess:
        who = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
        return subprocess.run([*who, *command], capture_output=True, text=True, timeout=20, cwd="/")

    return run
