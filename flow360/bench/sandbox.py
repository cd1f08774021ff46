"""A stack for the length of a figure, so that no figure works in what a learner has made."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flow360.errors import Exit, FlowError
from flow360.settings import PORTS, settings
from flow360.stack.facade import silent
from flow360.stack.model import read_model
from flow360.stack.native.engine import NativeEngine


def free_ports() -> dict[str, str]:
    """Find a free port for each variable; none that the system could give to a connection while our service is down."""
    found: list[int] = []
    candidates = range(20_000, 32_768)  # Linux takes 32,768 and higher for connections
    for port in random.sample(candidates, len(candidates)):
        with socket.socket() as sock, contextlib.suppress(OSError):
            sock.bind(("127.0.0.1", port))
            found.append(port)
        if len(found) == len(PORTS):
            return dict(zip(PORTS, map(str, found), strict=True))
    raise FlowError(f"there are no {len(PORTS)} free ports from {candidates[0]} on", Exit.PORT)


@contextmanager
def folder_of_its_own() -> Iterator[Path]:
    """Make a state folder of its own, beside the usual one: root's PostgreSQL is another user, who may enter there."""
    folder = settings().state_dir.with_name(f"bench-{uuid.uuid4().hex[:8]}")
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def engine_of_its_own() -> Iterator[NativeEngine]:
    """Make a native engine with its own folders and ports, beside the learner's; stop it at the end.

    They go through the environment, so that the jobs of the stack and notebooks, which are programs, find them too.
    """
    before = dict(os.environ)
    with folder_of_its_own() as folder:
        os.environ |= free_ports() | {"FLOW360_STATE": str(folder), "FLOW360_ENGINE": "native"}
        os.environ |= {f"FLOW360_{name.upper()}": str(folder / "mine" / name) for name in ("progress", "dbt", "rules")}
        settings.cache_clear()
        engine = NativeEngine(read_model(), folder)
        try:
            yield engine
        finally:
            engine.down(None, silent)
            os.environ.clear()
            os.environ |= before
            settings.cache_clear()
