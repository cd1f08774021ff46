"""course.toml as dataclasses, and the README's table made from it."""

from __future__ import annotations

from pathlib import Path

import pytest

from flow360.course.registry import END, START, Chapter, Course, Exercise, chapter_table, course, render_readme
from flow360.errors import FlowError
from flow360.stack.model import read_compose


def write(folder: Path, text: str) -> Path:
    path = folder / "course.toml"
    path.write_text(text, "utf-8")
    return path


CHAPTER = """
[[chapter]]
stem = "{stem}"
title = "T"
layer = 1
minutes = 30
services = ["kafka"]
{more}
"""


def test_the_registry_is_read_in_order() -> None:
    stems = [c.stem for c in course().chapters]
    assert stems[:3] == ["00_welcome", "01_sources", "02_ingestion"]
    assert stems == sorted(stems)


def test_every_service_is_one_of_the_stack() -> None:
    known = set(read_compose()["services"])
    for chapter in course().chapters:
        assert set(chapter.services) <= known, chapter.stem


@pytest.mark.parametrize("name", ["01_sources", "01", "1", "labs/01_sources.ipynb", "01_Sources"])
def test_a_chapter_has_several_names(name: str) -> None:
    chapter = course().chapter(name)
    assert chapter.stem == "01_sources"
    assert chapter.checks == "flow360.checks.c01_sources"


def test_zero_is_a_number() -> None:
    assert course().chapter("0").stem == "00_welcome"


def test_an_unknown_chapter_names_the_nearest() -> None:
    with pytest.raises(FlowError, match="did you mean 01_sources"):
        course().chapter("01_source")


def test_an_unknown_exercise_names_the_known() -> None:
    with pytest.raises(FlowError, match="paged_client"):
        course().chapter("01").exercise("nothing")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (CHAPTER.format(stem="01_a", more="") * 2, "twice"),
        (CHAPTER.format(stem="01_a", more='previous = "00_b"'), "no chapter before it"),
        (CHAPTER.format(stem="01_a", more="").replace("minutes = 30", ""), "minutes is missing"),
        ("[[chapter]\n", "course.toml"),
        (
            CHAPTER.format(stem="01_a", more="") + '[[chapter.exercise]]\nname="e"\ntitle="E"\nhints=["h"]\n' * 2,
            "e stands there twice",
        ),
    ],
)
def test_a_wrong_registry_is_one_line(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(FlowError, match=says) as error:
        course(write(tmp_path, text))
    assert "\n" not in str(error.value)


def test_a_missing_registry_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(FlowError, match="missing"):
        course(tmp_path / "course.toml")


SMALL = Course(
    (Chapter("04a_streams", "Streams", "4", 90, ("kafka",), None, (Exercise("a", "A", ("h",)),)),),
)


def test_the_table_links_lesson_and_lab() -> None:
    row = chapter_table(SMALL).splitlines()[-1]
    assert row == (
        "| 04a | [Streams](notebooks/04a_streams.ipynb) | 4 | `kafka` | 90 | [1 exercises](labs/04a_streams.ipynb) |"
    ).replace("1 exercises", "1 exercise")


def test_the_readme_keeps_everything_else() -> None:
    text = f"before\n{START}\nold\n{END}\nafter\n"
    once = render_readme(text, SMALL)
    assert once.startswith(f"before\n{START}\n|")
    assert once.endswith(f"|\n{END}\nafter\n")
    assert render_readme(once, SMALL) == once


@pytest.mark.parametrize("text", ["none", f"{END}{START}", f"{START}{START}{END}"])
def test_a_readme_without_its_marks_is_refused(text: str) -> None:
    with pytest.raises(FlowError, match="README.md"):
        render_readme(text, SMALL)
