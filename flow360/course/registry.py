"""The registry of the course: `course.toml` as dataclasses, and the chapter table of the README made from it."""

from __future__ import annotations

import difflib
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from flow360.errors import Exit, FlowError
from flow360.settings import ROOT

REGISTRY = ROOT / "course.toml"
START, END = "<!-- chapters:start -->", "<!-- chapters:end -->"


@dataclass(frozen=True)
class Exercise:
    """One exercise of a lab: `name` is the check's name, `hints` go from a nudge to nearly the answer."""

    name: str
    title: str
    hints: tuple[str, ...]


@dataclass(frozen=True)
class Chapter:
    """One chapter: three notebooks of the same stem and a module of checks."""

    stem: str
    title: str
    layer: str
    minutes: int
    services: tuple[str, ...]
    previous: str | None
    exercises: tuple[Exercise, ...]
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
    def checks(self) -> str:
        """The module of its checks, `flow360.checks.c01_sources`."""
        return f"flow360.checks.c{self.stem}"

    def exercise(self, name: str) -> Exercise:
        """The exercise of that name; FlowError when the registry has none."""
        for exercise in self.exercises:
            if exercise.name == name:
                return exercise
        known = ", ".join(e.name for e in self.exercises)
        raise FlowError(f"course.toml: {self.stem} has no exercise {name!r} (it has: {known})", Exit.USAGE)


@dataclass(frozen=True)
class Course:
    """All chapters, in the order in which they are read."""

    chapters: tuple[Chapter, ...]

    def chapter(self, name: str) -> Chapter:
        """A chapter by stem (`01_sources`), number (`01`, `1`) or notebook path.

        Raises:
            FlowError: no such chapter; the message names the nearest one.
        """
        wanted = Path(str(name)).stem.lower()
        for chapter in self.chapters:
            if wanted in (chapter.stem, chapter.number, chapter.number.lstrip("0") or "0"):
                return chapter
        stems = [c.stem for c in self.chapters]
        near = difflib.get_close_matches(wanted, stems, n=1, cutoff=0.4)
        tip = f"did you mean {near[0]}?" if near else "there are: " + ", ".join(stems)
        raise FlowError(f"there is no chapter {name!r}: {tip}", Exit.USAGE)


def course(path: Path | None = None) -> Course:
    """The course as `course.toml` (or the file at `path`) describes it; read once a process."""
    return _read(path or REGISTRY)


@cache
def _read(path: Path) -> Course:
    try:
        document = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise FlowError(f"{path} is missing: is this a complete checkout?") from None
    except tomllib.TOMLDecodeError as error:
        raise FlowError(f"{path.name}: {error}") from None
    chapters = tuple(_chapter(entry, path.name) for entry in document.get("chapter", []))
    stems = [chapter.stem for chapter in chapters]
    for chapter in chapters:
        if stems.count(chapter.stem) > 1:
            raise FlowError(f"{path.name}: chapter {chapter.stem} stands there twice")
        if chapter.previous and chapter.previous not in stems[: stems.index(chapter.stem)]:
            raise FlowError(f"{path.name}: {chapter.stem}: previous = {chapter.previous!r} is no chapter before it")
    return Course(chapters)


def _chapter(entry: dict[str, Any], file: str) -> Chapter:
    stem = entry.get("stem", "?")
    try:
        exercises = tuple(Exercise(e["name"], e["title"], tuple(e["hints"])) for e in entry.get("exercise", []))
        chapter = Chapter(
            stem=entry["stem"],
            title=entry["title"],
            layer=str(entry["layer"]),
            minutes=int(entry["minutes"]),
            services=tuple(entry["services"]),
            previous=entry.get("previous"),
            exercises=exercises,
            written=bool(entry.get("written", True)),
        )
    except KeyError as error:
        raise FlowError(f"{file}: chapter {stem}: {error.args[0]} is missing") from None
    names = [e.name for e in exercises]
    if twice := {name for name in names if names.count(name) > 1}:
        raise FlowError(f"{file}: chapter {stem}: exercise {min(twice)} stands there twice")
    return chapter


def chapter_table(registry: Course | None = None) -> str:
    """The chapters as a Markdown table: links to lesson and lab, layer, services, minutes, exercises."""
    rows = [
        "| | Lesson | Layer | What it starts | Minutes | Lab |",
        "|---|---|---|---|---:|---|",
    ]
    for chapter in (registry or course()).chapters:
        services = ", ".join(f"`{name}`" for name in chapter.services)
        count = len(chapter.exercises)
        lab = f"[{count} exercise{'s' * (count != 1)}]({chapter.lab})" if chapter.written else "in preparation"
        title = f"[{chapter.title}]({chapter.lesson})" if chapter.written else chapter.title
        rows.append(f"| {chapter.number} | {title} | {chapter.layer} | {services} | {chapter.minutes} | {lab} |")
    return "\n".join(rows)


def render_readme(text: str, registry: Course | None = None) -> str:
    """`text` with the region between the two `chapters` marks replaced by the current table.

    Raises:
        FlowError: a mark is missing, doubled, or the end stands before the start.
    """
    if text.count(START) != 1 or text.count(END) != 1 or text.index(START) > text.index(END):
        raise FlowError(f"README.md: it needs one {START} and, after it, one {END}")
    head, _, rest = text.partition(START)
    _, _, tail = rest.partition(END)
    return f"{head}{START}\n{chapter_table(registry)}\n{END}{tail}"
