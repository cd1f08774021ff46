"""What a learner may write for the same thing: one place that takes it, and says what else it found.

Each function returns the value in one form, or raises NotYet("busiest: expected a whole number, found 'VAN-03'").
"""

from __future__ import annotations

import math
import numbers
import os
import re
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

from flow360.checks.verdict import NotYet, shown

_RELATION = re.compile(r'(?:("[^"]+"|\w+)\.)?("[^"]+"|\w+)')


def whole(name: str, value: Any) -> int:
    """Take a whole number: int, numpy's, or a float or Decimal without a fraction."""
    if _is_number(value) and math.isfinite(value) and value == int(value):
        return int(value)
    raise _other(name, "a whole number", value)


def number(name: str, value: Any) -> float:
    """Take a number: int, float, numpy's or Decimal; finite."""
    if _is_number(value) and math.isfinite(value):
        return float(value)
    raise _other(name, "a number", value)


def text(name: str, value: Any, such_as: str = "") -> str:
    """Take a text, without blanks around it."""
    if isinstance(value, str):
        return str(value).strip()
    raise _other(name, f"a text such as {such_as!r}" if such_as else "a text", value)


def path(name: str, value: Any) -> Path:
    """Take a path: a text, or any kind of path object."""
    if isinstance(value, str | os.PathLike):
        return Path(os.fspath(value))
    raise _other(name, "a path", value)


def statement(name: str, value: Any) -> str:
    """Take one SQL statement, without the semicolon at its end."""
    return text(name, value, "select …").rstrip("; \t\n")


def relation(name: str, value: Any, schema: str) -> str:
    """Take the name of a table or an index: with its schema or without, quoted or not; `schema.name` in any case."""
    found = _RELATION.fullmatch(text(name, value, f"{schema}.a_name"))
    if not found:
        raise _other(name, f"a name such as {schema}.a_name", value)
    parts = [part or schema for part in found.groups()]
    return ".".join(part.strip('"') if part.startswith('"') else part.lower() for part in parts)


def function(name: str, value: Any) -> Callable[..., Any]:
    """Take a function (or another thing that can be called)."""
    if callable(value):
        return value
    called = f": did you write {name}(…) where {name} is asked for?" if value is None else ""
    raise NotYet(f"{name}: expected a function, found {type(value).__name__}{called}")


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real | Decimal) and not isinstance(value, bool)


def _other(name: str, wanted: str, value: Any) -> NotYet:
    inside = " with a value in it: which one?" if hasattr(value, "iloc") or isinstance(value, list | tuple) else ""
    return NotYet(f"{name}: expected {wanted}, found {type(value).__name__} ({shown(value)}){inside}")
