"""Mutants of SQL, token by token: sqlglot reads the tokens, so a piece of an f-string or with %s in it will do.

Operators: comparison, logic, not, join, filter, distinct, aggregate, cast, zone, number, order, set (union), conflict,
moment, string.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date, timedelta

from sqlglot.dialects.postgres import Postgres
from sqlglot.errors import TokenError
from sqlglot.tokens import Token, TokenType

from tests.mutants.edits import Edit

BEGINS = re.compile(r"\s*(select|with|insert|update|delete|where|from|copy|create|truncate|merge|on conflict)\b", re.I)
SWAPS = {
    "comparison": {
        "<": ("<=", ">="),
        "<=": ("<", ">"),
        ">": (">=", "<="),
        ">=": (">", "<"),
        "=": ("<>",),
        "<>": ("=",),
    },
    "logic": {"and": ("or",), "or": ("and",)},
    "aggregate": {
        "min": ("max",),
        "max": ("min",),
        "avg": ("sum",),
        "sum": ("avg",),
        "count": ("max",),
        "first_value": ("last_value",),
        "row_number": ("rank",),
        "lag": ("lead",),
        "lead": ("lag",),
        "percentile_cont": ("percentile_disc",),
        "floor": ("ceil",),
        "ceil": ("floor",),
        "round": ("floor",),
    },
    "order": {"desc": ("asc",), "asc": ("desc",)},
    "join": {"left": ("inner",), "full": ("left",), "right": ("inner",)},
    "filter": {"intersect": ("union",), "except": ("union",)},
}
DROPPED = {"distinct": "distinct", "not": "not"}
ZONES = re.compile(r"Europe/Paris|UTC|\+00(:00)?\b")
NEXT_CLAUSE = {"group by", "order by", "limit", "having", "window", "union", "returning", "on", ";"}


def is_sql(text: str) -> bool:
    """Say whether a text begins as SQL does."""
    return bool(BEGINS.match(text))


def mutations(text: str) -> Iterator[Edit]:
    """Find the changes of a statement, or of a piece of one."""
    try:
        tokens = Postgres().tokenize(text)
    except TokenError:
        return
    words = [token.text.lower() for token in tokens]
    for at, (token, word) in enumerate(zip(tokens, words, strict=True)):
        if not (word == "=" and _assigns(words, at)):
            yield from _swapped(text, token, word)
        if word == "where":
            yield from _filter(text, tokens, words, at)
        if token.token_type is TokenType.DCOLON and at + 1 < len(tokens):
            yield Edit(token.start, tokens[at + 1].end + 1, "", "cast")
        if token.token_type is TokenType.NUMBER and word.isdigit():
            yield from (Edit(token.start, token.end + 1, str(int(word) + by), "number") for by in (1, -1))
        if token.token_type is TokenType.STRING:
            yield from _literal(text, token)
        if word == "order by":
            yield from _descending(tokens, words, at)
        if word == "union" and words[at + 1 : at + 2] != ["all"]:
            yield Edit(token.end + 1, token.end + 1, " all", "set")
        if word == "all" and words[at - 1] == "union":
            yield Edit(token.start, token.end + 1, "", "set")
        if word == "do" and words[at + 1 : at + 2] == ["update"]:
            yield Edit(tokens[at + 1].start, tokens[_until(words, at + 1)].end + 1, "nothing", "conflict")
            yield from _assignments(tokens, words, at + 3)
        if word == "on" and words[at + 1 : at + 2] == ["conflict"] and words[at + 2 : at + 4] == ["do", "nothing"]:
            yield Edit(token.start, tokens[at + 3].end + 1, "", "conflict")


def _assigns(words: list[str], at: int) -> bool:
    """Say whether the `=` there belongs to a `set` and is not a comparison."""
    before = words[:at]
    return "set" in before and "where" not in before[before.index("set") :]


def _swapped(text: str, token: Token, word: str) -> Iterator[Edit]:
    there = text[token.start : token.end + 1]
    for operator, swaps in SWAPS.items():
        for new in swaps.get(there.lower(), ()):
            yield Edit(token.start, token.end + 1, new, operator)
    if word in DROPPED:
        yield Edit(token.start, token.end + 1, "", DROPPED[word])


def _until(words: list[str], at: int) -> int:
    """Find the last token of what begins at `at`: before the parenthesis that closes around it, or the next clause."""
    depth = 0
    for here in range(at, len(words)):
        depth += (words[here] == "(") - (words[here] == ")")
        if depth < 0 or (depth == 0 and here > at and words[here] in NEXT_CLAUSE):
            return here - 1
    return len(words) - 1


def _filter(text: str, tokens: list[Token], words: list[str], at: int) -> Iterator[Edit]:
    """Drop the whole condition, and each part of it that stands beside an `and`."""
    last = _until(words, at + 1) if at + 1 < len(words) else at
    if last <= at:
        return
    yield Edit(tokens[at + 1].start, tokens[last].end + 1, "true", "filter")
    depth, cuts, between = 0, [at], False
    for here in range(at + 1, last + 1):
        depth += (words[here] in ("(", "case")) - (words[here] in (")", "end"))
        between = between or words[here] == "between"
        if depth == 0 and words[here] == "and":
            if not between:
                cuts.append(here)
            between = False
    if len(cuts) == 1:
        return
    for first, after in zip(cuts, [*cuts[1:], last + 1], strict=True):
        yield Edit(tokens[first + 1].start, tokens[after - 1].end + 1, "true", "filter")


def _literal(text: str, token: Token) -> Iterator[Edit]:
    """Put another zone, the next day, or another text."""
    inside = text[token.start : token.end + 1]
    if day := re.search(r"\d{4}-\d\d-\d\d", inside):
        later = (date.fromisoformat(day[0]) + timedelta(days=1)).isoformat()
        yield Edit(token.start + day.start(), token.start + day.end(), later, "moment")
    elif not ZONES.search(inside) and inside.endswith("'"):
        yield Edit(token.end, token.end, "x", "string")
    for found in ZONES.finditer(inside):
        other = {"Europe/Paris": "UTC", "UTC": "Europe/Paris"}.get(found[0], "+01")
        yield Edit(token.start + found.start(), token.start + found.end(), other, "zone")


def _descending(tokens: list[Token], words: list[str], at: int) -> Iterator[Edit]:
    last = _until(words, at + 1)
    stop = next((here for here in range(at + 1, last + 1) if words[here] in (",", "rows", "range")), last + 1)
    if stop > at + 1 and words[stop - 1] not in ("asc", "desc"):
        yield Edit(tokens[stop - 1].end + 1, tokens[stop - 1].end + 1, " desc", "order")


def _assignments(tokens: list[Token], words: list[str], at: int) -> Iterator[Edit]:
    """Drop each `column = value` of a `set`, where others remain."""
    last = _until(words, at - 1) if at - 1 < len(words) else at
    depth, cuts = 0, [at - 1]
    for here in range(at, last + 1):
        depth += (words[here] == "(") - (words[here] == ")")
        if depth == 0 and words[here] == ",":
            cuts.append(here)
    if len(cuts) == 1:
        return
    for number, cut in enumerate(cuts):
        after = cuts[number + 1] if number + 1 < len(cuts) else last + 1
        start = tokens[cut].start if number else tokens[cut + 1].start
        end = tokens[after - 1].end + 1 if number else tokens[after].end + 1
        yield Edit(start, end, "", "conflict")
