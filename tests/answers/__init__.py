"""Right answers and near misses: what a learner could really write, and what each check must say to it.

Each chapter has a module here, `c01.py` for `01_sources`. An answer is a function that does what the learner's cells
would do (make the topic, load the table, define the function) and returns what the check is called with: one value, or
a tuple for several. A near miss also states a piece of the message that must reject it, so that it is rejected for the
right reason.

    from tests.answers import near_miss, right

    @right("paged_client")
    def follows_the_cursor():
        def fetch_all(session): ...
        return fetch_all

    @near_miss("paged_client", says="expected 1,204")
    def forgets_the_last_page():
        def fetch_all(session): ...
        return fetch_all

Each exercise has one right answer at least and two near misses. `tests/chapters/test_answers.py` runs them against the
live services (`-k paged_client` for one exercise); a `reset(exercise)` function in the module, if there is one, runs
before each answer (and, with "", after the last one) and takes away what the one before left in the services.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Any

from flow360.course.registry import course

Make = Callable[[], Any]


@dataclass(frozen=True)
class Answer:
    """One answer: what makes it, whether it is right, and a piece of the message when it is not."""

    exercise: str
    kind: str
    make: Make
    says: str | None = None
    solved: bool = False  # the solved lab says the same

    def arguments(self) -> tuple[Any, ...]:
        """What the check is called with."""
        value = self.make()
        return value if isinstance(value, tuple) else (value,)


_ANSWERS: dict[str, list[Answer]] = {}


def last_hint(number: str, exercise: str) -> list[str]:
    """The pieces of code in the last hint of an exercise, each as it stands there: anyone who copies them must pass.

    A hint without a mark is code from its beginning to its end.
    """
    hint = course().chapter(number).exercise(exercise).hints[-1]
    return re.findall(r"`([^`]+)`", hint) or [hint]


@cache
def delivered() -> None:
    """Bring what the nights deliver into the warehouse, as the first cell of a lab does."""
    from flow360.processing import feed

    feed.fill()


def right(exercise: str, *, solved: bool = False) -> Callable[[Make], Make]:
    """Register a right answer of the exercise; with `solved`, one that the solved lab proves already."""
    return _register(exercise, "right", None, solved)


def near_miss(exercise: str, *, says: str) -> Callable[[Make], Make]:
    """Register an answer that must be "not yet", with a message that contains `says` (upper or lower case)."""
    if not says.strip():
        raise ValueError("says: a piece of the message that rejects the answer")
    return _register(exercise, "near-miss", says)


def _register(exercise: str, kind: str, says: str | None, solved: bool = False) -> Callable[[Make], Make]:
    def keep(make: Make) -> Make:
        _ANSWERS.setdefault(make.__module__, []).append(Answer(exercise, kind, make, says, solved))
        return make

    return keep


def has_answers(number: str) -> bool:
    """Whether the chapter of that number has a module here."""
    return importlib.util.find_spec(f"tests.answers.c{number}") is not None


def module_of(number: str) -> ModuleType:
    """The chapter's module of answers."""
    return importlib.import_module(f"tests.answers.c{number}")


def answers_of(number: str) -> list[Answer]:
    """All answers of a chapter, in the order of the file; [] while it has no module."""
    return list(_ANSWERS.get(module_of(number).__name__, [])) if has_answers(number) else []


def reset(number: str, exercise: str) -> None:
    """Take away what the answer before left in the services, if the chapter's module says how."""
    if take_away := has_answers(number) and getattr(module_of(number), "reset", None):
        take_away(exercise)
