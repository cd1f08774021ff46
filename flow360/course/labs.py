"""Labs out of solved labs: `solutions/NN_x.ipynb` -> `labs/NN_x.ipynb`, the same bytes every time.

The solved lab is the only hand-written one. Two markers make the holes of the learner's version:

    expr  # SOLUTION                              becomes    ...
    # BEGIN SOLUTION                              becomes    ...               (one, at the marker's indent)
    several lines
    # END SOLUTION

What stands before the expression stays: `answer = ...`, `return ...`, and `key=...,` in a call.

A region at the left margin also leaves `name = ...` for each name that it binds and that later code reads, so that a
check finds the variable. Cells tagged `solution` are dropped; cells tagged `check` or `uses-answer` get the tag
`raises-exception`, so that "Run all" goes on. A marker that cannot be understood is an error that shows its cell.
"""

from __future__ import annotations

import ast
import copy
import hashlib
import io
import json
import re
import tokenize
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import nbformat

from flow360 import files
from flow360.course.notebooks import clean, dumps, normalise, problems, read
from flow360.errors import FlowError

__all__ = ["build", "check", "digest", "normalise", "problems", "render_all", "write"]

COMMAND = "flow360 generate"
_NEAR = re.compile(r"#+\s*((begin|end)\s+)?solutions?\s*[:.!]?", re.IGNORECASE)
_HOLE = re.compile(r"(\s*(?:return\b\s*|[^=(){}]*[\w\] ]=(?!=)\s*)?).*?(,?)\s*# SOLUTION\s*")
_LINE, _BEGIN, _END = "# SOLUTION", "# BEGIN SOLUTION", "# END SOLUTION"


class _Bad(Exception):
    """A marker that cannot be understood; `build` adds the cell."""


# --- One cell ---------------------------------------------------------------------------------------------------------


def _markers(source: str) -> dict[int, str]:
    """Find the markers of a cell by the index of their line."""
    found = {}
    try:
        for token in tokenize.generate_tokens(io.StringIO(source + "\n").readline):
            text = token.string.strip()
            if token.type == tokenize.COMMENT and _NEAR.fullmatch(text):
                if text not in (_LINE, _BEGIN, _END):
                    raise _Bad(f"line {token.start[0]}: {text!r} is not a marker: write {_LINE}, {_BEGIN} or {_END}")
                found[token.start[0] - 1] = text
    except (tokenize.TokenError, SyntaxError) as error:
        raise _Bad(f"it holds a marker and is not Python: {error.args[0]}") from None
    for row, line in enumerate(source.splitlines()):
        if row not in found and re.search(r"#\s*(BEGIN |END )?SOLUTION\s*$", line):
            raise _Bad(f"line {row + 1}: a marker inside a string is not seen by the learner's version")
    return found


def _bound(region: str) -> list[str]:
    """List the names that the statements of a region bind at the left margin, in order; imports do not count."""
    names: list[str] = []
    for statement in ast.parse(region).body:
        if isinstance(statement, ast.Import | ast.ImportFrom):
            continue
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.append(statement.name)
            continue
        nested = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda, ast.ListComp, ast.DictComp)
        stack: list[ast.AST] = [statement]
        while stack:
            node = stack.pop(0)
            if isinstance(node, nested + (ast.SetComp, ast.GeneratorExp)):
                continue
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                names.append(node.id)
            stack.extend(ast.iter_child_nodes(node))
    return list(dict.fromkeys(names))


def _read_names(source: str) -> set[str]:
    """Find every name that some code reads; a cell that is not plain Python (a magic) is read word by word."""
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return set(re.findall(r"[A-Za-z_]\w*", source))
    return {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}


def _with_holes(source: str, later: str) -> str:
    """Make holes of the markers of a cell; `later` is the code of the cells that follow."""
    if "solution" not in source.lower():
        return source
    markers = _markers(source)
    if not markers:
        return source
    lines, out, begin = source.splitlines(), [], None
    for row, line in enumerate(lines):
        marker = markers.get(row)
        if marker and (line.strip() == marker) == (marker == _LINE):
            raise _Bad(f"line {row + 1}: {_BEGIN} and {_END} stand alone on their lines, {_LINE} behind an expression")
        if begin is not None and marker in (_BEGIN, _LINE):
            raise _Bad(f"line {row + 1}: {marker} inside the region that line {begin + 1} began")
        if begin is None and marker == _END:
            raise _Bad(f"line {row + 1}: {_END} without {_BEGIN}")
        if marker == _BEGIN:
            begin = row
        elif marker == _END:
            out += _region(lines, begin, row, later)
            begin = None
        elif marker == _LINE:
            out.append(_HOLE.sub(r"\1...\2", line))
        elif begin is None:
            out.append(line)
    if begin is not None:
        raise _Bad(f"line {begin + 1}: {_BEGIN} without {_END}")
    result = "\n".join(out)
    try:
        # A cell that writes a file (`%%writefile NAME.py`) is Python after its first line.
        ast.parse(re.sub(r"\A%%writefile [^\n]+\.py$", "", result, count=1, flags=re.MULTILINE))
    except SyntaxError as error:
        raise _Bad(f"with its holes it is not Python any more (line {error.lineno}: {error.msg})") from None
    return result


def _region(lines: list[str], begin: int, end: int, later: str) -> list[str]:
    indent = lines[begin][: len(lines[begin]) - len(lines[begin].lstrip())]
    inside = lines[begin + 1 : end]
    if not any(line.strip() for line in inside):
        raise _Bad(f"line {begin + 1}: the region is empty")
    if indent:
        return [f"{indent}..."]
    try:
        names = _bound("\n".join(inside))
    except SyntaxError as error:
        raise _Bad(f"the region of line {begin + 1} is not whole statements ({error.msg})") from None
    wanted = _read_names("\n".join(lines[end + 1 :])) | _read_names(later)
    return [f"{name} = ..." for name in names if name in wanted] or ["..."]


# --- One notebook -----------------------------------------------------------------------------------------------------


def build(solution: nbformat.NotebookNode, source: str = "solutions/") -> nbformat.NotebookNode:
    """Build the learner's version of a solved lab.

    Args:
        solution: the solved lab; it is not changed.
        source: the path that the generated notebook names as its origin.

    Raises:
        FlowError: a marker is nested, unclosed or misplaced; the message shows the cell's id and source.
    """
    lab = clean(copy.deepcopy(solution))
    lab.cells = [cell for cell in lab.cells if "solution" not in _tags(cell)]
    for number, cell in enumerate(lab.cells):
        try:
            if cell.cell_type == "code":
                later = "\n".join(c.source for c in lab.cells[number + 1 :] if c.cell_type == "code")
                cell.source = _with_holes(cell.source, later)
            elif re.search(r"^\s*# (BEGIN |END )?SOLUTION\s*$", cell.source, re.MULTILINE):
                raise _Bad("a marker in a text cell: tag the cell `solution` instead")
        except _Bad as error:
            shown = "\n".join(f"    {line}" for line in cell.source.splitlines())
            raise FlowError(f"{source}: cell {cell.id}: {error}\n{shown}") from None
        tags = _tags(cell)
        if {"check", "uses-answer"} & set(tags) and "raises-exception" not in tags:
            cell.metadata["tags"] = [*tags, "raises-exception"]
    note = f"<!-- AUTOGENERATED: edit {source}, then run `{COMMAND}` -->"
    if lab.cells and lab.cells[0].cell_type == "markdown":
        lab.cells[0].source += f"\n\n{note}"
    lab.metadata["flow360"] = {"autogenerated": f"edit {source}, then run {COMMAND}", "digest": digest(lab)}
    return lab


def solution_of(solution: nbformat.NotebookNode, exercise: str) -> list[str]:
    """Return the code of a solved lab that answers an exercise, cell by cell, without the markers.

    These are the cells between the check before and the exercise's own that hold a marker.

    Raises:
        FlowError: no cell checks this exercise.
    """
    cells: list[str] = []
    for cell in solution.cells:
        if "check" in _tags(cell):
            if re.search(rf"\bcheck\.{exercise}\(", cell.source):
                return cells
            cells = []
        elif cell.cell_type == "code" and "SOLUTION" in cell.source:
            lines = [re.sub(rf"\s*{_LINE}\s*$", "", line) for line in cell.source.splitlines()]
            cells.append("\n".join(line for line in lines if line.strip() not in (_BEGIN, _END)))
    raise FlowError(f"the solved lab has no check of {exercise}")


def digest(lab: nbformat.NotebookNode) -> str:
    """Hash what a person could edit: types, tags and sources of the cells, not outputs."""
    cells = [[cell.get("id", ""), cell.cell_type, _tags(cell), cell.source] for cell in lab.cells]
    return hashlib.sha256(json.dumps(cells).encode()).hexdigest()[:16]


def _tags(cell: Any) -> list[str]:
    return list(cell.metadata.get("tags", []))


# --- The folder -------------------------------------------------------------------------------------------------------


def render_all(root: Path) -> dict[Path, bytes]:
    """Render every lab that `root/solutions` generates, as {path below labs/: bytes}, in memory."""
    return {
        root / "labs" / path.name: dumps(build(read(path), f"solutions/{path.name}"))
        for path in sorted((root / "solutions").glob("*.ipynb"))
    }


def check(root: Path) -> list[str]:
    """Name what keeps labs/ from being what solutions/ make: stale, edited, missing, orphan files; [] when none."""
    wanted = render_all(root)
    found = []
    for path, content in wanted.items():
        name = path.relative_to(root)
        if not path.exists():
            found.append(f"{name} is missing")
        elif path.read_bytes() != content:
            edited = "was edited by hand (a learner's answers?)" if _edited(path) else "is stale"
            found.append(f"{name} {edited}")
    for path in sorted((root / "labs").glob("*.ipynb")):
        if path not in wanted:
            found.append(f"{path.relative_to(root)} is an orphan: there is no solutions/{path.name}")
    if found:
        found.append(f"to make labs/ again: {COMMAND}")
    return found


def write(root: Path, force: bool = False) -> tuple[list[str], list[str]]:
    """Make labs/ what solutions/ generates.

    Args:
        root: the checkout.
        force: replace labs that somebody has worked in, too; each is first copied to build/kept-labs/.

    Returns:
        A line for each file that changed, and one for each that was left alone because it holds somebody's work.
    """
    wanted = render_all(root)
    (root / "labs").mkdir(exist_ok=True)
    said, refused = [], []
    for path in sorted({*wanted, *(root / "labs").glob("*.ipynb")}):
        name, content = path.relative_to(root), wanted.get(path)
        if path.exists():
            if path.read_bytes() == content:
                continue
            if _edited(path):
                if not force:
                    refused.append(f"{name} was left alone, somebody has worked in it: {COMMAND} --force")
                    continue
                said.append(_keep(root, path))
        if content is None:
            path.unlink()
            said.append(f"removed {name}: there is no solutions/{path.name}")
            continue
        files.write(path, content)
        said.append(f"wrote {name}")
    return said, refused


def _edited(path: Path) -> bool:
    """Say whether it differs from each version that was ever generated. Each carries the digest of what it was then."""
    try:
        lab = read(path)
    except FlowError:
        return True
    return lab.metadata.get("flow360", {}).get("digest") != digest(lab)


def _keep(root: Path, path: Path) -> str:
    folder = root / "build" / "kept-labs"
    folder.mkdir(parents=True, exist_ok=True)
    moment = datetime.now(UTC).strftime("%Y%m%d-%H%M%S-%f")
    kept = folder / f"{path.stem}.{moment}.ipynb"
    kept.write_bytes(path.read_bytes())
    return f"kept your {path.relative_to(root)} as {kept.relative_to(root)}"
