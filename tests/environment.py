"""The tests' own stack: other ports, another state folder, so that a learner's running course is left alone."""

from __future__ import annotations

import os
import socket
import zlib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "test"


def use_test_environment() -> None:
    """Point flow360 at the tests' stack by environment variables; children (kernels, services) inherit them.

    Must run before `flow360.settings.settings()` is first called. Does nothing when it has been done already.
    """
    if "FLOW360_ENV_FILE" in os.environ:
        return
    from flow360 import settings

    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # or each kernel and each child compiles its imports anew
    BUILD.mkdir(parents=True, exist_ok=True)
    file = BUILD / "test.env"
    os.environ["FLOW360_STATE"] = str(settings.settings().state_dir) + "-test"
    os.environ["FLOW360_ENV_FILE"] = str(file)
    os.environ["FLOW360_PROGRESS"] = str(BUILD / "progress.json")
    os.environ["FLOW360_DBT"] = str(BUILD / "dbt")
    os.environ["FLOW360_RULES"] = str(BUILD / "rules")
    os.environ["FLOW360_ENGINE"] = "native"
    settings.settings.cache_clear()
    if not file.exists():
        # Each checkout has a shift of its own, so that two of them can be tested at once.
        shift = 10000 + 7 * (zlib.crc32(str(ROOT).encode()) % 97)
        ports = {name: _port(port + shift) for name, port in settings.PORTS.items()}
        file.touch(mode=0o600)
        file.write_text("".join(f"{name}={port}\n" for name, port in ports.items()), "utf-8")
    settings.ensure_env()


def _port(wanted: int) -> int:
    """The wanted port, or the next free one when somebody has it.

    Not one that the system picks: those it also gives to outgoing connections while our service is down.
    """
    for port in range(wanted, wanted + 2000, 100):  # in steps, so that two of ours never meet
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                sock.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RuntimeError(f"no free port from {wanted} on")
