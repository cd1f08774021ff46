"""What was stopped together comes back together: a service, and those that need it.

`stop("postgres-dwh")` stops Hive, too, which needs it; whoever starts it again expects what was there before.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

_users: dict[str, list[str]] = {}  # of a service that was stopped here: those that were stopped because they need it


def stop(stack: Any, names: Iterable[str], alone: bool = False) -> list[str]:
    """Stop services and (unless `alone`) what needs them; returns all that were stopped."""
    names, stopped = list(names), []
    stack.down(names, progress=lambda event: stopped.append(event.service), alone=alone)
    for name in names:
        needing = set(stack.model.dependants([name])) - {name}
        _users[name] = list(dict.fromkeys([*_users.get(name, []), *(one for one in stopped if one in needing)]))
    return stopped


def with_users(names: Iterable[str]) -> list[str]:
    """List the services, and those that were stopped with them."""
    return list(dict.fromkeys(one for name in names for one in (name, *_users.get(name, []))))


def started(names: Iterable[str]) -> None:
    """Forget that these were stopped."""
    for name in names:
        _users.pop(name, None)
