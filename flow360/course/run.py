"""Run a chapter's notebook headless, with papermill, and keep the executed copy."""

from __future__ import annotations

import contextlib
import re
import sys
from pathlib import Path
from typing import Any

from nbformat import NotebookNode

from flow360.course.notebooks import clean, dumps, read, read_whole
from flow360.course.registry import Chapter
from flow360.errors import Exit, FlowError
from flow360.settings import ROOT
from flow360.waiting import patient

KINDS = ("notebooks", "labs", "solutions")
CELL_SECONDS = 120  # for a cell that does not say more
_LONGER = "seconds-"  # the tag `seconds-400` says more


def run_notebook(chapter: Chapter, kind: str = "notebooks", parameters: dict[str, Any] | None = None) -> Path:
    """Execute a notebook in a fresh kernel.

    Args:
        chapter: which one.
        kind: notebooks (the lesson), labs or solutions.
        parameters: values for the notebook's `parameters` cell; text that reads as a number becomes one.

    Returns:
        The executed notebook, below build/run/.

    Raises:
        FlowError: a cell failed; the line says which and why. The copy holds the outputs up to there.
    """
    if kind not in KINDS:
        raise FlowError(f"there is no kind {kind!r}: take {', '.join(KINDS)}", Exit.USAGE)
    source = ROOT / kind / f"{chapter.stem}.ipynb"
    target = ROOT / "build" / "run" / kind / source.name
    _known(parameters or {}, _whole(source), source)
    values = {name: _number(value) for name, value in (parameters or {}).items()}
    execute(source, target, values, progress=sys.stderr.isatty())
    return target


def _whole(source: Path) -> NotebookNode:
    try:
        return read_whole(source)
    except FlowError as error:
        own = f"git checkout {source.parent.name}/{source.name}"
        raise FlowError(f"{error}: repair it, or take the course's own back: {own}") from None


def _known(parameters: dict[str, Any], notebook: NotebookNode, source: Path) -> None:
    """Refuse what is not a parameter of the notebook: papermill would only warn, and run it with its own values."""
    cells = [cell.source for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    names = re.findall(r"^(\w+)\s*(?::[^=]+)?=(?!=)", "\n".join(cells), re.MULTILINE)
    if unknown := [name for name in parameters if name not in names]:
        where = f"{source.parent.name}/{source.name}"
        raise FlowError(f"-p {unknown[0]}: {where} has the parameters {', '.join(names) or '(none)'}", Exit.USAGE)


def execute(source: Path, target: Path, parameters: dict[str, Any] | None = None, progress: bool = False) -> None:
    """Run one notebook by papermill into a copy.

    Raises:
        FlowError: it is not a notebook, or a cell failed that may not (one without the tag `raises-exception`).
    """
    import papermill
    from papermill.exceptions import PapermillExecutionError

    _whole(source)  # papermill would read anything, and say what it thinks of it
    target.parent.mkdir(parents=True, exist_ok=True)
    # papermill stays silent about cells that may fail only while they run; at the end it complains of them all.
    with contextlib.suppress(PapermillExecutionError):
        papermill.execute_notebook(
            source,
            target,
            parameters=parameters or {},
            kernel_name="python3",
            cwd=source.parent,
            progress_bar=progress,
            timeout_func=lambda cell: int(patient(cell_seconds(cell))),
        )
    for number, cell in enumerate(read(target).cells):
        errors = [output for output in cell.get("outputs", []) if output.output_type == "error"]
        if errors and "raises-exception" not in cell.metadata.get("tags", []):
            why = f"{errors[0].ename}: {errors[0].evalue}".splitlines()[0]
            raise FlowError(f"{source.parent.name}/{source.name}, cell {number}: {why} (see {target})")


def cell_seconds(cell: Any) -> int:
    """Return how long a cell may take on an idle machine: two minutes, unless its tag (`seconds-400`) allows it more.

    A cell that shows a widget or waits for an answer would otherwise hold up its notebook until somebody looks.
    """
    tags = cell.metadata.get("tags", [])
    return next((int(tag.removeprefix(_LONGER)) for tag in tags if tag.startswith(_LONGER)), CELL_SECONDS)


def keep_outputs(chapter: Chapter, executed: Path) -> Path:
    """Put the outputs that a lesson promises (tag `keep_output`) from an executed copy back into notebooks/.

    A maintainer's step: the outputs of all other cells stay out of git.
    """
    source = ROOT / "notebooks" / f"{chapter.stem}.ipynb"
    notebook, done = read(source), {cell["id"]: cell for cell in read(executed).cells}
    for cell in notebook.cells:
        if "keep_output" in cell.metadata.get("tags", []):
            cell.outputs = done[cell["id"]].outputs
    source.write_bytes(dumps(clean(notebook)))
    return source


def _number(value: Any) -> Any:
    for kind in (int, float):
        try:
            return kind(value)
        except (TypeError, ValueError):
            continue
    return value
