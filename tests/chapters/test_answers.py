"""Every check accepts the right answers and rejects the near misses, asked of the live services.

Ids: `01-paged_client-right-0`, `01-paged_client-near-miss-1`. How answers are written: tests/answers/__init__.py.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from flow360 import checks, lesson
from flow360.checks.verdict import NotYet
from flow360.course.registry import Chapter
from flow360.settings import settings
from tests.answers import Answer, answers_of, reset
from tests.bundles import under_test
from tests.environment import left_to_full


def cases() -> list:
    """One case for each answer of each chapter."""
    found = []
    for chapter in under_test():
        counts: dict[tuple[str, str], int] = {}
        for answer in answers_of(chapter.number):
            number = counts.setdefault((answer.exercise, answer.kind), 0)
            counts[answer.exercise, answer.kind] += 1
            name = f"{chapter.number}-{answer.exercise}-{answer.kind}-{number}"
            marks = [left_to_full("right answers that the solved labs prove already")] if answer.solved else []
            found.append(pytest.param(chapter, answer, id=name, marks=marks))
    return found


@pytest.fixture(scope="module")
def started() -> Iterator[set[str]]:
    """The chapters whose services were started in this run; what their last answers left is taken away."""
    numbers: set[str] = set()
    yield numbers
    for number in numbers:
        reset(number, "")


@pytest.fixture(autouse=True)
def own_progress(tmp_path, monkeypatch):
    """The learner's progress is not ours to write."""
    monkeypatch.setenv("FLOW360_PROGRESS", str(tmp_path / "progress.json"))
    settings.cache_clear()
    yield
    settings.cache_clear()


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("chapter", "answer"), cases())
def test_answer(chapter: Chapter, answer: Answer, started: set[str]) -> None:
    if chapter.number not in started:
        lesson.start(chapter.stem)
        started.add(chapter.number)
    check = getattr(checks.load(chapter), answer.exercise)
    reset(chapter.number, answer.exercise)
    arguments = answer.arguments()
    if answer.kind == "right":
        check(*arguments)
        return
    with pytest.raises(NotYet) as verdict:
        check(*arguments)
    assert answer.says.lower() in str(verdict.value).lower()
