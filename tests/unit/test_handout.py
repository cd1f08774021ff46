"""The folder for a class: nothing in it answers an exercise, and renewing it takes nobody's work."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from nbformat.v4 import new_output

from flow360.course import handout
from flow360.course.handout import RECORD, File, contents, handed_out, lay
from flow360.course.notebooks import dumps, read
from flow360.course.registry import course
from flow360.errors import FlowError
from flow360.settings import ROOT


def files(**texts: str) -> dict[str, File]:
    return {name.replace("__", "/"): File(text.encode()) for name, text in texts.items()}


def found(folder: Path) -> dict[str, str]:
    paths = (path for path in folder.rglob("*") if path.is_file() and path.name != RECORD)
    return {path.relative_to(folder).as_posix(): path.read_text() for path in paths}


# --- what is in it


@pytest.fixture(scope="module")
def whole() -> dict[str, File]:
    return contents(ROOT)


def test_nothing_in_it_answers_an_exercise(whole: dict[str, File]) -> None:
    assert not [name for name in whole if name.startswith(("tests/", "solutions/")) and not name.endswith(".toml")]
    answers = {
        line.strip()
        for chapter in course().chapters
        if chapter.written
        for cell in read(ROOT / chapter.solution).cells
        if cell.cell_type == "code"
        for line in cell.source.splitlines()
        if line.endswith("# SOLUTION")
    }
    assert len(answers) > 5
    for name, file in whole.items():
        if name.endswith((".ipynb", ".md", ".toml")):
            said = json.loads(file.content) if name.endswith(".ipynb") else {"text": file.content.decode()}
            assert not [one for one in answers if json.dumps(one)[1:-1] in json.dumps(said)], name


def test_it_holds_what_a_learner_needs(whole: dict[str, File]) -> None:
    for chapter in course().chapters:
        if chapter.written:
            assert {chapter.lesson, chapter.lab, chapter.hints} <= set(whole)
    assert {"course.toml", "compose.yaml", "requirements.lock", "scripts/up", "data/README.md", ".gitignore"} <= set(
        whole
    )
    assert whole["scripts/up"].program
    assert not whole["course.toml"].program


def test_its_readme_names_no_file_that_is_not_there(whole: dict[str, File]) -> None:
    text = whole["README.md"].content.decode()
    assert "whole:" not in text
    targets = {one.partition(")")[0].partition("#")[0] for one in text.split("](")[1:]}
    assert not [one for one in targets if "://" not in one and one not in whole], "a link that leads nowhere"
    for theirs in ("scripts/test", "tests/", "solved", "flow360 goto", "flow360 class new", "flow360 bench"):
        assert theirs not in text


def test_a_teacher_s_own_answers_in_the_originals_stay_there(tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", "--no-hardlinks", ROOT, clone], check=True, timeout=60)
    lab, lesson = clone / "labs/00_welcome.ipynb", clone / "notebooks/00_welcome.ipynb"
    for path in (lab, lesson):
        notebook = read(path)
        for cell in notebook.cells:
            if cell.cell_type == "code" and "keep_output" not in cell.metadata.get("tags", []):
                cell.outputs = [new_output("stream", text="secret-of-mine")]
        path.write_bytes(dumps(notebook))
    (clone / "marks.csv").write_text("Ann,3\n")
    made = contents(clone)
    assert made["labs/00_welcome.ipynb"].content == (ROOT / "labs/00_welcome.ipynb").read_bytes()
    assert b"secret-of-mine" not in made["notebooks/00_welcome.ipynb"].content
    assert "marks.csv" not in made, "what git does not track is the teacher's"


def test_what_is_not_a_clone_is_said(tmp_path: Path) -> None:
    (tmp_path / "solutions").mkdir()
    with pytest.raises(FlowError, match="take a clone"):
        contents(tmp_path)


# --- how it is renewed


def test_what_the_course_renews_is_renewed_and_what_somebody_wrote_stays(tmp_path: Path) -> None:
    folder = tmp_path / "a class"
    first = files(kept="1", renewed="1", answered="1", removed__deep="1", removed_answered="1")
    assert sorted(lay(first, folder).written) == sorted(first)
    (folder / "answered").write_text("mine")
    (folder / "removed_answered").write_text("mine")
    (folder / "work").mkdir()
    (folder / "work" / "lab").write_text("mine")
    second = files(kept="1", renewed="2", answered="2", new="2")
    laid = lay(second, folder)
    assert sorted(laid.written) == ["new", "removed/deep", "renewed"]
    assert [line.split()[0] for line in laid.left] == ["answered", "removed_answered"]
    assert found(folder) == {
        "kept": "1", "renewed": "2", "answered": "mine", "removed_answered": "mine", "new": "2", "work/lab": "mine",
    }  # fmt: skip
    assert not (folder / "removed").exists()
    again = lay(second, folder)
    assert again.written == []
    assert [line.split()[0] for line in again.left] == ["answered"], "until it is out of the way"
    (folder / "answered").rename(folder / "answered.mine")
    assert lay(second, folder).written == ["answered"]


def test_what_somebody_changed_and_the_course_did_not_is_not_worth_a_line(tmp_path: Path) -> None:
    lay(files(a="1", b="1"), tmp_path)
    (tmp_path / "a").write_text("mine")
    laid = lay(files(a="1", b="2"), tmp_path)
    assert (laid.written, laid.left) == (["b"], [])
    assert found(tmp_path)["a"] == "mine"


@pytest.mark.parametrize("after", range(4))
def test_a_renewal_that_was_cut_off_is_ended_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    lay(files(a="1", b="1"), tmp_path)
    writes, real = iter(range(100)), handout.write

    def cut(*arguments: object) -> bool:
        if next(writes) == after:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(handout, "write", cut)
    with pytest.raises(KeyboardInterrupt):
        lay(files(a="2", b="2"), tmp_path)
    monkeypatch.setattr(handout, "write", real)
    assert lay(files(a="3", b="3"), tmp_path).left == []
    assert found(tmp_path) == {"a": "3", "b": "3"}


def test_a_folder_of_somebody_s_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(FlowError, match="name another place"):
        lay(files(a="1"), tmp_path)
    assert found(tmp_path) == {"thesis.tex": "mine"}


def test_a_learner_renews_from_a_newer_folder_and_not_from_a_neighbour_s(tmp_path: Path) -> None:
    mine, newer = tmp_path / "mine", tmp_path / "newer"
    lay(files(lab="1", tool="1"), mine)
    lay(files(lab="2", tool="2"), newer)
    (mine / "tool").write_text("mine")
    assert lay(handed_out(newer), mine).written == ["lab"]
    assert found(mine) == {"lab": "2", "tool": "mine"}
    (newer / "lab").write_text("a neighbour's answer")
    with pytest.raises(FlowError, match="was changed: renew from a folder as it was handed out"):
        handed_out(newer)
    with pytest.raises(FlowError, match="was not handed out"):
        handed_out(tmp_path)


@pytest.mark.parametrize(("record", "said"), [("{", "cannot be read"), ('{"../x": ["1"]}', "not below the folder")])
def test_a_record_that_is_none_is_a_line(tmp_path: Path, record: str, said: str) -> None:
    (tmp_path / RECORD).write_text(record)
    with pytest.raises(FlowError, match=said):
        lay(files(a="1"), tmp_path)
    assert found(tmp_path) == {}


# --- as a person types it


def test_a_class_s_folder_by_the_command_line(tmp_path: Path) -> None:
    folder = tmp_path / "for a class"

    def flow360(*words: str, at: Path = ROOT) -> tuple[int, str, str]:
        done = subprocess.run(
            [sys.executable, "-m", "flow360.cli", *words], cwd=at, capture_output=True, text=True, timeout=120
        )
        return done.returncode, done.stdout, done.stderr

    code, said, _ = flow360("class", "new", str(folder))
    assert (code, "files written" in said) == (0, True)
    assert "nothing to renew" in flow360("class", "new", str(folder))[1]
    assert flow360("class", "update", str(folder))[2].startswith("flow360: this is the whole course")
    before = found(folder / "labs")
    refused = "generate", "mutants 00", "goto 01", "run 00 --kind solutions"
    for command in map(str.split, refused):
        code, _, said = flow360(*command, at=folder)
        assert (code, said.count("\n")) == (2, 1), command
        assert "handed out without" in said
    assert found(folder / "labs") == before
    assert flow360("class", "new", str(tmp_path / "another"), at=folder)[0] == 0
    assert handed_out(tmp_path / "another") == handed_out(folder)
    lesson = folder / "notebooks/00_welcome.ipynb"
    lesson.write_text("mine")
    assert "was changed" in flow360("class", "new", str(tmp_path / "x"), at=folder)[2]
    newer = tmp_path / "newer"
    flow360("class", "new", str(newer))
    code, said, _ = flow360("class", "update", str(newer), at=folder)
    assert (code, "nothing to renew" in said, lesson.read_text()) == (0, True, "mine")


def test_the_page_for_teachers_puts_each_chapter_into_its_plans() -> None:
    text = (ROOT / "solutions/README.md").read_text("utf-8")
    for plan in ("## Five days", "## Eighteen evenings"):
        table = text[text.index(plan) :].partition("\n## ")[0]
        assert not [one.number for one in course().chapters if one.written and one.number not in table], plan
