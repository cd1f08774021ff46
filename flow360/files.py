"""A lock between processes that gives up in time."""

from __future__ import annotations

import fcntl
import time
from typing import IO

from flow360.errors import FlowError


def hold(file: IO[str], deadline: float, said: str) -> None:
    """Lock an open file for this process alone; the lock ends when the file is closed.

    Raises:
        FlowError: somebody else has held it for `deadline` seconds; `said` is the line.
    """
    end = time.monotonic() + deadline
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > end:
                raise FlowError(said) from None
            time.sleep(0.2)
