"""course.toml and the files of exercises as dataclasses, and the README's table made from them."""

from __future__ import annotations

from pathlib import Path

import pytest

from flow360.course.registry import Exercise, course
from flow360.errors import FlowError
from flow360.settings import ROOT
from flow360.stack.model import read_compose


def write(folder: Path, text: str, exercises: str | None = None) -> Path:
    (folder / "solutions").mkdir()
    (folder / "solutions" / "01_a.toml").write_text(EXERCISE if exercises is None else exercises, "utf-8")
    path = folder / "course.toml"
    path.write_text(text, "utf-8")
    return path


CHAPTER = """
[[chapter]]
stem = "{stem}"
title = "T"
layer = "1"
minutes = 30
services = ["kafka"]
{more}
"""
ONE = CHAPTER.format(stem="01_a", more="")
EXERCISE = '[[exercise]]\nname = "e"\ntitle = "E"\nhints = ["h"]\n'


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


def test_a_chapter_has_the_exercises_of_its_own_file(tmp_path: Path) -> None:
    (chapter,) = course(write(tmp_path, ONE)).chapters
    assert chapter.exercises == (Exercise("e", "E", ("h",)),)
    assert (chapter.written, chapter.previous) == (True, None)


def test_a_chapter_in_preparation_needs_no_exercises(tmp_path: Path) -> None:
    path = write(tmp_path, CHAPTER.format(stem="02_b", more="written = false"))
    assert course(path).chapters[0].exercises == ()


def test_each_file_of_exercises_belongs_to_a_chapter() -> None:
    assert {path.stem for path in (ROOT / "solutions").glob("*.toml")} == {c.stem for c in course().chapters}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (ONE * 2, "course.toml: chapter 01_a stands there twice"),
        (ONE + 'previous = "00_b"', "chapter 01_a: previous: '00_b' is not before it"),
        (ONE.replace("minutes = 30", ""), "chapter 01_a: minutes is missing"),
        (ONE.replace("01_a", "01_b"), "solutions/01_b.toml is missing"),
        ("[[chapter]\n", "course.toml: "),
        ("", "course.toml: it holds nothing"),
        ("[[chapters]]\n", r"it holds chapters: it must be \[\[chapter\]\] tables"),
        ("[chapter]\n", "it holds chapter: it must be"),
        (ONE + "writen = false", "course.toml: chapter 01_a: writen is not one of its keys"),
        (ONE + 'exercises = ["e"]', "chapter 01_a: exercises: "),
        (ONE + '[[chapter.exercise]]\nname = "e"', "chapter 01_a: exercise is not one of its keys"),
        (ONE + 'written = "no"', "chapter 01_a: written: .*boolean.*'no'"),
        (ONE + "written = 0", "chapter 01_a: written: .*boolean"),
        (ONE.replace("30", '"30"'), "chapter 01_a: minutes: .*integer.*'30'"),
        (ONE.replace("30", "30.5"), "chapter 01_a: minutes: .*integer"),
        (ONE.replace('"1"', "1"), "chapter 01_a: layer: .*string"),
        (ONE.replace('["kafka"]', '"kafka"'), "chapter 01_a: services: "),
        (ONE.replace('"kafka"', "1"), "chapter 01_a: services.0: .*string"),
        (ONE.replace('"01_a"', "1"), "chapter 1: stem: .*string"),
    ],
)
def test_a_wrong_registry_is_one_line(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(FlowError, match=says) as error:
        course(write(tmp_path, text))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (EXERCISE * 2, "solutions/01_a.toml: exercise e stands there twice"),
        (EXERCISE.replace("hints", "hint"), "exercise e: hint is not one of its keys|hints is missing"),
        (EXERCISE + "points = 3", "solutions/01_a.toml: exercise e: points is not one of its keys"),
        (EXERCISE.replace('["h"]', '"h"'), "solutions/01_a.toml: exercise e: hints: "),
        (EXERCISE.replace('title = "E"', ""), "exercise e: title is missing"),
        ("", "01_a.toml: it holds nothing"),
        (EXERCISE.replace('"E"', '"E'), "01_a.toml: "),
    ],
)
def test_wrong_exercises_are_one_line(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(FlowError, match=says) as error:
        course(write(tmp_path, ONE, text))
    assert "\n" not in str(error.value)


def test_a_missing_registry_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(FlowError, match="missing"):
        course(tmp_path / "course.toml")
