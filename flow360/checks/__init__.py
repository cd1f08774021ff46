"""The checks of the labs: one module or package a chapter (`c01_sources`), one function an exercise under `@exercise`.

`verdict` is what a check is made of; `compare` compares content, `draw` makes cases that the answer has not seen,
`liberal` takes what may be written in several ways, `apart` runs the answer in a process of its own.

In a lab: `from flow360.checks import c01_sources as check`, then `check.paged_client(fetch_all)`.
"""

from __future__ import annotations

import importlib
import importlib.util
from types import ModuleType
from typing import TYPE_CHECKING

from flow360.course.registry import Chapter

if TYPE_CHECKING:
    from flow360.checks.verdict import Check


def has_checks(chapter: Chapter) -> bool:
    """Say whether the chapter's module of checks exists yet."""
    return importlib.util.find_spec(chapter.checks) is not None


def load(chapter: Chapter) -> ModuleType:
    """Import the chapter's module of checks."""
    return importlib.import_module(chapter.checks)


def checks_of(module: ModuleType) -> dict[str, Check]:
    """Collect the checks that a module defines, by name, in the order of the lab."""
    from flow360.checks.verdict import Check

    found = [value for value in vars(module).values() if isinstance(value, Check)]
    return {one.name: one for one in sorted(found, key=lambda one: one.chapter.exercises.index(one.exercise))}
