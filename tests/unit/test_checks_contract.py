"""The registry, the checks and their answers fit each other, in every chapter that has a module of checks."""

from __future__ import annotations

import inspect
from collections import Counter

import pytest

from flow360 import checks
from flow360.course.registry import Chapter, course
from tests.answers import answers_of

CHAPTERS = [pytest.param(c, id=c.stem) for c in course().chapters]


def checked(chapter: Chapter) -> dict:
    if not checks.has_checks(chapter):
        pytest.skip(f"{chapter.checks} is not written yet")
    return checks.checks_of(checks.load(chapter))


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_checks_are_the_registrys(chapter: Chapter) -> None:
    assert list(checked(chapter)) == [e.name for e in chapter.exercises]


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_each_check_takes_a_variable_and_has_a_docstring(chapter: Chapter) -> None:
    for name, check in checked(chapter).items():
        assert inspect.signature(check.run).parameters, name
        assert check.__doc__, f"{name}: say what state must hold"


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_a_lab_as_shipped_is_not_attempted(chapter: Chapter) -> None:
    from flow360.checks.verdict import NotAttempted

    for name, check in checked(chapter).items():
        holes = dict.fromkeys(inspect.signature(check.run).parameters, ...)
        with pytest.raises(NotAttempted):
            check(**holes)
        assert name == check.name


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_each_exercise_has_two_or_three_hints(chapter: Chapter) -> None:
    assert len(chapter.exercises) >= 4
    for exercise in chapter.exercises:
        assert 2 <= len(exercise.hints) <= 3, exercise.name
        assert exercise.title[0].isupper(), exercise.name
        assert not exercise.title.endswith("."), exercise.name
        assert all(20 <= len(hint) <= 240 for hint in exercise.hints), exercise.name


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_each_exercise_has_a_right_answer_and_two_near_misses(chapter: Chapter) -> None:
    checked(chapter)
    answers = answers_of(chapter.number)
    known = {e.name for e in chapter.exercises}
    assert {a.exercise for a in answers} <= known
    counts = Counter((a.exercise, a.kind) for a in answers)
    poor = [n for n in sorted(known) if counts[n, "right"] < 1 or counts[n, "near-miss"] < 2]
    assert not poor, f"tests/answers/c{chapter.number}.py: one right answer and two near misses are owed to {poor}"
