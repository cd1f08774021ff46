"""The checks of the labs: one module a chapter (`c01_sources`), one function an exercise, decorated `@exercise`.

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
    """Whether the chapter's module of checks exists yet."""
    return importlib.util.find_spec(chapter.checks) is not None


def load(chapter: Chapter) -> ModuleType:
    """The chapter's module of checks."""
    return importlib.import_module(chapter.checks)


def checks_of(module: ModuleType) -> dict[str, Check]:
    """The checks that a module defines, by name, in the order of the file."""
    from flow360.checks.verdict import Check

    return {name: value for name, value in vars(module).items() if isinstance(value, Check)}
