"""The report of a class: each exercise of each lab by what its check said, and nothing is run."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest

from flow360.checks import card
from flow360.course import report
from flow360.course.notebooks import dumps, read
from flow360.course.registry import course
from flow360.course.report import CHANGED, FAILED, NOT_ATTEMPTED, NOT_RUN, NOT_YET, PASSED
from flow360.errors import FlowError
from flow360.settings import ROOT
from tests.unit.test_cli import flow360_

CHAPTER = course().chapter("00")
NAMES = [exercise.name for exercise in CHAPTER.exercises]


def said(verdict: str, exercise: str, label: str = "") -> nbformat.NotebookNode:
    about = {"verdict": verdict, "exercise": exercise, "chapter": CHAPTER.stem, "message": "", "label": label}
    return nbformat.v4.new_output("display_data", {"text/plain": "", card.MIME: about})


def raised(name: str) -> nbformat.NotebookNode:
    return nbformat.v4.new_output("error", ename=name, evalue="", traceback=[])


def lab(change: Callable[[list[nbformat.NotebookNode]], None] = lambda checks: None, answer: str = "") -> bytes:
    """Lab 00 as somebody hands it in: `change` gets its check cells."""
    notebook = read(ROOT / CHAPTER.lab)
    checks = [cell for cell in notebook.cells if "check" in cell.metadata.get("tags", [])]
    change(checks)
    if answer:
        notebook.cells[notebook.cells.index(checks[0]) - 1].source = answer
    return dumps(notebook)


def hand_in(folder: Path, name: str, content: bytes) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def test_each_verdict_is_read(tmp_path: Path) -> None:
    def work(checks: list[nbformat.NotebookNode]) -> None:
        checks[0].outputs = [said("not yet", NAMES[0]), said("correct", NAMES[0])]
        checks[1].outputs = [said("not yet", NAMES[1]), raised("NotYet")]
        checks[2].outputs = [raised("NotAttempted")]
        checks[3].outputs = [raised("ServiceError")]

    hand_in(tmp_path, "ada/lab.ipynb", lab(work))
    found = {line.exercise: line.verdict for line in report.read_class(tmp_path).lines}
    assert found == dict(zip(NAMES, (PASSED, NOT_YET, NOT_ATTEMPTED, FAILED, NOT_RUN), strict=True))


def test_a_check_that_was_changed_or_removed_counts_for_nothing(tmp_path: Path) -> None:
    def forge(checks: list[nbformat.NotebookNode]) -> None:
        checks[0].source, checks[0].outputs = "print('Correct')", [said("correct", NAMES[0])]
        checks[1].outputs = [said("correct", NAMES[0])]  # what another exercise's check has said

    hand_in(tmp_path, "x.ipynb", lab(forge))
    found = report.read_class(tmp_path).lines
    assert [line.verdict for line in found[:2]] == [CHANGED, NOT_RUN]
    notebook = nbformat.reads(lab().decode(), as_version=4)
    notebook.cells = [cell for cell in notebook.cells if cell.id != "late-share-check"]
    hand_in(tmp_path, "x.ipynb", dumps(notebook))
    assert [line.verdict for line in report.read_class(tmp_path).lines][1] == CHANGED


def test_help_is_seen(tmp_path: Path) -> None:
    def ask(checks: list[nbformat.NotebookNode]) -> None:
        checks[0].outputs = [said("hint", NAMES[0], "Hint 1 of 3"), said("hint", NAMES[0], "Hint 2 of 3")]
        checks[1].outputs = [said("hint", NAMES[1], "Solution"), said("correct", NAMES[1])]

    hand_in(tmp_path, "x.ipynb", lab(ask))
    assert [line.help for line in report.read_class(tmp_path).lines] == ["Hint 2 of 3", "Solution", "", "", ""]


@pytest.mark.parametrize(
    ("name", "who"),
    [("ada/deep/er/x.ipynb", "ada"), ("00_welcome_bob.ipynb", "bob"), ("Carol 00_welcome.ipynb", "Carol")]
    + [("00_welcome.ipynb", "00_welcome")],
)
def test_any_name_and_place_will_do(tmp_path: Path, name: str, who: str) -> None:
    hand_in(tmp_path, name, lab())
    assert {(line.who, line.file, line.chapter) for line in report.read_class(tmp_path).lines} == {(who, name, "00")}


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "it is empty"),
        (b'{"cells": [', "cut off"),
        (b"\xff\xfe", "not UTF-8"),
        (b"{}", "not a"),
        (b'{"nbformat": 4, "nbformat_minor": 5, "metadata": {}}', "not that of one"),
        (b"[1, 2]", "not a notebook"),
        (dumps(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1 + 1")])), "not a lab of this course"),
    ],
)
def test_a_file_that_is_no_lab_is_a_line_and_the_others_are_read(tmp_path: Path, content: bytes, problem: str) -> None:
    hand_in(tmp_path, "a.ipynb", content)
    hand_in(tmp_path, "b.ipynb", lab())
    first, *others = report.read_class(tmp_path).lines
    assert problem in first.problem and len(others) == len(NAMES)
    assert report.read_class(tmp_path).alike == []


def test_one_odd_file_does_not_bring_down_the_table(tmp_path: Path) -> None:
    def odd(checks: list[nbformat.NotebookNode]) -> None:
        checks[0].outputs = [said("hint", NAMES[0]), said("correct", NAMES[0])]
        checks[0].outputs[0].data[card.MIME] |= {"exercise": [], "label": 5}
        checks[1].outputs = [said("hint", NAMES[1], 7)]

    notebook = nbformat.reads(lab(odd).decode(), as_version=4)
    notebook.metadata["flow360"] = ["no dict"]
    hand_in(tmp_path, "Ann [draft] [b].ipynb", dumps(notebook))
    shown = flow360_("report", str(tmp_path), "--csv", str(tmp_path / "x.csv"))
    assert shown.exit_code == 0 and "Ann [draft] [b]" in shown.stdout
    assert [line.help for line in report.read_class(tmp_path).lines][:2] == ["", "7"]


def test_a_place_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    hand_in(tmp_path, "x.ipynb", lab())
    refused = flow360_("report", str(tmp_path), "--csv", str(tmp_path / "none" / "x.csv"))
    assert "name another place" in refused.stderr and "Traceback" not in refused.output


def test_labs_that_are_the_same_but_for_white_space_are_named(tmp_path: Path) -> None:
    for name, answer in (("a", "busiest = 7"), ("b", "busiest  =  7\n"), ("c", "busiest = 8"), ("d", ""), ("e", "")):
        hand_in(tmp_path, f"{name}/lab.ipynb", lab(answer=answer))
    assert report.read_class(tmp_path).alike == [["a/lab.ipynb", "b/lab.ipynb"]], "two that are empty are not copied"


def test_tables_for_a_spreadsheet_and_a_browser_hold_no_formula_and_no_script(tmp_path: Path) -> None:
    hand_in(tmp_path, "=cmd()/<script>.ipynb", lab())
    lines = report.read_class(tmp_path).lines
    rows = list(csv.DictReader(io.StringIO(report.as_csv(lines))))
    assert [row["exercise"] for row in rows] == NAMES
    assert {row["who"] for row in rows} == {"'=cmd()"}
    page = report.as_html(report.Report(lines, [["<b>", "c"]]))
    assert "<script" not in page and "&lt;b&gt;, c" in page


def test_the_command_writes_all_forms(tmp_path: Path) -> None:
    hand_in(
        tmp_path / "class", "ada/lab.ipynb", lab(lambda checks: checks[0].update(outputs=[said("correct", NAMES[0])]))
    )
    shown = flow360_(
        "report", str(tmp_path / "class"), "--csv", str(tmp_path / "a.csv"), "--html", str(tmp_path / "a.html")
    )
    assert shown.exit_code == 0
    assert "1 of 5" in shown.stdout and "✓" in shown.stdout
    assert (tmp_path / "a.csv").read_text("utf-8").count("\n") == 6
    assert "ada" in (tmp_path / "a.html").read_text("utf-8")
    found = json.loads(flow360_("report", "--json", str(tmp_path / "class")).stdout)
    assert [one["verdict"] for one in found["labs"]] == [PASSED, *[NOT_RUN] * 4]


def test_a_folder_without_a_notebook_is_one_line(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(FlowError):
            report.read_class(folder)
