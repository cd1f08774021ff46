"""What an engine says: events while it works, and the status of a service."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

LOG_LINES = 60  # of a log, in which the reason for an end stands: a JVM's stacks are long
_ERROR = re.compile(r"\b(ERROR|FATAL|error|failed|\w*Exception|\w*Error)\b")

State = Literal["fetching", "starting", "running", "ready", "done", "stopped", "failed", "reset"]


@dataclass(frozen=True)
class Event:
    """One step of one service. `share` (0 to 1) where the length of the work is known; `seconds` since its start."""

    service: str
    state: State
    detail: str = ""
    share: float | None = None
    seconds: float = 0.0


@dataclass(frozen=True)
class ServiceStatus:
    """One line of `flow360 status`. `runs` is real, stand-in or compose only; `pss_mb` is 0 where it is not known."""

    name: str
    layer: int
    state: State
    runs: str
    what: str
    port: int | None
    pss_mb: float
    link: str | None
    title: str


Progress = Callable[[Event], None]


def another_password(name: str) -> str:
    """Write the line about a database that refuses the password of `.env`, with its fix."""
    return (
        f"{name}: its data was made with another password than the one in .env: "
        f"put that one back, or flow360 reset {name}"
    )


def with_log(name: str, sentence: str, log: str) -> str:
    """Say what went wrong with a service and what its log says of that, in one line.

    Args:
        log: the last `LOG_LINES` lines. Taken is the last one that speaks of an error (or the last of all), with
            the one before it where that is short and speaks of it, too; without the stack of calls behind it.
    """
    lines = [line.strip() for line in log.splitlines() if line.strip() and not line.startswith(("\t", "    "))]
    last = max((at for at, line in enumerate(lines) if _ERROR.search(line)), default=len(lines) - 1)
    telling = lines[last] if lines else "nothing"
    if last > 0 and _ERROR.search(lines[last - 1]) and len(lines[last - 1] + telling) < 200:
        telling = f"{lines[last - 1]} {telling}"
    return f"{name}: {sentence}; its log says: {telling[:200]} (all of it: flow360 logs {name})"
