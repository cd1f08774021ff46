"""The stack: one description, two engines. `open_stack()` gives the one in force."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flow360.stack.facade import Stack


def open_stack(engine: str | None = None) -> Stack:
    """Open the stack of this checkout; see flow360.stack.facade.open_stack. (Imported late: the engines are heavy.)"""
    from flow360.stack import facade

    return facade.open_stack(engine)
