"""Mutants of Python, by its syntax tree; the edits keep the text around them as it is.

Operators: comparison, logic, not, arithmetic, number, boolean, string, moment, zone, dropped statement, condition,
filter (of a comprehension), swapped arguments, dropped argument, unwrapped call, name (min for max), other name
(of a parameter, of an attribute); SQL and cron lines
in texts have operators of their own.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from datetime import datetime, timedelta

from tests.mutants import sql, texts
from tests.mutants.edits import Edit

TUNING = {
    "acks",
    "backoff_factor",
    "deadline",
    "every",
    "heartbeat_interval_ms",
    "max_await_time_ms",
    "max_poll_records",
    "max_records",
    "seconds",
    "session_timeout_ms",
    "timeout",
    "timeout_ms",
}
PACED = {"flush", "poll", "wait"}
"""Arguments, and calls with one, that say how long to wait and how much to take: another number is another pace."""

COMPARISONS: dict[type[ast.cmpop], tuple[str, tuple[str, ...]]] = {
    ast.Lt: ("<", ("<=", ">=")),
    ast.LtE: ("<=", ("<", ">")),
    ast.Gt: (">", (">=", "<=")),
    ast.GtE: (">=", (">", "<")),
    ast.Eq: ("==", ("!=",)),
    ast.NotEq: ("!=", ("==",)),
    ast.Is: ("is", ("is not",)),
    ast.IsNot: ("is not", ("is",)),
    ast.In: ("in", ("not in",)),
    ast.NotIn: ("not in", ("in",)),
}
ARITHMETIC: dict[type[ast.operator], tuple[str, str]] = {
    ast.Add: ("+", "-"),
    ast.Sub: ("-", "+"),
    ast.Mult: ("*", "/"),
    ast.Div: ("/", "*"),
    ast.FloorDiv: ("//", "/"),
    ast.Mod: ("%", "//"),
    ast.BitOr: ("|", "&"),
    ast.BitAnd: ("&", "|"),
    ast.RShift: (">>", "<<"),
}
UNWRAPPED = {"abs", "float", "int", "list", "round", "set", "sorted", "str", "tuple"}
NAMES = {"min": "max", "max": "min", "any": "all", "all": "any", "first": "last", "last": "first", "idxmax": "idxmin"}
ZONES = {"Europe/Paris": "UTC", "UTC": "Europe/Paris"}


class _Text:
    """Source text by the positions of the syntax tree, which counts lines and bytes."""

    def __init__(self, source: str) -> None:
        self.source = source
        self._lines = source.splitlines(keepends=True)
        self._begins = [0]
        for line in self._lines:
            self._begins.append(self._begins[-1] + len(line))

    def at(self, line: int, column: int) -> int:
        return self._begins[line - 1] + len(self._lines[line - 1].encode()[:column].decode())

    def span(self, node: ast.AST) -> tuple[int, int]:
        return self.at(node.lineno, node.col_offset), self.at(node.end_lineno, node.end_col_offset)

    def of(self, node: ast.AST) -> str:
        start, end = self.span(node)
        return self.source[start:end]

    def between(self, left: ast.AST, right: ast.AST, sign: str) -> tuple[int, int] | None:
        """Find where an operator stands between two operands."""
        start, end = self.span(left)[1], self.span(right)[0]
        pattern = r"\s+".join(map(re.escape, sign.split()))
        found = re.search(pattern, self.source[start:end])
        return (start + found.start(), start + found.end()) if found else None


def mutations(source: str) -> Iterator[Edit]:
    """Find the changes of a program.

    Raises:
        SyntaxError: it is not Python.
    """
    text, tree = _Text(source), ast.parse(source)
    left_out = _left_out(tree)
    for node in ast.walk(tree):
        if id(node) in left_out:
            continue
        for kind, find in _BY_NODE.items():
            if isinstance(node, kind):
                yield from find(text, node)


def _left_out(tree: ast.AST) -> set[int]:
    """List what is not mutated: types, docstrings, numbers that set a pace, the pieces of an f-string (one text)."""
    nodes: list[ast.AST] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.keyword) and node.arg in TUNING:
            nodes.append(node.value)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in PACED:
            nodes += node.args
        elif isinstance(node, ast.JoinedStr):
            nodes += [part for part in ast.walk(node) if part is not node]
        elif isinstance(node, ast.arg | ast.AnnAssign) and node.annotation:
            nodes.append(node.annotation)
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            nodes += [node, node.value]
    return {id(inner) for node in nodes for inner in ast.walk(node)}


def _compare(text: _Text, node: ast.Compare) -> Iterator[Edit]:
    for left, sign, right in zip([node.left, *node.comparators], node.ops, node.comparators, strict=False):
        old, others = COMPARISONS[type(sign)]
        if place := text.between(left, right, old):
            yield from (Edit(*place, other, "comparison") for other in others)


def _logic(text: _Text, node: ast.BoolOp) -> Iterator[Edit]:
    old, new = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
    for left, right in zip(node.values, node.values[1:], strict=False):
        if place := text.between(left, right, old):
            yield Edit(*place, new, "logic")
    for value in node.values:
        yield Edit(*text.span(value), "True" if old == "and" else "False", "condition")


def _negation(text: _Text, node: ast.UnaryOp) -> Iterator[Edit]:
    if isinstance(node.op, ast.Not | ast.USub):
        yield Edit(*text.span(node), text.of(node.operand), "not")


def _arithmetic(text: _Text, node: ast.BinOp) -> Iterator[Edit]:
    if type(node.op) in ARITHMETIC:
        old, new = ARITHMETIC[type(node.op)]
        if place := text.between(node.left, node.right, old):
            yield Edit(*place, new, "arithmetic")


def _constant(text: _Text, node: ast.Constant) -> Iterator[Edit]:
    place, value = text.span(node), node.value
    if isinstance(value, bool):
        yield Edit(*place, str(not value), "boolean")
    elif isinstance(value, int):
        yield from (Edit(*place, str(value + by), "number") for by in (1, -1))
    elif isinstance(value, float):
        yield from (Edit(*place, repr(round(value * by, 6)), "number") for by in (1.1, 0.9))
    elif isinstance(value, str):
        yield from _string(text, node)


def _string(text: _Text, node: ast.Constant | ast.JoinedStr) -> Iterator[Edit]:
    """Change SQL and cron lines by their own rules, in the text as written; else a zone, a moment, or another text."""
    start, end = text.span(node)
    raw = text.source[start:end]
    opened = re.match(r"[A-Za-z]*(\"\"\"|'''|\"|')", raw)
    if not opened or raw.count(opened[1]) < 2 or (isinstance(node, ast.Constant) and not node.value):
        return
    inside, begin = raw[opened.end() : -len(opened[1])], start + opened.end()
    if sql.is_sql(inside):
        yield from (edit.moved(begin) for edit in sql.mutations(inside))
    elif others := list(texts.find(inside)):
        yield from (edit.moved(begin) for edit in others)
    elif inside in ZONES:
        yield Edit(begin, begin + len(inside), ZONES[inside], "zone")
    elif isinstance(node, ast.Constant):
        yield Edit(begin, begin + len(inside), _later(inside) or inside + "x", "moment" if _later(inside) else "string")


def _later(moment: str) -> str | None:
    """Return a date or a moment one day later; None for another text."""
    if not re.match(r"\d{4}-\d\d-\d\d", moment):
        return None
    try:
        day = datetime.fromisoformat(moment[:10]) + timedelta(days=1)
    except ValueError:
        return None
    return f"{day:%Y-%m-%d}{moment[10:]}"


def _statement(text: _Text, node: ast.stmt) -> Iterator[Edit]:
    yield Edit(*text.span(node), "pass", "dropped statement")


def _return(text: _Text, node: ast.Return) -> Iterator[Edit]:
    if node.value:
        yield Edit(*text.span(node), "return None", "dropped statement")


def _condition(text: _Text, node: ast.If | ast.IfExp | ast.While) -> Iterator[Edit]:
    if isinstance(node, ast.While):
        return  # a loop that never begins or never ends finds itself
    for value in ("True", "False"):
        yield Edit(*text.span(node.test), value, "condition")


def _filter(text: _Text, node: ast.comprehension) -> Iterator[Edit]:
    for test in node.ifs:
        yield Edit(*text.span(test), "True", "filter")


def _call(text: _Text, node: ast.Call) -> Iterator[Edit]:
    given = [value for value in node.args if not isinstance(value, ast.Starred)]
    if len(given) == len(node.args) and len(given) > 1:
        first, second = given[:2]
        start, end = text.span(first)[0], text.span(second)[1]
        middle = text.source[text.span(first)[1] : text.span(second)[0]]
        yield Edit(start, end, text.of(second) + middle + text.of(first), "swapped arguments")
    for value in [*given[1:], *(word for word in node.keywords if word.arg and word.arg not in TUNING)]:
        yield _without(text, value)
    if isinstance(node.func, ast.Name) and node.func.id in UNWRAPPED and len(node.args) == 1 and not node.keywords:
        yield Edit(*text.span(node), text.of(node.args[0]), "unwrapped call")


def _without(text: _Text, argument: ast.AST) -> Edit:
    start, end = text.span(argument)
    if after := re.match(r"\s*,\s*", text.source[end:]):
        end += after.end()
    elif before := re.search(r",\s*$", text.source[:start]):
        start = before.start()
    return Edit(start, end, "", "dropped argument")


def _other_name(text: _Text, node: ast.FunctionDef | ast.Module) -> Iterator[Edit]:
    """Replace each use of a parameter by the next one, each attribute of an object by another that it is asked for."""
    names = [one.arg for one in node.args.args] if isinstance(node, ast.FunctionDef) else []
    attributes: dict[str, list[str]] = {}
    uses = [inner for inner in ast.walk(node) if isinstance(getattr(inner, "ctx", None), ast.Load)]
    for inner in uses:
        if isinstance(inner, ast.Name) and inner.id in names and len(names) > 1:
            yield Edit(*text.span(inner), names[(names.index(inner.id) + 1) % len(names)], "other name")
        if isinstance(inner, ast.Attribute) and isinstance(inner.value, ast.Name):
            attributes.setdefault(inner.value.id, []).append(inner.attr)
    called = {id(inner.func) for inner in ast.walk(node) if isinstance(inner, ast.Call)}
    for inner in uses:
        if isinstance(inner, ast.Attribute) and isinstance(inner.value, ast.Name) and id(inner) not in called:
            others = [name for name in dict.fromkeys(attributes[inner.value.id]) if name != inner.attr]
            end = text.span(inner)[1]
            yield from (Edit(end - len(inner.attr), end, other, "other name") for other in others[:1])


def _name(text: _Text, node: ast.Name | ast.Attribute) -> Iterator[Edit]:
    name = node.id if isinstance(node, ast.Name) else node.attr
    if name in NAMES:
        end = text.span(node)[1]
        yield Edit(end - len(name), end, NAMES[name], "name")


_BY_NODE = {
    ast.Compare: _compare,
    ast.BoolOp: _logic,
    ast.UnaryOp: _negation,
    ast.BinOp: _arithmetic,
    ast.Constant: _constant,
    ast.JoinedStr: _string,
    (ast.Expr, ast.Assign, ast.AugAssign, ast.Continue, ast.Break, ast.Raise): _statement,
    ast.Return: _return,
    (ast.If, ast.IfExp, ast.While): _condition,
    ast.comprehension: _filter,
    ast.Call: _call,
    (ast.FunctionDef, ast.Module): _other_name,
    (ast.Name, ast.Attribute): _name,
}
