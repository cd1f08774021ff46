"""What is done before a service's first start, and before each."""

from __future__ import annotations

import subprocess
import sys

import psutil
import pytest

from flow360.stack.model import model
from flow360.stack.native import postgres

PAUSE = "import signal; signal.pause()"


@pytest.mark.parametrize("ours", [True, False])
def test_the_pid_of_a_dead_server_may_be_another_programs_by_now(tmp_path, ours):
    (tmp_path / "PG_VERSION").write_text("18")
    lock = tmp_path / "postmaster.pid"
    process = subprocess.Popen([sys.executable, "-c", PAUSE, *([str(tmp_path)] if ours else [])])
    try:
        lock.write_text(f"{process.pid}\n{tmp_path}\n")
        postgres.make_cluster(model()["postgres-dwh"], tmp_path, [])
        assert lock.exists() == ours
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize(("text", "kept"), [(f"{max(psutil.pids()) + 10**6}\n", False), ("", True)])
def test_a_pid_file_of_nobody_goes_and_one_that_says_nothing_is_left_to_the_server(tmp_path, text, kept):
    (tmp_path / "PG_VERSION").write_text("18")
    (tmp_path / "postmaster.pid").write_text(text)
    postgres.make_cluster(model()["postgres-dwh"], tmp_path, [])
    assert (tmp_path / "postmaster.pid").exists() == kept
