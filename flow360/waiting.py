"""Waiting with a deadline: the one way in which this project waits for something."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

from flow360.errors import FlowError

T = TypeVar("T")


def wait_for(condition: Callable[[], T], deadline: float = 30, what: str = "the condition", every: float = 0.2) -> T:
    """Ask again and again until `condition()` is true, and return what it said.

    A condition that cannot connect yet (FlowError, OSError) counts as "not yet"; any other exception comes through.

    Args:
        condition: what to ask.
        deadline: seconds until we give up.
        what: how the message calls the thing that is waited for.
        every: seconds between two questions.

    Raises:
        FlowError: the deadline passed; the line says what was seen last.
    """
    end = time.monotonic() + deadline
    pause = threading.Event()
    while True:
        try:
            value = condition()
        except (FlowError, OSError) as error:
            seen = str(error) or type(error).__name__
        else:
            if value is not None and _truth(value):
                return value
            seen = repr(value)
        if time.monotonic() >= end:
            seen = seen if len(seen) <= 160 else seen[:159] + "…"
            raise FlowError(f"waited {deadline:g} s for {what}, in vain; last seen: {seen}")
        pause.wait(min(every, max(0.0, end - time.monotonic())))


def _truth(value: Any) -> bool:
    empty = getattr(value, "empty", None)  # a DataFrame has no truth value, but it can be empty
    return not empty if isinstance(empty, bool) else bool(value)
