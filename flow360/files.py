"""A lock between processes that gives up in time."""

from __future__ import annotations

import contextlib
import fcntl
from typing import IO

from flow360.errors import FlowError
from flow360.waiting import rounds


def hold(file: IO[str], deadline: float, said: str) -> None:
    """Lock an open file for this process alone; the lock ends when the file is closed.

    Raises:
        FlowError: somebody else has held it for `deadline` seconds; `said` is the line.
    """
    for _ in rounds(deadline):
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
    raise FlowError(said)
