"""Notebooks as files: read them, write them in one normal form, and list what breaks the course's rules."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import Any

import nbformat

from flow360.course.tables import aligned
from flow360.errors import FlowError
from flow360.files import write

KERNELSPEC = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
CELL_METADATA = {"tags", "editable", "deletable", "jupyter"}
LONGEST_CELL = 25
_SLUG = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_RANDOM_ID = re.compile(r"(?=.*\d)[0-9a-f]{8}(-[0-9a-f]{4}){0,3}(-[0-9a-f]{12})?")
_SHELL = re.compile(r"^\s*(!|%%(bash|sh|script|system)\b|%(system|sx)\b)|^[^#'\"]*=\s*!\w")


def read(path: Path) -> nbformat.NotebookNode:
    """Read the notebook at `path`.

    Raises:
        FlowError: it is missing, or not a notebook.
    """
    try:
        text = path.read_text("utf-8")
        return nbformat.reader.reads(text)
    except OSError as error:
        raise FlowError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise FlowError(f"{path}: not a notebook: byte {error.start} is not UTF-8") from None
    except (
        ValueError,
        KeyError,
        AttributeError,
        RecursionError,
        nbformat.ValidationError,
    ):  # NotJSONError is the first
        raise FlowError(f"{path}: not a notebook: {_why_not(text)}") from None


def read_whole(path: Path) -> nbformat.NotebookNode:
    """Read the notebook at `path`, with every part that a notebook must have.

    Raises:
        FlowError: it is missing, or not a whole notebook; the line says how the course's own comes back.
    """
    notebook = read(path)
    wrong = next(iter(nbformat.validator.iter_validate(notebook, version=4)), None)
    if wrong is not None:
        raise FlowError(f"{path}: not a notebook: {str(wrong).splitlines()[0][:100]}")
    return notebook


def _why_not(text: str) -> str:
    """Say why a text is not a notebook, as its owner would say it."""
    if not text.strip():
        return "it is empty"
    for number, line in enumerate(text.splitlines(), 1):
        if re.match(r"(<{7}|={7}|>{7})( |$)", line):
            return f"line {number} is a mark of git's, of a conflict that is not resolved"
    try:
        json.loads(text)
    except (ValueError, RecursionError) as error:
        where = f"line {error.lineno}: {error.msg}" if isinstance(error, json.JSONDecodeError) else str(error)
        return f"cut off, or not JSON ({where})"
    return "its JSON is not that of one"


def dumps(notebook: nbformat.NotebookNode) -> bytes:
    """Write the notebook's bytes: sorted keys, one space of indent, a newline at the end."""
    return (nbformat.v4.writes(notebook).rstrip("\n") + "\n").encode()


def clean(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Put the notebook in its normal form (changed in place): format 4.5, an id for each cell, no counts, no outputs
    but those of cells tagged `keep_output`, and no metadata beyond kernel, language and tags.

    An id that is missing is made from the cell's first words, so that it is the same every time.
    """
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    kept = {"flow360": notebook.metadata["flow360"]} if "flow360" in notebook.metadata else {}
    notebook.metadata = nbformat.from_dict(
        {"kernelspec": dict(KERNELSPEC), "language_info": {"name": "python"}, **kept}
    )
    used = {cell["id"] for cell in notebook.cells if cell.get("id")}
    for cell in notebook.cells:
        cell.metadata = nbformat.from_dict({k: v for k, v in cell.metadata.items() if k in CELL_METADATA and v != {}})
        cell.source = cell.source.strip("\n")
        if not cell.get("id"):
            cell["id"] = _new_id(cell.source, used)
            used.add(cell["id"])
        if cell.cell_type == "code":
            keep = "keep_output" in cell.metadata.get("tags", [])
            # nbval takes an output without a count for a leftover; a count that changes would be noise in git.
            cell.execution_count = 1 if keep else None
            cell.outputs = [_still(output) for output in cell.get("outputs", [])] if keep else []
    return notebook


def _still(output: Any) -> Any:
    """Take what differs from run to run out of an output that is kept in git."""
    if "execution_count" in output:
        output["execution_count"] = 1
    if "metadata" in output:
        output["metadata"] = nbformat.from_dict({})
    if "text/html" in output.get("data", {}):
        output["data"]["text/html"] = aligned(output["data"]["text/html"])
    return output


def _new_id(source: str, used: set[str]) -> str:
    words = re.findall(r"[a-z0-9]+", source.lower())[:4] or ["cell"]
    slug = "-".join(words)[:40].strip("-")
    number, made = 2, slug
    while made in used:
        made, number = f"{slug}-{number}", number + 1
    return made


def normalise(path: Path) -> bool:
    """Write the notebook at `path` in its normal form; True when that changed the file."""
    return write(path, dumps(clean(read(path))))


# --- The rules --------------------------------------------------------------------------------------------------------


def problems(path: Path) -> list[str]:
    """List what breaks the rules of a notebook, as `file: cell id: NBnn what is wrong`; [] when nothing does.

    NB01 a valid notebook of format 4.5 | NB02 every cell has its own id, a readable slug | NB03 no outputs and counts,
    except in cells tagged keep_output | NB04 code cells of 25 lines at most | NB05 the first cell begins with an H1 |
    NB06 a lesson has one cell tagged `parameters` (a lab none or one) | NB07 no shell cells: `lesson.run([...])` |
    NB08 no sleep: `lesson.wait_for(...)` | NB09 kernel python3 | NB10 no stray metadata | NB11 a promised output
    (`nbval-check-output`) is kept (`keep_output`) and there | NB12 in a solved lab each exercise of the file beside it
    has one cell tagged `check` that calls it, with its code cell right before.
    """
    where = f"{path.parent.name}/{path.name}"
    try:
        notebook = read(path)
    except FlowError as error:
        return [f"{where}: NB01 {error}"]
    # not `validate`: that would give doubled cells a new id and say nothing
    for wrong in nbformat.validator.iter_validate(notebook):
        return [f"{where}: NB01 {str(wrong).splitlines()[0]}"]
    found: list[str] = []
    if (notebook.nbformat, notebook.nbformat_minor) != (4, 5):
        found.append(f"NB01 format {notebook.nbformat}.{notebook.nbformat_minor}: it must be 4.5")
    found += _notebook_problems(notebook, path.parent.name)
    seen: set[str] = set()
    for number, cell in enumerate(notebook.cells, 1):
        name = cell.get("id", f"number {number}")
        found += [f"cell {name}: {text}" for text in _cell_problems(cell, seen)]
    if path.parent.name == "solutions":
        found += _exercise_problems(notebook, path.stem)
    return [f"{where}: {text}" for text in found]


def _tags(cell: Any) -> list[str]:
    return cell.metadata.get("tags", [])


def _notebook_problems(notebook: nbformat.NotebookNode, folder: str) -> list[str]:
    found = []
    first = notebook.cells[0] if notebook.cells else None
    if first is None or first.cell_type != "markdown" or not first.source.startswith("# "):
        found.append("NB05 the first cell must be text that begins with `# Title`")
    parameters = sum(1 for cell in notebook.cells if "parameters" in _tags(cell))
    if parameters > 1 or (folder == "notebooks" and not parameters):
        found.append(f"NB06 one cell must carry the tag `parameters`; {parameters} do")
    if notebook.metadata.get("kernelspec", {}).get("name") != "python3":
        found.append("NB09 the kernel must be python3")
    stray = set(notebook.metadata) - {"kernelspec", "language_info", "flow360"}
    stray |= {f"language_info.{k}" for k in set(notebook.metadata.get("language_info", {})) - {"name"}}
    if stray:
        found.append(
            f"NB10 stray metadata: {', '.join(sorted(stray))} (`flow360.course.notebooks.normalise` takes it out)"
        )
    return found


def _cell_problems(cell: Any, seen: set[str]) -> list[str]:
    found, name = [], cell.get("id", "")
    if not _SLUG.fullmatch(name) or _RANDOM_ID.fullmatch(name):
        found.append("NB02 give it an id that says what it does: letters, digits, -")
    if name in seen:
        found.append("NB02 another cell has this id")
    seen.add(name)
    if stray := set(cell.metadata) - CELL_METADATA:
        found.append(f"NB10 stray metadata: {', '.join(sorted(stray))}")
    if cell.cell_type != "code":
        return found
    tags = _tags(cell)
    kept = "keep_output" in tags
    if not kept and (cell.outputs or cell.execution_count is not None):
        found.append("NB03 outputs or a count are saved in it: clear them, or tag it keep_output")
    if (lines := len(cell.source.splitlines())) > LONGEST_CELL:
        found.append(f"NB04 {lines} lines: {LONGEST_CELL} at most")
    if any(_SHELL.search(line) for line in cell.source.splitlines()):
        found.append("NB07 a shell line hides its failure: use lesson.run([...])")
    if _sleeps(cell.source):
        found.append("NB08 it sleeps: use lesson.wait_for(condition, deadline)")
    if ("nbval-check-output" in tags) != ("keep_output" in tags):
        found.append("NB11 nbval-check-output and keep_output go together")
    elif "keep_output" in tags and not cell.outputs:
        found.append("NB11 it promises an output and holds none: run it and save")
    return found


def _sleeps(source: str) -> bool:
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return bool(re.search(r"\bsleep\(", source))
    calls = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return any(getattr(f, "attr", getattr(f, "id", "")) == "sleep" for f in calls)


def _exercise_problems(notebook: nbformat.NotebookNode, stem: str) -> list[str]:
    from flow360.course.registry import course

    try:
        exercises = course().chapter(stem).exercises
    except FlowError:
        return [f"NB12 course.toml has no chapter {stem}"]
    found = []
    checks = [(i, cell) for i, cell in enumerate(notebook.cells) if "check" in _tags(cell)]
    for exercise in exercises:
        mine = [i for i, cell in checks if re.search(rf"\bcheck\.{exercise.name}\(", cell.source)]
        if len(mine) != 1:
            found.append(f"NB12 {len(mine)} cells tagged `check` call check.{exercise.name}(...): it must be one")
        elif notebook.cells[mine[0] - 1].cell_type != "code":
            found.append(f"cell {notebook.cells[mine[0]].id}: NB12 the cell before it must be the exercise's code")
    return found
