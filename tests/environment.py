"""Where the tests run, how deep, and on how fast a machine.

There are three lanes, each with a stack of its own: other ports, another state folder, so that a learner's running
course is left alone and bundles of tests (tests/bundles.py) may run side by side.
"""

from __future__ import annotations

import os
import random
import socket
import time
import zlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from unittest.mock import patch

import pytest

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "test"
LANES = (1, 2, 3)

# --- how deep ---------------------------------------------------------------------------------------------------------

DEPTH = "FLOW360_TEST_DEPTH"  # full: what ./scripts/test --full adds
FULL = os.environ.get(DEPTH) == "full"
LEFT = "left to --full: "  # so begins the reason of a test that short depth leaves out


def left_to_full(why: str) -> pytest.MarkDecorator:
    """Mark a test that only `--full` runs; the suite's report says so once, with the reason."""
    return pytest.mark.skipif(not FULL, reason=LEFT + why)


# --- how fast ---------------------------------------------------------------------------------------------------------

WORK = random.Random(360).randbytes(6_000_000)
IDLE_SECONDS = 0.15  # what it takes to compress WORK on two idle cores of the machine that the deadlines were made on


def slowness() -> float:
    """Measure how many times longer than there the work of two threads takes here and now; never less than 1."""

    def compress(_: int) -> None:
        zlib.compress(WORK)

    start = time.monotonic()
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(compress, range(2)))
    return min(max(1.0, (time.monotonic() - start) / IDLE_SECONDS), 4.0)


# --- where ------------------------------------------------------------------------------------------------------------

# Above a learner's ports, below those that the system gives to outgoing connections (from 32768 on).
FIRST, LAST, BLOCK = 21_000, 32_700, 100


def folder_of(lane: int) -> Path:
    """Return the folder of what a lane keeps of a run: its `.env`, reports, logs."""
    return BUILD / f"lane{lane}"


def make_lane(lane: int) -> dict[str, str]:
    """Return the variables that point flow360 at a lane's stack; its `.env` is written if it is not there yet."""
    from flow360 import settings

    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # or each kernel and each child compiles its imports again
    folder = folder_of(lane)
    found = {
        "FLOW360_STATE": f"{settings.settings().state_dir}-test{lane}",
        "FLOW360_ENV_FILE": str(folder / "test.env"),
        "FLOW360_PROGRESS": str(folder / "progress.json"),
        "FLOW360_DBT": str(folder / "dbt"),
        "FLOW360_RULES": str(folder / "rules"),
        "FLOW360_ENGINE": "native",
        # One lane writes them for all: it takes each JVM up to 20 seconds of a core.
        "FLOW360_ARCHIVES": str(lane == LANES[0]).lower(),
    }
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "test.env").exists():
        (folder / "test.env").touch(mode=0o600)
        (folder / "test.env").write_text(port_lines(f"lane {lane}"), "utf-8")
    with patch.dict(os.environ, found):
        settings.ensure_env()
    settings.settings.cache_clear()
    return found


def use_test_environment() -> None:
    """Point flow360 at the first lane's stack by environment variables; children (kernels, services) inherit them.

    Must run before `flow360.settings.settings()` is first called. Does nothing when it has been done already, as the
    suite does for each of its lanes.
    """
    if "FLOW360_ENV_FILE" in os.environ:
        return
    os.environ.update(make_lane(LANES[0]))


def port_lines(what: str) -> str:
    """Write lines for a `.env`: a free port for each of the stack's."""
    from flow360.settings import PORTS

    return "".join(f"{name}={port}\n" for name, port in zip(PORTS, ports(what, len(PORTS)), strict=False))


def ports(what: str, count: int) -> Iterable[int]:
    """Reserve a block of ports that no other lane or checkout has; it is this process's until it ends.

    Whoever listens on a block's first port has the block: that is the same for all users and all checkouts, needs no
    file, and is over when the process is. Ports that the system picks would not do: those it also gives to outgoing
    connections while our service is down.
    """
    blocks = range(FIRST, LAST - BLOCK, BLOCK)
    begin = zlib.crc32(f"{ROOT}{what}".encode()) % len(blocks)
    for first in (*blocks[begin:], *blocks[:begin]):
        with ExitStack() as held:
            try:
                guard = _listening(first)
                for port in range(first + 1, first + 1 + count):
                    held.enter_context(_listening(port))
            except OSError:
                continue
            _GUARDS.append(guard)
            return range(first + 1, first + 1 + count)
    raise RuntimeError(f"no {count} free ports between {FIRST} and {LAST}")


_GUARDS: list[socket.socket] = []


def _listening(port: int) -> socket.socket:
    one = socket.socket()
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        one.bind(("127.0.0.1", port))
        one.listen()
    except OSError:
        one.close()
        raise
    return one
