"""Documents as rows, without loss: what is not in a list is a row, and each element of a list is a row of its own.

    flatten({"_id": 101, "name": {"fr": "Pommes"}, "origins": [{"country": "FR"}, {"country": "ES"}]})

    path ""         place ()     {"_id": 101, "name.fr": "Pommes", "origins": {"$items": 2}}
    path "origins"  place (0,)   {"country": "FR"}
    path "origins"  place (1,)   {"country": "ES"}

Nothing is known here of which fields there are: one that nobody has ever seen becomes a column, a list a table. In the
place of a list stands how many elements it has, so that `build` can put the document together again, and a count can be
held against the rows. A value is what MongoDB's JSON says: `{"$numberDecimal": "1.10"}` stays that.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

Place = tuple[int, ...]
Rows = dict[tuple[str, Place], dict[str, Any]]
"""(path of the list, place in it and in those around it) -> field -> value."""
ITEMS = "$items"
"""In the place of a list: how many elements it has."""
ITSELF = "*"
"""The field in which an element stands that is no object."""
TOP: tuple[str, Place] = ("", ())


def flatten(document: Mapping[str, Any]) -> Rows:
    """Write a document as rows; the first is the document itself, the others are elements of its lists."""
    rows: Rows = {TOP: {}}
    for field, value in document.items():
        _put(value, rows, TOP, _quoted(field))
    return rows


def build(rows: Mapping[tuple[str, Place], Mapping[str, Any]]) -> dict[str, Any]:
    """Put a document together again: the opposite of `flatten`, with the order of its fields.

    Raises:
        KeyError: a row is missing.
    """
    return _build(rows, TOP)


def values(value: Any) -> int:
    """Count the values of a document, or of a part of it: what is neither an object nor a list with something in it."""
    if _is_object(value):
        return sum(map(values, value.values()))
    return sum(map(values, value)) if isinstance(value, list) and value else 1


def _put(value: Any, rows: Rows, row: tuple[str, Place], name: str) -> None:
    """Write a value into a row under a name, "" for the row itself."""
    if _is_object(value):
        for field, inner in value.items():
            _put(inner, rows, row, f"{name}.{_quoted(field)}" if name else _quoted(field))
    elif isinstance(value, list) and value:
        rows[row][name] = {ITEMS: len(value)}
        for number, element in enumerate(value):
            inner = _inside(row, name, number)
            rows[inner] = {}
            _put(element, rows, inner, "" if _is_object(element) else ITSELF)
    else:
        rows[row][name] = value


def _build(rows: Mapping[tuple[str, Place], Mapping[str, Any]], row: tuple[str, Place]) -> Any:
    found: dict[str, Any] = {}
    for name, value in rows[row].items():
        if isinstance(value, Mapping) and set(value) == {ITEMS}:
            value = [_build(rows, _inside(row, name, number)) for number in range(value[ITEMS])]
        if name == ITSELF:
            return value
        *way, last = _names(name)
        part = found
        for step in way:
            part = part.setdefault(step, {})
        part[last] = value
    return found


def _inside(row: tuple[str, Place], name: str, number: int) -> tuple[str, Place]:
    path, place = row
    return f"{path}.{name}" if path else name, (*place, number)


def _is_object(value: Any) -> bool:
    """Say whether a value is divided into fields: an empty object is not, nor is what MongoDB's JSON writes as one."""
    return isinstance(value, Mapping) and bool(value) and not next(iter(value)).startswith("$")


def _quoted(field: str) -> str:
    r"""Write a field's name so that no other way leads to the same one: `a.b` as `a\.b`, `*` as `\*`, none as `\0`."""
    plain = field.replace("\\", "\\\\").replace(".", "\\.")
    return {"": "\\0", ITSELF: f"\\{ITSELF}"}.get(plain, plain)


def _names(path: str) -> list[str]:
    """Read the fields' names of a way."""
    return [re.sub(r"\\(.)", _plain, one, flags=re.DOTALL) for one in re.findall(r"(?:\\.|[^\\.])+", path, re.DOTALL)]


def _plain(quoted: re.Match[str]) -> str:
    return "" if quoted[1] == "0" else quoted[1]
