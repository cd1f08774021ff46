"""Each lab twice: as shipped (every check says "not attempted") and solved (every check passes), in a fresh kernel."""

from __future__ import annotations

from typing import Any

import nbformat
import pytest

from flow360.course import run
from tests.bundles import under_test
from tests.environment import BUILD, ROOT

CHAPTERS = under_test()
NAMES = [chapter.stem for chapter in CHAPTERS]
# As shipped no check comes to ask for what a given cell has made, so little of it will do.
LITTLE = {"06_metrics": {"requests": 20}}


def execute(kind: str, stem: str, parameters: dict[str, Any] | None = None) -> nbformat.NotebookNode:
    """Run a notebook by papermill; the executed copy stays under build/test/."""
    source = ROOT / kind / f"{stem}.ipynb"
    target = BUILD / "notebooks" / kind / source.name
    record = BUILD / f"progress-{kind}-{stem}.json"
    record.unlink(missing_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLOW360_PROGRESS", str(record))
        run.execute(source, target, parameters)
    return nbformat.read(target, as_version=4)


def checks(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebook.cells if "check" in cell.metadata.get("tags", [])]


def errors(cell: nbformat.NotebookNode) -> list[str]:
    return [output.ename for output in cell.outputs if output.output_type == "error"]


@pytest.mark.timeout(900)
@pytest.mark.parametrize("chapter", CHAPTERS, ids=NAMES)
def test_as_shipped_every_check_says_not_attempted(chapter):
    notebook = execute("labs", chapter.stem, LITTLE.get(chapter.stem))
    found = checks(notebook)
    assert len(found) == len(chapter.exercises)
    assert [errors(cell) for cell in found] == [["NotAttempted"]] * len(found)
    for cell in found:
        shown = [line for output in cell.outputs if output.output_type == "error" for line in output.traceback]
        assert len(shown) == 1, shown


@pytest.mark.timeout(900)
@pytest.mark.parametrize("chapter", CHAPTERS, ids=NAMES)
def test_solved_every_check_passes(chapter):
    notebook = execute("solutions", chapter.stem)
    found = checks(notebook)
    assert len(found) == len(chapter.exercises)
    for cell in found:
        assert errors(cell) == []
        assert "Correct" in str(cell.outputs), cell.source
