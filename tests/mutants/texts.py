"""Mutants of what is neither Python nor SQL: YAML, JSON, PromQL, a Dockerfile, a cron line, a policy of Vault."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from tests.mutants.edits import Edit

CRON = re.compile(r"[\d*/,-]+( [\d*/,\-A-Za-z]+){4}")
SIGNS = {"<": ("<=", ">"), "<=": ("<",), ">": (">=", "<"), ">=": (">",), "==": ("!=",), "!=": ("==",)}
PROMQL = {
    "rate": "irate",
    "increase": "rate",
    "sum": "avg",
    "avg": "sum",
    "max": "min",
    "min": "max",
    "by": "without",
    "and": "or",
    "or": "and",
    "unless": "and",
}
DURATION = re.compile(r"(?<![\w.])(\d+)(ms|s|m|h|d)\b")
PATH = re.compile(r'^\s*path\s+"(?P<path>[^"]+)"\s*\{\s*capabilities\s*=\s*\[(?P<may>[^\]]*)\]\s*\}[^\n]*\n?', re.M)
CAPABILITIES = ("create", "read", "update", "delete", "list")
NUMBER = re.compile(r"(?<![\w.:@-])\d+(\.\d+)?(?![\w.:])")


def find(text: str) -> Iterator[Edit]:
    """Find the changes of a text that is neither Python nor SQL, by what it looks like; none for a plain text."""
    if is_cron(text):
        return cron(text)
    if PATH.search(text):
        return policy(text)
    if re.search(r"^FROM \S+", text, re.M):
        return dockerfile(text)
    if text.count("\n") > 2 and re.search(r"^\s*[\w\"-]+:", text, re.M):
        return lines(text)
    if re.search(r"\w\[\d+[smhd]\]|^\s*(sum|avg|max|min|histogram_quantile|rate|increase)\b.*\(", text):
        return promql(text)
    return iter(())


def is_cron(text: str) -> bool:
    """Say whether a text is a cron line of five fields."""
    return bool(CRON.fullmatch(text.strip()))


def cron(text: str) -> Iterator[Edit]:
    """Change each field's number to one more and one less; a star to a single value that narrows it."""
    narrower = ("0", "0", "1-28", "1-11", "1-5")
    for found, narrow in zip(re.finditer(r"\S+", text), narrower, strict=False):
        if found[0].isdigit():
            yield from (Edit(found.start(), found.end(), str(max(0, int(found[0]) + by)), "cron") for by in (1, -1))
            yield Edit(found.start(), found.end(), "*", "cron")
        elif found[0] == "*":
            yield Edit(found.start(), found.end(), narrow, "cron")


def lines(text: str) -> Iterator[Edit]:
    """Drop each line, add one to each number, turn each truth: for YAML and JSON, which break where it hurts."""
    begin = 0
    for line in text.splitlines(keepends=True):
        if line.strip() and not line.lstrip().startswith(("#", "{", "}", "[", "]")):
            yield Edit(begin, begin + len(line), "", "dropped line")
        begin += len(line)
    yield from _numbers(text)
    for found in re.finditer(r"\b(true|false)\b", text):
        yield Edit(found.start(), found.end(), "false" if found[0] == "true" else "true", "boolean")


def _numbers(text: str) -> Iterator[Edit]:
    for found in NUMBER.finditer(text):
        number = found[0]
        more = str(int(number) + 1) if number.isdigit() else repr(round(float(number) * 1.1, 6))
        yield Edit(found.start(), found.end(), more, "number")
    for found in DURATION.finditer(text):
        yield Edit(found.start(1), found.end(1), str(int(found[1]) * 2), "duration")


def promql(text: str) -> Iterator[Edit]:
    """Change comparisons, functions and aggregations, labels, numbers and ranges."""
    for found in re.finditer(r"[<>=!]=|(?<![=!~<>])[<>](?!=)", text):
        yield from (Edit(found.start(), found.end(), new, "comparison") for new in SIGNS[found[0]])
    for found in re.finditer(r"\b[a-z_]+\b(?=\s*\(|\s+on\b|\s)", text):
        if found[0] in PROMQL:
            yield Edit(found.start(), found.end(), PROMQL[found[0]], "aggregate")
    for found in re.finditer(r'\w+\s*(=~|!~|!=|=)\s*"[^"]*"\s*,?\s*', text):
        yield Edit(found.start(), found.end(), "", "filter")
    yield from _numbers(text)


def policy(text: str) -> Iterator[Edit]:
    """Drop each rule; widen and narrow its path, take the values' for the names'; drop and replace each capability."""
    for rule in PATH.finditer(text):
        path, (begin, end) = rule["path"], rule.span("path")
        yield Edit(rule.start(), rule.end(), "", "dropped line")
        others = {path.rstrip("*"), path.replace("/*", "*"), path.replace("*", "+"), path.rstrip("*") + "*"}
        others |= {path.replace("/data/", "/metadata/"), path.replace("/metadata/", "/data/")}
        yield from (Edit(begin, end, other, "path") for other in sorted(others - {path}))
        may = re.findall(r"\w+", rule["may"])
        if may == ["deny"]:  # as none would do
            continue
        kept = [[one for one in may if one != gone] for gone in may]
        for new in (*kept, *([*may, more] for more in CAPABILITIES if more not in may)):
            yield Edit(*rule.span("may"), ", ".join(f'"{one}"' for one in new), "capability")


def dockerfile(text: str) -> Iterator[Edit]:
    """Drop each instruction, and let each change places with the next."""
    whole = list(re.finditer(r"^(?:[^\n]*\\\n)*[^\n]+\n?", text, re.M))
    for here in whole:
        if here[0].split()[0].isupper():
            yield Edit(here.start(), here.end(), "", "dropped line")
    for here, after in zip(whole, whole[1:], strict=False):
        if here.end() == after.start() and "FROM" not in (here[0][:4], after[0][:4]):
            first, second = (one if one.endswith("\n") else one + "\n" for one in (here[0], after[0]))
            yield Edit(here.start(), after.end(), second + first, "order")


BY_NAME: dict[str, Callable[[str], Iterator[Edit]]] = {
    ".yml": lines,
    ".yaml": lines,
    ".json": lines,
    ".promql": promql,
    "Dockerfile": dockerfile,
}
