"""What an engine says: events while it works, and the status of a service."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

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
    """The line about a database that refuses the password of `.env`, with its fix."""
    return (
        f"{name}: its data was made with another password than the one in .env: "
        f"put that one back, or flow360 reset {name}"
    )


def with_log(name: str, sentence: str, log: str) -> str:
    """What went wrong with a service, with the end of its log, for people."""
    tail = "\n".join(f"  {line[:160]}" for line in log.splitlines())
    return f"{name}: {sentence}. Its log (flow360 logs {name}) ends:\n{tail}"
