"""The registry of the course as dataclasses.

`course.toml` holds the chapters, `solutions/STEM.toml` a lab's exercises. An unknown key and a value of the wrong type
are refused by file, chapter or exercise, and key.
"""

from __future__ import annotations

import difflib
import tomllib
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import ConfigDict, Field, ValidationError
from pydantic.dataclasses import dataclass

from flow360.errors import Exit, FlowError
from flow360.settings import ROOT

REGISTRY = ROOT / "course.toml"
_CONFIG = ConfigDict(extra="forbid", strict=True)
_Texts = Annotated[tuple[str, ...], Field(strict=False)]  # TOML knows lists; what is in one stays strict


@dataclass(frozen=True, config=_CONFIG)
class Exercise:
    """One exercise of a lab: `name` is the check's name, `hints` go from a nudge to nearly the answer."""

    name: str
    title: str
    hints: _Texts


@dataclass(frozen=True, config=_CONFIG)
class Chapter:
    """One chapter: three notebooks of the same stem and a module of checks."""

    stem: str
    title: str
    layer: str
    minutes: int
    services: _Texts
    previous: str | None = None
    exercises: tuple[Exercise, ...] = ()
    written: bool = True  # False while its notebooks are in preparation

    @property
    def number(self) -> str:
        """`00`, `04a`: what stands before the first underscore."""
        return self.stem.partition("_")[0]

    @property
    def lesson(self) -> str:
        return f"notebooks/{self.stem}.ipynb"

    @property
    def solution(self) -> str:
        return f"solutions/{self.stem}.ipynb"

    @property
    def lab(self) -> str:
        return f"labs/{self.stem}.ipynb"

    @property
    def hints(self) -> str:
        """The file of its lab's exercises, in order, with their hints."""
        return f"solutions/{self.stem}.toml"

    @property
    def checks(self) -> str:
        """The module of its checks, `flow360.checks.c01_sources`."""
        return f"flow360.checks.c{self.stem}"

    def exercise(self, name: str) -> Exercise:
        """Find the exercise of that name.

        Raises:
            FlowError: the lab has no such exercise.
        """
        for exercise in self.exercises:
            if exercise.name == name:
                return exercise
        known = ", ".join(e.name for e in self.exercises)
        raise FlowError(f"{self.hints} has no exercise {name!r} (it has: {known})", Exit.USAGE)


@dataclass(frozen=True, config=_CONFIG)
class Course:
    """All chapters, in the order in which they are read."""

    chapters: tuple[Chapter, ...]

    def find(self, name: str) -> Chapter | None:
        """Find the chapter of that stem, number or notebook path, in capital letters too; None when there is none."""
        wanted = Path(str(name)).stem.lower()
        for chapter in self.chapters:
            if wanted in (chapter.stem, chapter.number, chapter.number.lstrip("0") or "0"):
                return chapter
        return None

    def chapter(self, name: str) -> Chapter:
        """Find a chapter by stem (`01_sources`), number (`01`, `1`) or notebook path.

        Raises:
            FlowError: no such chapter; the message names the nearest one.
        """
        if found := self.find(name):
            return found
        stems = [c.stem for c in self.chapters]
        near = difflib.get_close_matches(Path(str(name)).stem.lower(), stems, n=1, cutoff=0.4)
        tip = f"did you mean {near[0]}?" if near else "there are: " + ", ".join(stems)
        raise FlowError(f"there is no chapter {name!r}: {tip}", Exit.USAGE)

    def after(self, chapter: Chapter) -> Chapter | None:
        """Return the next chapter that is written; None after the last one."""
        stems = [one.stem for one in self.chapters]
        later = self.chapters[stems.index(chapter.stem) + 1 :] if chapter.stem in stems else ()
        return next((one for one in later if one.written), None)


def course(path: Path | None = None) -> Course:
    """Read the course from `course.toml` (or the file at `path`) and the files of exercises, once a process.

    Raises:
        FlowError: a file is missing, or one of its keys or values is wrong.
    """
    return _read(path or REGISTRY)


@cache
def _read(path: Path) -> Course:
    chapters: list[Chapter] = []
    for entry in _tables(path, "chapter"):
        chapter = _made(Chapter, entry, f"{path.name}: chapter {entry.get('stem', '?')}")
        before = [one.stem for one in chapters]
        if chapter.stem in before:
            raise FlowError(f"{path.name}: chapter {chapter.stem} stands there twice")
        if chapter.previous not in (None, *before):
            raise FlowError(f"{path.name}: chapter {chapter.stem}: previous: {chapter.previous!r} is not before it")
        file = path.parent / chapter.hints
        exercises = _exercises(file) if chapter.written or file.exists() else ()
        chapters.append(replace(chapter, exercises=exercises))
    return Course(tuple(chapters))


def _exercises(path: Path) -> tuple[Exercise, ...]:
    where, found = f"{path.parent.name}/{path.name}", []
    for entry in _tables(path, "exercise"):
        exercise = _made(Exercise, entry, f"{where}: exercise {entry.get('name', '?')}")
        if exercise.name in [one.name for one in found]:
            raise FlowError(f"{where}: exercise {exercise.name} stands there twice")
        found.append(exercise)
    return tuple(found)


def _tables(path: Path, name: str) -> list[dict[str, Any]]:
    """Read the tables `[[name]]` of a TOML file, which may hold nothing else."""
    try:
        document = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise FlowError(f"{path} is missing: is this a complete checkout?") from None
    except ValueError as error:  # not TOML, or not UTF-8
        raise FlowError(f"{path.name}: {error}") from None
    tables = document.get(name)
    if set(document) != {name} or not isinstance(tables, list) or not all(isinstance(one, dict) for one in tables):
        raise FlowError(f"{path.name}: it holds {', '.join(document) or 'nothing'}: it must be [[{name}]] tables alone")
    return tables


def _made(kind: type, entry: dict[str, Any], where: str) -> Any:
    """Make a dataclass out of a table.

    Raises:
        FlowError: a key is unknown or missing, or its value has the wrong type.
    """
    try:
        return kind(**entry)
    except ValidationError as error:
        first = error.errors()[0]
    key = ".".join(map(str, first["loc"]))
    if first["type"] == "unexpected_keyword_argument":
        raise FlowError(f"{where}: {key} is not one of its keys")
    if first["type"].startswith("missing"):
        raise FlowError(f"{where}: {key} is missing")
    raise FlowError(f"{where}: {key}: {first['msg']} (found {first['input']!r})")
