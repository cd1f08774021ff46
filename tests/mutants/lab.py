"""The exercises of a solved lab: what runs before each, which text is the answer, and its mutants."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import PurePath

from flow360.course import notebooks
from flow360.course.registry import Chapter
from flow360.settings import ROOT
from tests.mutants import python, sql, texts
from tests.mutants.edits import Edit, distinct

BEGIN, END, LINE = "# BEGIN SOLUTION", "# END SOLUTION", "# SOLUTION"


@dataclass(frozen=True)
class Cell:
    """A code cell: its id, its text, and whether it is (partly) the learner's answer."""

    id: str
    source: str
    answer: bool


@dataclass(frozen=True)
class Mutant:
    """A cell of the solved lab with one change in it."""

    cell: Cell
    edit: Edit

    @property
    def source(self) -> str:
        return self.edit.apply(self.cell.source)


@dataclass(frozen=True)
class Solved:
    """An exercise of a solved lab: what a learner has run who comes to it, its own cells in order, and its check."""

    name: str
    before: tuple[Cell, ...]
    cells: tuple[Cell, ...]
    check: Cell

    def mutants(self) -> list[Mutant]:
        """List all of them, in the order of the text."""
        return [
            Mutant(cell, edit)
            for cell in self.cells
            if cell.answer
            for edit in distinct(_within(cell.source, _found(cell.source)), cell.source)
        ]

    def variables(self) -> list[str]:
        """List what the check is called with."""
        calls = [node for node in ast.walk(ast.parse(self.check.source)) if isinstance(node, ast.Call)]
        (call,) = [call for call in calls if ast.unparse(call.func) == f"check.{self.name}"]
        return [inner.id for value in call.args for inner in ast.walk(value) if isinstance(inner, ast.Name)]


@cache
def exercises(chapter: Chapter) -> dict[str, Solved]:
    """Read the chapter's solved lab: each exercise by name. Cells that only try an answer are left out."""
    before, found, section = [], {}, []
    for cell in notebooks.read(ROOT / chapter.solution).cells:
        tags = cell.metadata.get("tags", [])
        this = Cell(cell.id, cell.source, LINE in cell.source or BEGIN in cell.source)
        if cell.cell_type != "code" or ("uses-answer" in tags and not this.answer):
            continue
        if not before or "parameters" in tags:
            before.append(this)
        elif "check" in tags:
            name = re.search(r"\bcheck\.(\w+)\(", cell.source)[1]
            found[name] = Solved(name, tuple(before), tuple(section), this)
            before, section = before + section, []
        else:
            section.append(this)
    return found


def _found(source: str) -> Iterator[Edit]:
    """Find the changes of a cell, in the language that it is written in."""
    first, _, rest = source.partition("\n")
    if not first.startswith("%%"):
        return python.mutations(source)
    path = PurePath(first.split()[-1])
    if path.suffix == ".py":
        find = python.mutations
    elif path.suffix == ".sql" or first.startswith("%%sql"):
        find = sql.mutations
    else:
        find = texts.BY_NAME.get(path.suffix) or texts.BY_NAME.get(path.name) or texts.lines
    return (edit.moved(len(first) + 1) for edit in find(rest))


def _within(source: str, edits: Iterator[Edit]) -> Iterator[Edit]:
    """Keep those that lie in what the learner writes: between the marks, or on a line with a mark of its own."""
    spans, begin, at = [], 0, 0
    for line in source.splitlines(keepends=True):
        if line.strip() == BEGIN:
            begin = at + len(line)
        elif line.strip() == END:
            spans.append((begin, at))
        elif line.rstrip().endswith(LINE):
            spans.append((at, at + line.index(LINE)))
        at += len(line)
    for edit in edits:
        if any(start <= edit.start and edit.end <= end for start, end in spans):
            yield edit
