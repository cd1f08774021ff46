"""The rules of a notebook (design: one form, no outputs, no shell, no sleep), held over all that exist."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from flow360.course.notebooks import KERNELSPEC, dumps, normalise, problems, read
from flow360.errors import FlowError
from flow360.primeur.schema import WAREHOUSE
from flow360.settings import ROOT

FOLDERS = ("notebooks", "solutions", "labs")
EXISTING = [path for folder in FOLDERS for path in sorted((ROOT / folder).glob("*.ipynb"))]


@pytest.mark.parametrize("path", EXISTING, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_the_notebook_keeps_the_rules(path: Path) -> None:
    assert problems(path) == []


def save(folder: Path, *cells, kind: str = "notebooks", **metadata) -> Path:
    """A lesson with a title, a parameters cell and the given cells."""
    title = new_markdown_cell("# Title", id="title")
    sizes = new_code_cell("n = 1", id="sizes", metadata={"tags": ["parameters"]})
    book = new_notebook(metadata={"kernelspec": KERNELSPEC, **metadata})
    book.cells = [title, sizes, *cells]  # set afterwards: new_notebook would repair doubled ids
    (folder / kind).mkdir(exist_ok=True)
    path = folder / kind / "01_sources.ipynb"
    path.write_bytes(dumps(book))
    return path


def code(source: str, *tags: str, **more) -> nbformat.NotebookNode:
    return new_code_cell(source, id=more.pop("id", "the-cell"), metadata={"tags": list(tags)} if tags else {}, **more)


def test_a_good_lesson_has_no_problems(tmp_path: Path) -> None:
    told = code("1", "nbval-check-output", "keep_output", outputs=[new_output("stream", text="1")], id="told")
    assert problems(save(tmp_path, code("x = 1"), told)) == []


@pytest.mark.parametrize(
    ("cell", "says"),
    [
        (code("1", id="Title_1"), "NB02"),
        (code("1", id="3f2a91c0"), "NB02"),
        (code("1", id="sizes"), "another cell has this id"),
        (code("1", outputs=[new_output("stream", text="1")]), "NB03"),
        (code("1", execution_count=3), "NB03"),
        (code("x\n" * 26), "NB04 26 lines"),
        (code("!ls"), "NB07"),
        (code("%%bash\nls"), "NB07"),
        (code("files = !ls"), "NB07"),
        (code("import time\ntime.sleep(1)"), "NB08"),
        (code("from time import sleep\nsleep(1)"), "NB08"),
        (code("1", "keep_output"), "NB11"),
        (code("1", "keep_output", "nbval-check-output"), "NB11 it promises"),
        (new_code_cell("1", id="a", metadata={"scrolled": True}), "NB10"),
    ],
)
def test_a_broken_rule_is_named(tmp_path: Path, cell: nbformat.NotebookNode, says: str) -> None:
    found = problems(save(tmp_path, cell))
    assert len(found) == 1
    assert says in found[0]
    assert found[0].startswith("notebooks/01_sources.ipynb: ")


@pytest.mark.parametrize("source", ["if a != b: pass", "text = 'no !ls'", "# !ls", "lesson.run(['sleep', '1'])"])
def test_what_only_looks_like_it_is_let_through(tmp_path: Path, source: str) -> None:
    assert problems(save(tmp_path, code(source))) == []


def test_rules_of_the_whole_notebook(tmp_path: Path) -> None:
    path = save(tmp_path, widgets={"state": {}}, kernelspec={"name": "julia", "display_name": "J"})
    book = read(path)
    book.cells = [new_markdown_cell("Title", id="t")]
    path.write_bytes(dumps(book))
    rules = [line.split()[1] for line in problems(path)]
    assert rules == ["NB05", "NB06", "NB09", "NB10"]


def test_a_solution_has_one_check_for_each_exercise(tmp_path: Path) -> None:
    path = save(tmp_path, code("check.paged_client(f)", "check", id="paged"), kind="solutions")
    found = problems(path)
    assert not any("paged_client" in line for line in found)
    assert any("0 cells tagged `check` call check.typed_parquet" in line for line in found)
    book = read(path)
    book.cells.insert(2, new_markdown_cell("text", id="text"))
    path.write_bytes(dumps(book))
    assert any("cell paged: NB12" in line for line in problems(path))


@pytest.mark.parametrize("text", ["", "{", "[]", '{"cells": []}'])
def test_what_is_no_notebook_is_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.ipynb"
    path.write_text(text, "utf-8")
    assert len(problems(path)) == 1
    assert "NB01" in problems(path)[0]


def test_a_missing_notebook_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(FlowError, match="No such file"):
        read(tmp_path / "x.ipynb")


def test_normalise_makes_the_normal_form_and_ids_that_stay(tmp_path: Path) -> None:
    path = tmp_path / "x.ipynb"
    book = nbformat.v4.new_notebook(
        cells=[
            new_markdown_cell("# My Title"),
            code("print(1)", execution_count=4, outputs=[new_output("stream", text="1")]),
            code("2", "keep_output", id="kept", outputs=[new_output("execute_result", execution_count=9, data={})]),
        ],
        metadata={"kernelspec": {"name": "other", "display_name": "x"}, "widgets": {}},
    )
    del book.cells[0]["id"]
    book.nbformat_minor = 4
    path.write_text(nbformat.writes(book, version=nbformat.NO_CONVERT), "utf-8")
    assert normalise(path)
    made = read(path)
    assert [cell.id for cell in made.cells] == ["my-title", "the-cell", "kept"]
    assert made.cells[1].outputs == []
    assert made.cells[2].outputs[0].execution_count == 1
    assert set(made.metadata) == {"kernelspec", "language_info"}
    assert not normalise(path)


def test_after_chapter_01_nothing_reads_what_the_predecessor_left() -> None:
    """Schema `primeur` is a copy for chapters 00 and 01; whatever comes after reads the shop, or what the lake gave."""
    table = re.compile(rf"(?<!flow360\.)\bprimeur\.({'|'.join(WAREHOUSE)})\b")
    read_in = [path for path in EXISTING if not path.name.startswith(("00_", "01_"))]
    for folder in ("dags", "dbt/models", "dbt/snapshots", "dbt/tests", "flow360"):
        read_in += [path for path in (ROOT / folder).rglob("*.*") if path.suffix in (".py", ".sql", ".yml")]
    # In lesson 05a `primeur` is also the database of its sandbox, in Hive.
    mine = ("flow360/checks/c00_welcome.py", "flow360/checks/c01_sources.py", "notebooks/05a_data_lake.ipynb")
    names = {str(path.relative_to(ROOT)) for path in read_in if table.search(path.read_text("utf-8"))}
    assert names - set(mine) == set()
