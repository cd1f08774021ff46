"""The tests' own stacks: other ports, other state folders, so that a learner's running course is left alone.

There are two, a lane each, so that two tests may run side by side without one stopping what the other asks. Which tests
run in which lane: tests/lanes.py.
"""

from __future__ import annotations

import os
import socket
import zlib
from collections.abc import Mapping
from pathlib import Path
from unittest.mock import patch

from dotenv import dotenv_values

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "test"
LANES = (1, 2)


def folder_of(lane: int) -> Path:
    """What a lane keeps of a run: its `.env`, reports, logs."""
    return BUILD / f"lane{lane}"


def report_of(phase: str, lane: int) -> Path:
    """Pytest's report of a phase."""
    return folder_of(lane) / f"{phase}.xml"


def make_lane(lane: int) -> dict[str, str]:
    """The variables that point flow360 at a lane's stack; its `.env` is written if it is not there yet."""
    from flow360 import settings

    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # or each kernel and each child compiles its imports anew
    folder = folder_of(lane)
    found = {
        "FLOW360_STATE": f"{settings.settings().state_dir}-test{lane}",
        "FLOW360_ENV_FILE": str(folder / "test.env"),
        "FLOW360_PROGRESS": str(folder / "progress.json"),
        "FLOW360_DBT": str(folder / "dbt"),
        "FLOW360_RULES": str(folder / "rules"),
        "FLOW360_ENGINE": "native",
    }
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "test.env").exists():
        _write_ports(folder / "test.env", lane)
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


def _write_ports(file: Path, lane: int) -> None:
    """Ports that neither another program nor another lane has."""
    from flow360 import settings

    others = [dotenv_values(other) for other in BUILD.glob("lane*/test.env")]
    taken = {int(port) for other in others for name, port in other.items() if name in settings.PORTS}
    # Each checkout has a shift of its own, so that two of them can be tested at once.
    shift = 10000 + 7 * (zlib.crc32(f"{ROOT}{lane}".encode()) % 97)
    file.touch(mode=0o600)
    file.write_text(port_lines(settings.PORTS, shift, taken), "utf-8")


def port_lines(usual: Mapping[str, int], shift: int, taken: set[int]) -> str:
    """Lines for a `.env`: each usual port and `shift`, or one further on where another program has it."""
    ports: dict[str, int] = {}
    for name, port in usual.items():
        ports[name] = _port(port + shift, taken | set(ports.values()))
    return "".join(f"{name}={port}\n" for name, port in ports.items())


def _port(wanted: int, taken: set[int]) -> int:
    """The wanted port, or one further on when somebody has it.

    Not one that the system picks: those it also gives to outgoing connections while our service is down.
    """
    for port in range(wanted, wanted + 2000, 100):
        if port in taken:
            continue
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                sock.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RuntimeError(f"no free port from {wanted} on")
