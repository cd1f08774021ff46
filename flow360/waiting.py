"""Waiting with a deadline: the one way in which this project waits for something."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from flow360.errors import FlowError

T = TypeVar("T")
PATIENCE = "FLOW360_PATIENCE"


def patient(seconds: float) -> float:
    """Stretch a deadline to what this machine needs: `seconds` are those of an idle one.

    The tests measure how many times slower the machine is at the moment and say so in FLOW360_PATIENCE.
    """
    return seconds * float(os.environ.get(PATIENCE) or 1)


def wait_for(condition: Callable[[], T], deadline: float = 30, what: str = "the condition", every: float = 0.2) -> T:
    """Ask again and again until `condition()` is true, and return what it said.

    A condition that cannot connect yet (FlowError, OSError) counts as "not yet"; any other exception comes through.

    Args:
        condition: what to ask.
        deadline: seconds until we give up, on an idle machine (see `patient`).
        what: how the message calls the thing that is waited for.
        every: seconds between two questions.

    Raises:
        FlowError: the deadline passed; the line says what was seen last.
    """
    deadline = patient(deadline)
    for _ in rounds(deadline, every):
        try:
            value = condition()
        except (FlowError, OSError) as error:
            seen = str(error) or type(error).__name__
        else:
            if value is not None and _truth(value):
                return value
            seen = repr(value)
    seen = seen if len(seen) <= 160 else seen[:159] + "…"
    raise FlowError(f"waited {deadline:g} s for {what}, without success; last seen: {seen}")


def rounds(seconds: float, every: float = 0.2) -> Iterator[None]:
    """Yield rounds of a loop that must end: `for _ in rounds(20): if ready(): return`, and what follows says so.

    Args:
        seconds: how long; there is one round at least, and one at the end.
        every: seconds between two rounds.
    """
    end = time.monotonic() + seconds
    pause = threading.Event()
    while True:
        yield
        if (left := end - time.monotonic()) <= 0:
            return
        pause.wait(min(every, left))


def _truth(value: Any) -> bool:
    empty = getattr(value, "empty", None)  # a DataFrame has no truth value, but it can be empty
    return not empty if isinstance(empty, bool) else bool(value)
