"""How a table looks in a notebook: text on the left, numbers on the right, each as a person writes it.

pandas draws it, and JupyterLab sets every cell to the right. What it has drawn is put right here, by what stands in the
cells: so the outputs that are kept in git can be held to the same rule, without running anything.
"""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

_ROW = re.compile(r"<tr[^>]*>.*?</tr>", re.DOTALL)
_CELL = re.compile(r"<t([hd])(?P<about>[^>]*)>(?P<said>.*?)</t\1>", re.DOTALL)
_NUMBER = re.compile(r"(?=.*\d)[-+]?(\d[\d,]*)?(\.?\d+)?([eE][-+]?\d+)?%?|-?inf")
_MISSING = frozenset({"", "NaN", "NaT", "None", "nan", "&lt;NA&gt;", "–", "..."})
_SCALAR = re.compile(r"\bnp\.(?:int|uint|float|str_|bool)\w*\(((?:'[^']*'|[^()'])*)\)")
_NUMPY = [
    "bool",
    "str_",
    "float16",
    "float32",
    "float64",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
]
LEFT = ' style="text-align: left"'


def aligned(html: str) -> str:
    """Set the columns of text in a table of pandas to the left, and write what is missing and numpy's numbers plainly.

    It may be done twice: the second time changes nothing.
    """
    rows = _ROW.findall(html)
    cells = [[cell["said"] for cell in _CELL.finditer(row) if cell[1] == "d"] for row in rows]
    columns = max(map(len, cells), default=0)
    texts = {
        number
        for number in range(columns)
        if any(not _is_number(row[number]) for row in cells if len(row) == columns and row[number] not in _MISSING)
    }

    def one(row: re.Match[str]) -> str:
        found = list(_CELL.finditer(row[0]))
        data = sum(cell[1] == "d" for cell in found)
        # A head of one line has a cell for each column, after those of the index.
        first = len(found) - columns
        if first < 0 or data not in (0, columns) or any("colspan" in cell["about"] for cell in found):
            return row[0]
        number = iter(range(-first, columns))
        return _CELL.sub(lambda cell: _cell(cell, next(number) in texts), row[0])

    return _ROW.sub(one, html)


def _cell(cell: re.Match[str], text: bool) -> str:
    said = cell["said"]
    if cell[1] == "d":
        said = "–" if said == "&lt;NA&gt;" else _SCALAR.sub(r"\1", said)
    about = cell["about"].replace(LEFT, "") + (LEFT if text else "")
    return f"<t{cell[1]}{about}>{said}</t{cell[1]}>"


def _is_number(said: str) -> bool:
    return bool(_NUMBER.fullmatch(_SCALAR.sub(r"\1", said)))


def register() -> None:
    """Let this kernel draw tables so, and write a number of numpy's as any other; without IPython there is none."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    if shell is None:
        return
    formatters = shell.display_formatter.formatters
    formatters["text/html"].for_type_by_name("pandas.core.frame", "DataFrame", _table)
    plain, numpy = formatters["text/plain"], sys.modules.get("numpy")
    for name in _NUMPY:  # each, because IPython takes the nearest class that has a `__repr__` of its own
        if numpy:  # where it is loaded, IPython may have a printer of its own, which wins over one by name
            plain.for_type(getattr(numpy, name), _number)
        else:
            plain.for_type_by_name("numpy", name, _number)


def _table(table: pd.DataFrame) -> str | None:
    drawn = table._repr_html_()  # what IPython asks by itself; None where the reader has switched it off
    return None if drawn is None else aligned(drawn)


def _number(value: Any, printer: Any, _cycle: bool) -> None:
    printer.text(repr(value.item()))
