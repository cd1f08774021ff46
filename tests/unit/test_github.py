"""GitHub's rules: the runs of a matrix, what a step is given, the key of a cache."""

from __future__ import annotations

import pytest

from flow360.checks import github
from flow360.checks.verdict import NotYet


@pytest.mark.parametrize(
    ("matrix", "runs"),
    [
        ({"python": ["3.9", 3.10]}, [{"python": "3.9"}, {"python": 3.1}]),
        ({"a": [1, 2], "b": [3], "exclude": [{"a": 2}]}, [{"a": 1, "b": 3}]),
        ({"include": [{"a": 1}, {"a": 2}]}, [{"a": 1}, {"a": 2}]),
        ({"a": [1], "include": [{"a": 1, "b": 2}, {"a": 3}]}, [{"a": 1, "b": 2}, {"a": 3}]),
        ({"a": [1, 2], "include": [{"b": 5}]}, [{"a": 1, "b": 5}, {"a": 2, "b": 5}]),
    ],
)
def test_the_runs_of_a_matrix(matrix: dict, runs: list) -> None:
    assert github.runs("workflow", matrix) == runs


def test_a_number_loses_its_zero() -> None:
    run = github.load("python: 3.10")
    assert github.given("workflow", "${{ matrix.python }}-${{ matrix['python'] }}", run) == "3.1-3.1"
    with pytest.raises(NotYet, match="not a value of the matrix"):
        github.given("workflow", "${{ matrix.version }}", run)


def test_on_is_a_word() -> None:
    assert github.load("on: push\nfail-fast: false") == {"on": "push", "fail-fast": False}


@pytest.mark.parametrize(
    ("key", "changes"),
    [
        ("${{ hashFiles('a.lock', 'b/c.lock') }}", {"a.lock", "b/c.lock"}),
        ("${{ hashFiles('*.lock') }}", {"a.lock"}),
        ("${{ hashFiles('**', '!**/*.md') }}", {"a.lock", "b/c.lock"}),
        ("${{ hashFiles('nothing') }}", set()),
    ],
)
def test_what_changes_a_key(key: str, changes: set) -> None:
    files = dict.fromkeys(("a.lock", "b/c.lock", "d.md"), "1")
    before = github.computed("key", key, "Linux", files)
    assert {path for path in files if github.computed("key", key, "Linux", {**files, path: "2"}) != before} == changes
    assert github.computed("key", key, "macOS", files) == before
