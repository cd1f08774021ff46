"""Which part of the package imports which: each stands on others, and no two on each other."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter

from flow360.settings import ROOT

PACKAGE = ROOT / "flow360"


def imports() -> Iterator[tuple[str, str, str]]:
    """(part, part that it imports, the file that does so) of all of flow360/, wherever in a file the import stands."""
    for file in PACKAGE.rglob("*.py"):
        part = file.relative_to(PACKAGE).parts[0].removesuffix(".py")
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            names = [one.name for one in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
            if isinstance(node, ast.ImportFrom):
                names = [f"flow360.{name}" for name in names] if node.module == "flow360" else [node.module or ""]
            for name in names:
                if name.startswith("flow360.") and (other := name.split(".")[1]) != part:
                    yield part, other, f"{file.relative_to(ROOT)}"


def test_no_part_of_the_package_stands_on_itself_by_way_of_others():
    """A circle would be an error that names its parts (graphlib.CycleError)."""
    graph: dict[str, set[str]] = {}
    for part, other, _ in imports():
        graph.setdefault(part, set()).add(other)
    order = list(TopologicalSorter(graph).static_order())
    assert order.index("ingestion") < order.index("processing")
    assert order[-1] in ("cli", "checks", "bench", "__init__")
    assert len(order) > 15
