"""`flow360 goto` from nothing: the solved labs run once, and from then on their snapshot is put back."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from flow360 import clients
from flow360.settings import settings
from tests.environment import ROOT

SERVICES = ()  # it stops them all, and starts its own

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def state(stack) -> Iterator[Path]:
    """Services with data of their own, on the ports of the tests' stack, which must be down for that."""
    stack.down()
    folder = Path(f"{settings().state_dir}-goto")
    shutil.rmtree(folder, ignore_errors=True)
    yield folder
    flow360(folder, "down")
    shutil.rmtree(folder)


def flow360(state: Path, *words: str) -> str:
    command = [Path(sys.executable).parent / "flow360", *words]
    environment = {**os.environ, "FLOW360_STATE": str(state)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    return done.stdout


def tables() -> list[tuple]:
    """Every table of the warehouse, with its rows."""
    with clients.postgres() as db:
        names = db.execute("select schemaname || '.' || relname from pg_stat_user_tables order by 1").fetchall()
        return [(name, db.execute(f"select count(*) from {name}").fetchone()[0]) for (name,) in names]


def test_goto_runs_the_solved_labs_once_and_puts_their_snapshot_back(state):
    first = flow360(state, "goto", "01", "--yes")
    assert "ran solutions/00_welcome.ipynb" in first
    assert "kept what there is after 00_welcome" in first
    found = tables()
    assert ("primeur.orders", 0) not in found
    with clients.postgres() as db:
        db.execute("create table public.scratch as select 1 as x")
        db.execute("delete from primeur.reviews")
    assert tables() != found
    second = flow360(state, "goto", "01", "--yes")
    assert "put back what was kept after 00_welcome" in second
    assert "solutions/" not in second
    assert tables() == found


def test_the_first_chapter_begins_with_empty_services(state):
    with clients.postgres() as db:
        db.execute("create table public.scratch as select 1 as x")
    told = flow360(state, "goto", "00", "--yes")
    assert "solutions/" not in told
    assert ("public.scratch", 1) not in tables()
