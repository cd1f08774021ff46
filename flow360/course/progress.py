"""The learner's own record of exercises: a small JSON file that is replaced whole, never half-written."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flow360.course.desk import own
from flow360.course.registry import Chapter, Course, course
from flow360.errors import FlowError
from flow360.files import locked, write
from flow360.settings import settings

if TYPE_CHECKING:
    from rich.table import Table

VERSION = 1


def load(path: Path | None = None) -> dict[str, dict[str, Any]]:
    """Read the record: `{"01_sources/paged_client": {chapter, exercise, attempts, first_passed}}`; {} without a file.

    An entry has `help`, too, when a hint or the solution was shown.

    Raises:
        FlowError: the file is not a progress record (the next `record` keeps it aside and begins a new one).
    """
    path = path or settings().progress_file
    try:
        document = json.loads(path.read_text("utf-8"))
        entries = document["exercises"]
        if document["version"] != VERSION or not all(_is_entry(entry) for entry in entries.values()):
            raise ValueError
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise FlowError(f"{path} cannot be read as a progress record: repair it, or move it away") from None
    except OSError as error:
        raise FlowError(f"{path}: {error.strerror}") from None
    return entries


def _is_entry(entry: Any) -> bool:
    texts = (entry["chapter"], entry["exercise"], entry["first_passed"] or "", entry.get("help", ""))
    return all(isinstance(text, str) for text in texts) and isinstance(entry["attempts"], int)


def record(chapter: str, exercise: str, passed: bool, path: Path | None = None) -> str | None:
    """Count one attempt, and keep the moment of the first pass (UTC, ISO 8601).

    Args:
        chapter: the stem, e.g. "01_sources".
        exercise: its name.
        passed: whether the check said "correct".
        path: another file than the learner's own.

    Returns:
        None, or one line that tells the learner what was wrong with the file; a verdict never fails because of it.
    """

    def count(entry: dict[str, Any]) -> None:
        entry["attempts"] += 1
        if passed and entry["first_passed"] is None:
            entry["first_passed"] = datetime.now(UTC).isoformat(timespec="seconds")

    return _change(chapter, exercise, count, path)


def record_help(chapter: str, exercise: str, help: str, path: Path | None = None) -> str | None:
    """Keep how far the help went: `hint 2`, `solution`; a smaller one than before changes nothing.

    Returns:
        As `record`.
    """

    def keep(entry: dict[str, Any]) -> None:
        entry["help"] = max(entry.get("help", ""), help)  # "hint 1" < "hint 2" < "solution"

    return _change(chapter, exercise, keep, path)


def _change(chapter: str, exercise: str, change: Callable[[dict[str, Any]], None], path: Path | None) -> str | None:
    """Change an exercise's entry; the file is replaced whole."""
    path = path or settings().progress_file
    note = None
    try:
        with locked(path):  # two kernels may run checks at once
            try:
                entries = load(path)
            except FlowError:
                aside = _aside(path)
                path.replace(aside)
                entries = {}
                note = f"{path.name} could not be read: it is kept as {aside.name}, and a new one begins."
            fresh = {"chapter": chapter, "exercise": exercise, "attempts": 0, "first_passed": None}
            change(entries.setdefault(f"{chapter}/{exercise}", fresh))
            write(path, json.dumps({"version": VERSION, "exercises": entries}, indent=1, sort_keys=True) + "\n")
    except OSError as error:
        return (
            f"{path} was not written ({error.strerror}): your answer counts, but `flow360 progress` will not show it."
        )
    return note


def _aside(path: Path) -> Path:
    number = 1
    while (aside := path.with_name(f"{path.stem}.unreadable-{number}{path.suffix}")).exists():
        number += 1
    return aside


def passed_in(chapter: str, path: Path | None = None) -> int:
    """Count the exercises of a chapter that have been passed."""
    return sum(1 for e in load(path).values() if e["chapter"] == chapter and e["first_passed"])


def attempts(chapter: str, exercise: str, path: Path | None = None) -> int:
    """Count how often an exercise was tried."""
    return load(path).get(f"{chapter}/{exercise}", {}).get("attempts", 0)


def progress_rows(registry: Course | None = None, path: Path | None = None) -> list[dict[str, Any]]:
    """List the exercises in order, a row for each: chapter, title, exercise, attempts, first_passed (or None), help."""
    entries = load(path)
    rows = []
    for chapter in (registry or course()).chapters:
        for exercise in chapter.exercises:
            entry = entries.get(f"{chapter.stem}/{exercise.name}", {})
            rows.append(
                {
                    "chapter": chapter.stem,
                    "exercise": exercise.name,
                    "title": exercise.title,
                    "attempts": entry.get("attempts", 0),
                    "first_passed": entry.get("first_passed"),
                    "help": entry.get("help", ""),
                }
            )
    return rows


def progress_table(registry: Course | None = None, path: Path | None = None) -> Table:
    """Draw the rows as a rich table for the command line; its caption counts what is passed."""
    from rich.table import Table

    rows = progress_rows(registry, path)
    table = Table(title="Your progress")
    for name in ("Chapter", "Exercise", "State", "Attempts", "Help", "First passed (UTC)"):
        table.add_column(name, justify="right" if name == "Attempts" else "left")
    shown = None
    for row in rows:
        if shown not in (None, row["chapter"]):
            table.add_section()
        state = "passed" if row["first_passed"] else "tried" if row["attempts"] else "-"
        table.add_row(
            row["chapter"] if row["chapter"] != shown else "",
            row["title"],
            state,
            str(row["attempts"] or ""),
            row["help"],
            (row["first_passed"] or "")[:16].replace("T", " "),
        )
        shown = row["chapter"]
    table.caption = f"{sum(1 for r in rows if r['first_passed'])} of {len(rows)} exercises passed"
    return table


def lab_rows(registry: Course | None = None, path: Path | None = None) -> list[dict[str, Any]]:
    """List the labs in order, a row for each: chapter, title, lab (its file), exercises, passed, state, minutes_left.

    A chapter's minutes, the lesson's and the lab's together, are left in the part of its exercises that is.
    """
    rows = progress_rows(registry, path)
    found = []
    for chapter in (registry or course()).chapters:
        if chapter.written:
            mine = [row for row in rows if row["chapter"] == chapter.stem]
            passed = sum(1 for row in mine if row["first_passed"])
            begun = "begun" if any(row["attempts"] for row in mine) else "-"
            found.append(
                {
                    "chapter": chapter.number,
                    "title": chapter.title,
                    "lab": own(chapter.lab),
                    "exercises": len(mine),
                    "passed": passed,
                    "state": "done" if passed == len(mine) else begun,
                    "minutes_left": round(chapter.minutes * (1 - passed / max(len(mine), 1))),
                }
            )
    return found


def lab_table(registry: Course | None = None, path: Path | None = None) -> Table:
    """Draw the labs as a rich table for the command line."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("Lab", "Passed", "State", "Title"):
        table.add_column(name, no_wrap=name != "Title")
    for row in lab_rows(registry, path):
        table.add_row(row["lab"], f"{row['passed']} of {row['exercises']}", row["state"], row["title"])
    return table


@dataclass(frozen=True)
class Next:
    """The first exercise that has not been passed: `number` of the `of` in its chapter; `begun`: one was tried."""

    chapter: Chapter
    number: int
    of: int
    title: str
    begun: bool


def next_exercise(registry: Course | None = None, path: Path | None = None) -> Next | None:
    """Find where to go on; None when every exercise is passed."""
    course_ = registry or course()
    rows = [row for row in progress_rows(course_, path) if course_.chapter(row["chapter"]).written]
    row = next((one for one in rows if not one["first_passed"]), None)
    if row is None:
        return None
    mine = [one for one in rows if one["chapter"] == row["chapter"]]
    begun = any(one["attempts"] for one in mine)
    return Next(course_.chapter(row["chapter"]), mine.index(row) + 1, len(mine), row["title"], begun)


def next_line(registry: Course | None = None, path: Path | None = None) -> str:
    """Say where to go on: the first exercise that has not been passed, and what to open for it."""
    found = next_exercise(registry, path)
    if found is None:
        return f"All {sum(row['exercises'] for row in lab_rows(registry, path))} exercises are passed."
    chapter = found.chapter
    lesson = "" if found.begun else f"{own(chapter.lesson)} and "
    return (
        f"{chapter.number}, exercise {found.number} of {found.of}: {found.title}\n"
        f"flow360 up {chapter.number}, then {lesson}{own(chapter.lab)}"
    )


def watch(path: Path | None = None, seconds: float = 0.5) -> Iterator[str]:
    """Follow the record as checks are run, in whichever notebook.

    Args:
        path: another file than the learner's own.
        seconds: between two looks at it.

    Yields:
        Where to go on, and then, for each check that was run or helped, what became of its exercise; without end.
    """
    before = progress_rows(path=path)
    yield next_line(path=path)
    while True:
        time.sleep(seconds)
        rows = progress_rows(path=path)
        changed = [(old, row) for old, row in zip(before, rows, strict=True) if old != row]
        yield from (_changed(old, row) for old, row in changed)
        if any(row["first_passed"] and not old["first_passed"] for old, row in changed):
            yield next_line(path=path)
        before = rows


def _changed(old: dict[str, Any], row: dict[str, Any]) -> str:
    """Say what became of an exercise."""
    name = f"{row['chapter']}, {row['title']}"
    if row["attempts"] < old["attempts"]:
        return f"{name}: the record begins again"
    if row["attempts"] == old["attempts"]:
        return f"{name}: {row['help']}"
    times = "" if row["attempts"] == 1 else f", {row['attempts']} tries"
    if row["first_passed"]:
        return f"{name}: {'checked again' if old['first_passed'] else 'passed'}{times}"
    return f"{name}: not yet{times}"
