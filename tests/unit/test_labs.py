"""The generator of labs: goldens, markers, and labs/ held to solutions/.

The golden pair stands in goldens/; `python -m tests.unit.test_labs` writes the lab of it again.
"""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest

from flow360.course import labs
from flow360.course.notebooks import dumps, read
from flow360.errors import FlowError
from flow360.settings import ROOT

GOLDENS = Path(__file__).parent / "goldens"


def golden() -> bytes:
    return dumps(labs.build(read(GOLDENS / "solution.ipynb"), "solutions/solution.ipynb"))


def notebook(*sources: str, **tags: list[str]) -> nbformat.NotebookNode:
    """A solved lab of code cells c0, c1 …; `c1=["check"]` tags one."""
    cells = [
        nbformat.v4.new_code_cell(source, id=f"c{n}", metadata={"tags": tags[f"c{n}"]} if f"c{n}" in tags else {})
        for n, source in enumerate(sources)
    ]
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# Lab", id="title"), *cells])


def holes(*sources: str, **tags: list[str]) -> list[str]:
    return [cell.source for cell in labs.build(notebook(*sources, **tags)).cells[1:]]


def test_golden() -> None:
    assert golden() == (GOLDENS / "lab.ipynb").read_bytes(), (
        "look at the difference, then: python -m tests.unit.test_labs"
    )


def test_the_golden_is_a_valid_notebook() -> None:
    nbformat.validate(read(GOLDENS / "lab.ipynb"))


def test_building_twice_gives_the_same_bytes_and_leaves_the_source() -> None:
    solution = read(GOLDENS / "solution.ipynb")
    before = dumps(solution)
    assert dumps(labs.build(solution)) == dumps(labs.build(solution))
    assert dumps(solution) == before


@pytest.mark.parametrize(
    ("line", "hole"),
    [
        ("answer = warehouse.sum()  # SOLUTION", "answer = ..."),
        ("x: int = 3  # SOLUTION", "x: int = ..."),
        ("x += f(a == b)  # SOLUTION", "..."),
        ('d["k"] = 1  # SOLUTION', 'd["k"] = ...'),
        ('a, b = f(c="=")  # SOLUTION', "a, b = ..."),
        ("größe = f('é=')  # SOLUTION", "größe = ..."),
        ("send(topic, key=van_id)  # SOLUTION", "..."),
        ("x == y  # SOLUTION", "..."),
        ("if a: x = 3  # SOLUTION", "if a: x = ..."),
        ("def f():\n    return g()  # SOLUTION", "def f():\n    return ..."),
        ("f(\n    1,\n    key=van == 1,  # SOLUTION\n)", "f(\n    1,\n    key=...,\n)"),
        ("d = [\n    one(1),  # SOLUTION\n]", "d = [\n    ...,\n]"),
        ("def f():\n    # BEGIN SOLUTION\n    a = 1\n    return a\n    # END SOLUTION", "def f():\n    ..."),
        ("# BEGIN SOLUTION\nprint(1)\n# END SOLUTION", "..."),
        ("f(\n    # BEGIN SOLUTION\n    1,\n    2,\n    # END SOLUTION\n)", "f(\n    ...\n)"),
        ("print('SOLUTION')", "print('SOLUTION')"),
        ("# a solution of salt\nx = 1", "# a solution of salt\nx = 1"),
        ("%%sql\nselect 1 -- solution", "%%sql\nselect 1 -- solution"),
    ],
)
def test_a_marker_becomes_a_hole(line: str, hole: str) -> None:
    assert holes(line) == [hole]


def test_names_that_are_read_later_stay_bound() -> None:
    region = "# BEGIN SOLUTION\nimport os\nrows = [r for r in x]\nfor y in rows:\n    answer = y\n# END SOLUTION"
    assert holes(region, "check.it(answer, os)", c1=["check"])[0] == "answer = ..."
    assert holes(region, "print(rows, answer)")[0] == "rows = ...\nanswer = ..."
    assert holes(region, "print(rows)", c1=["solution"]) == ["..."]
    assert holes("# BEGIN SOLUTION\ndef f():\n    return 1\n# END SOLUTION\nf()") == ["f = ...\nf()"]


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("# BEGIN SOLUTION\nx = 1", "line 1: # BEGIN SOLUTION without # END SOLUTION"),
        ("x = 1\n# END SOLUTION", "line 2: # END SOLUTION without"),
        ("# BEGIN SOLUTION\n# BEGIN SOLUTION\nx\n# END SOLUTION", "line 2: # BEGIN SOLUTION inside"),
        ("# BEGIN SOLUTION\nx = 1  # SOLUTION\n# END SOLUTION", "line 2: # SOLUTION inside"),
        ("# BEGIN SOLUTION\n\n# END SOLUTION", "empty"),
        ("# SOLUTION\nx = 1", "# SOLUTION behind an expression"),
        ("x = 1  # BEGIN SOLUTION\n# END SOLUTION", "stand alone on their lines"),
        ("x = f(  # SOLUTION\n    1)", "not Python any more"),
        ("x = f(\n    1)  # SOLUTION", "not Python any more"),
        ("for x in y:  # SOLUTION\n    pass", "not Python any more"),
        ('d = {\n    "acks": 1,  # SOLUTION\n    "more": 2,\n}', "not Python any more"),
        ("x = 1  # Solution", "is not a marker"),
        ("x = 1  #SOLUTION", "is not a marker"),
        ("# BEGIN SOLUTIONS\nx\n# END SOLUTION", "is not a marker"),
        ('q = """\nselect 1 # SOLUTION\n"""', "inside a string"),
        ("if x:\n    # BEGIN SOLUTION\n    y\n# END SOLUTION\nelse\n", "not Python any more"),
        ("x = (1  # SOLUTION", "not Python"),
    ],
)
def test_a_bad_marker_shows_its_cell(source: str, says: str) -> None:
    with pytest.raises(FlowError) as error:
        labs.build(notebook("a = 1", source), "solutions/01_x.ipynb")
    text = str(error.value)
    assert text.startswith("solutions/01_x.ipynb: cell c1: ")
    assert says in text.splitlines()[0]
    assert f"    {source.splitlines()[0]}" in text.splitlines()


def test_a_marker_in_a_text_cell_is_refused() -> None:
    solution = notebook()
    solution.cells[0].source = "# Lab\n\n# BEGIN SOLUTION"
    with pytest.raises(FlowError, match="tag the cell `solution`"):
        labs.build(solution)


def test_tags() -> None:
    lab = labs.build(notebook("a", "b", "c", c0=["check"], c1=["solution"], c2=["uses-answer"]))
    assert [(cell.id, list(cell.metadata.get("tags", []))) for cell in lab.cells[1:]] == [
        ("c0", ["check", "raises-exception"]),
        ("c2", ["uses-answer", "raises-exception"]),
    ]


# --- The folder ---------------------------------------------------------------------------------


@pytest.fixture
def course(tmp_path: Path) -> Path:
    (tmp_path / "solutions").mkdir()
    for name in ("01_a", "02_b"):
        (tmp_path / "solutions" / f"{name}.ipynb").write_bytes(dumps(notebook("x = 1  # SOLUTION")))
    labs.write(tmp_path)
    return tmp_path


def test_what_is_written_is_what_check_wants(course: Path) -> None:
    assert labs.check(course) == []
    assert labs.write(course) == ([], [])
    assert not (course / "build").exists()


def test_stale_missing_and_orphan_files_are_named(course: Path) -> None:
    (course / "solutions" / "01_a.ipynb").write_bytes(dumps(notebook("y = 1  # SOLUTION")))
    (course / "labs" / "02_b.ipynb").rename(course / "labs" / "03_c.ipynb")
    assert labs.check(course) == [
        "labs/01_a.ipynb is stale",
        "labs/02_b.ipynb is missing",
        "labs/03_c.ipynb is an orphan: there is no solutions/03_c.ipynb",
        "to make labs/ again: flow360 generate",
    ]
    assert labs.write(course) == (
        [
            "wrote labs/01_a.ipynb",
            "wrote labs/02_b.ipynb",
            "removed labs/03_c.ipynb: there is no solutions/03_c.ipynb",
        ],
        [],
    )
    assert labs.check(course) == []


def test_a_lab_that_somebody_has_worked_in_is_left_alone_by_name_and_kept_when_forced(course: Path) -> None:
    path, other = course / "labs" / "01_a.ipynb", course / "labs" / "02_b.ipynb"
    mine = read(path)
    mine.cells[1].source = "x = 42"
    path.write_bytes(dumps(mine))
    other.unlink()
    assert "edited by hand" in labs.check(course)[0]
    left = "labs/01_a.ipynb was left alone, somebody has worked in it: flow360 generate --force"
    assert labs.write(course) == (["wrote labs/02_b.ipynb"], [left])
    assert path.read_bytes() == dumps(mine)
    said, refused = labs.write(course, force=True)
    assert refused == []
    kept = course / said[0].rpartition(" as ")[2]
    assert read(kept).cells[1].source == "x = 42"
    assert labs.check(course) == []


def test_the_lab_of_an_older_version_is_not_worked_in(course: Path) -> None:
    """Its own digest still fits it, whatever the generator makes today."""
    (course / "solutions" / "01_a.ipynb").write_bytes(dumps(notebook("z = 1  # SOLUTION")))
    assert labs.write(course) == (["wrote labs/01_a.ipynb"], [])


@pytest.mark.parametrize("text", ["", '{"cells": [', "<<<<<<< HEAD\n{}\n=======\n{}\n>>>>>>> mine\n"])
def test_an_orphan_or_a_broken_lab_may_hold_work_too(course: Path, text: str) -> None:
    for name in ("01_a", "09_mine"):
        (course / "labs" / f"{name}.ipynb").write_text(text, "utf-8")
    said, refused = labs.write(course)
    assert said == []
    assert [line.partition(" ")[0] for line in refused] == ["labs/01_a.ipynb", "labs/09_mine.ipynb"]


def test_a_lab_that_was_only_run_is_not_an_edited_one(course: Path) -> None:
    path = course / "labs" / "01_a.ipynb"
    run = read(path)
    run.cells[1].outputs = [nbformat.v4.new_output("stream", text="1")]
    path.write_bytes(dumps(run))
    assert labs.check(course)[0] == "labs/01_a.ipynb is stale"
    assert labs.write(course) == (["wrote labs/01_a.ipynb"], [])


def test_labs_are_what_solutions_generate() -> None:
    assert labs.check(ROOT) == []


if __name__ == "__main__":
    (GOLDENS / "lab.ipynb").write_bytes(golden())
