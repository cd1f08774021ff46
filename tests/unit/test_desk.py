"""The learner's copies: renewed where nobody has written, and never overwritten where somebody has."""

from __future__ import annotations

import json
from pathlib import Path

import nbformat
import pytest

from flow360.course.desk import lay_out
from flow360.course.labs import build
from flow360.course.notebooks import dumps
from flow360.settings import ROOT


def notebook(*sources: str) -> bytes:
    cells = [nbformat.v4.new_code_cell(source, id=f"cell-{number}") for number, source in enumerate(sources)]
    return dumps(nbformat.v4.new_notebook(cells=cells))


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for folder, name in (("notebooks", "00_a"), ("notebooks", "01_b"), ("labs", "00_a")):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / f"{name}.ipynb").write_bytes(notebook("first"))
    assert lay_out(tmp_path) == []
    return tmp_path


def change(path: Path, source: str | None = None, output: str = "") -> bytes:
    """As a front end saves: other bytes, and another source or output of the first cell."""
    found = nbformat.read(path, as_version=4)
    found.cells[0].source = source or found.cells[0].source
    found.cells[0].outputs = [nbformat.v4.new_output("stream", text=output)] if output else []
    found.metadata["language_info"] = {"name": "python", "version": "3.11.2"}
    path.write_text(json.dumps(found), "utf-8")
    return path.read_bytes()


def test_copies_are_laid_out_whole(checkout: Path) -> None:
    for folder in ("notebooks", "labs"):
        copies = {path.name: path.read_bytes() for path in (checkout / "work" / folder).iterdir()}
        assert copies == {path.name: path.read_bytes() for path in (checkout / folder).iterdir()}


def test_a_copy_that_was_only_run_is_renewed(checkout: Path) -> None:
    copy = checkout / "work" / "notebooks" / "00_a.ipynb"
    ran = change(copy, output="42")
    assert lay_out(checkout) == []
    assert copy.read_bytes() == ran, "there is nothing newer: what was run stays"
    (checkout / "notebooks" / "00_a.ipynb").write_bytes(notebook("second"))
    assert lay_out(checkout) == []
    assert copy.read_bytes() == notebook("second")


def test_an_answer_is_never_overwritten(checkout: Path) -> None:
    copy = checkout / "work" / "labs" / "00_a.ipynb"
    answered = change(copy, source="my answer")
    assert lay_out(checkout) == [], "nothing newer, nothing to say"
    (checkout / "labs" / "00_a.ipynb").write_bytes(notebook("second"))
    (left,) = lay_out(checkout)
    assert left.startswith("work/labs/00_a.ipynb holds your work and stays")
    assert copy.read_bytes() == answered
    copy.rename(copy.with_name("mine.ipynb"))
    assert lay_out(checkout) == []
    assert copy.read_bytes() == notebook("second")
    assert copy.with_name("mine.ipynb").read_bytes() == answered


@pytest.mark.parametrize("laid", ["", "{", "[]", '{"labs/00_a.ipynb": 1}', None])
def test_without_its_record_no_copy_is_replaced(checkout: Path, laid: str | None) -> None:
    record, copy = checkout / "work" / ".laid.json", checkout / "work" / "labs" / "00_a.ipynb"
    record.unlink() if laid is None else record.write_text(laid, "utf-8")
    (checkout / "labs" / "00_a.ipynb").write_bytes(notebook("second"))
    assert "work/labs/00_a.ipynb holds your work" in " ".join(lay_out(checkout))
    assert copy.read_bytes() == notebook("first")


def test_a_lost_record_is_made_again_from_copies_that_nobody_changed(checkout: Path) -> None:
    (checkout / "work" / ".laid.json").unlink()
    change(checkout / "work" / "notebooks" / "00_a.ipynb", output="ran")
    assert lay_out(checkout) == []
    (checkout / "labs" / "00_a.ipynb").write_bytes(notebook("second"))
    assert lay_out(checkout) == []
    assert (checkout / "work" / "labs" / "00_a.ipynb").read_bytes() == notebook("second")


def test_a_copy_that_is_no_notebook_any_more_stays(checkout: Path) -> None:
    copy = checkout / "work" / "labs" / "00_a.ipynb"
    copy.write_text("half a note", "utf-8")
    (checkout / "labs" / "00_a.ipynb").write_bytes(notebook("second"))
    assert len(lay_out(checkout)) == 1
    assert copy.read_text("utf-8") == "half a note"


def test_an_original_with_a_conflict_is_named_with_its_cure(checkout: Path) -> None:
    (checkout / "labs" / "00_a.ipynb").write_text("<<<<<<< HEAD\n{}\n", "utf-8")
    (line,) = lay_out(checkout)
    assert line.endswith("git checkout labs/00_a.ipynb") and "conflict" in line


def test_a_lab_that_was_answered_in_labs_itself_is_taken_over_as_written_in(tmp_path: Path) -> None:
    (tmp_path / "labs").mkdir()
    lab = build(nbformat.reads(notebook("answer = 1  # SOLUTION").decode(), as_version=4))
    (tmp_path / "labs" / "00_a.ipynb").write_bytes(dumps(lab))
    answered = change(tmp_path / "labs" / "00_a.ipynb", source="answer = 2")
    lay_out(tmp_path)
    lab.cells[0].source = "answer = ... # newer"
    (tmp_path / "labs" / "00_a.ipynb").write_bytes(dumps(lab))
    assert len(lay_out(tmp_path)) == 1
    assert (tmp_path / "work" / "labs" / "00_a.ipynb").read_bytes() == answered


def test_git_knows_nothing_of_them() -> None:
    assert "work/" in (ROOT / ".gitignore").read_text("utf-8").splitlines()
