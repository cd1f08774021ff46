"""Commands of which nobody hears that they failed."""

from __future__ import annotations

import re

_CONTENT = r"(/bin/)?(true|:|exit 0|echo\b[^|;&]*|sleep \S+)"
_ALWAYS = re.compile(rf"(.*(\|\||;))?\s*{_CONTENT}\s*", re.DOTALL)


def always_content(command: str) -> bool:
    """Say whether a command of the shell ends well, whatever it found: `true`, `curl … || true`, `pytest; exit 0`."""
    return _ALWAYS.fullmatch(command) is not None
