"""The flow of data as a picture: where each place stands in it, and which way each arrow goes.

Places stand in columns, each to the right of all that it comes from, and within a column near what they hang together
with. The template draws what is found here; the table beside the picture says the same in words.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from flow360.monitoring.lineage.graph import Edge

WIDTH, HEIGHT, ACROSS, BETWEEN = 170, 60, 98, 12
"""Of a place, and the room between columns and between places; the unit is that of 13 px text."""
FRESH = timedelta(minutes=2)
"""So long after it moved something an arrow counts as at work: carriers that stay write down once a minute at most."""


@dataclass(frozen=True)
class Place:
    """A place of data, or a program that makes some, with the corner of its box.

    Attributes:
        state: of what comes to it: fresh, moved, still (nothing yet); of what nothing comes to, of what leaves it.
        said: when something came last, and how many rows in all; "" where nothing did.
    """

    name: str
    service: str
    x: float
    y: float
    state: str
    said: str


@dataclass(frozen=True)
class Line:
    """An arrow: its path as SVG has it, where its program's name stands, and what it said last."""

    path: str
    program: str
    x: float
    y: float
    state: str
    said: str


@dataclass(frozen=True)
class Picture:
    width: float
    height: float
    places: list[Place]
    lines: list[Line]


def picture(edges: Sequence[Edge], now: datetime | None = None) -> Picture:
    """Lay the arrows out, the same for the same arrows."""
    now = now or datetime.now(UTC)
    ways = [(_ends(edge), edge) for edge in edges]
    columns = _ordered(_columns([ends for ends, _ in ways]), [ends for ends, _ in ways])
    rows = max((len(column) for column in columns), default=0)
    height = rows * (HEIGHT + BETWEEN) - BETWEEN
    where: dict[str, tuple[float, float]] = {}
    for number, column in enumerate(columns):
        step = height / len(column)  # a short column spreads over the whole height
        for row, name in enumerate(column):
            where[name] = number * (WIDTH + ACROSS), step * (row + 0.5) - HEIGHT / 2
    into: dict[str, list[Edge]] = defaultdict(list)
    out: dict[str, list[Edge]] = defaultdict(list)
    for (start, end), edge in ways:
        out[start].append(edge)
        into[end].append(edge)
    places = [_place(name, x, y, into[name], out[name], now) for name, (x, y) in where.items()]
    lines = [_line(where[start], where[end], edge, now) for (start, end), edge in ways]
    width = len(columns) * (WIDTH + ACROSS) - ACROSS
    return Picture(max(width, 0), max(height, 0), places, sorted(lines, key=lambda line: line.state, reverse=True))


def _place(name: str, x: float, y: float, into: list[Edge], out: list[Edge], now: datetime) -> Place:
    service, _, rest = name.rpartition(": ")
    if rest == "/":  # an API's root: its service says more
        service, rest = "", service
    last = max((edge.last for edge in into if edge.last), default=None)
    rows = [edge.rows for edge in into if edge.rows is not None]
    said = "" if last is None else f"{last:%H:%M:%S}" if now - last < timedelta(hours=12) else f"{last:%d %b %H:%M}"
    if last and rows:
        said += f", {sum(rows):,} rows"
    return Place(rest, service, x, y, min(_state(edge, now) for edge in into or out), said)


def _ends(edge: Edge) -> tuple[str, str]:
    """Name both ends; a program that makes something, or only reads it, stands where there is no place."""
    one = edge.arrow
    return one.source or one.program, one.target or one.program


def _state(edge: Edge, now: datetime) -> str:
    """Say fresh, moved or still: in this order, which is the alphabet's, the livelier one wins."""
    if edge.last is None:
        return "still"
    return "fresh" if now - edge.last < FRESH else "moved"


def _columns(ways: Iterable[tuple[str, str]]) -> list[list[str]]:
    """Put each place to the right of all that it comes from; what closes a circle is overlooked."""
    after: dict[str, list[str]] = defaultdict(list)
    for start, end in ways:
        after[start].append(end)
        after[end] += []
    column = dict.fromkeys(after, 0)
    order: list[str] = []
    forward: set[tuple[str, str]] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        for end in after[name]:
            if end not in (*path, name):
                forward.add((name, end))
                if end not in order and end not in path:
                    visit(end, (*path, name))
        if name not in order:
            order.append(name)

    for name in sorted(after):
        if name not in order:
            visit(name, ())
    for name in reversed(order):
        for end in after[name]:
            if (name, end) in forward:
                column[end] = max(column[end], column[name] + 1)
    for name in order:  # and as near to what comes of it as that allows: the shorter the arrows, the fewer cross
        if near := [column[end] for end in after[name] if (name, end) in forward]:
            column[name] = min(near) - 1
    found: list[list[str]] = [[] for _ in range(max(column.values(), default=-1) + 1)]
    for name in sorted(column):
        found[column[name]].append(name)
    return [some for some in found if some]


def _ordered(columns: list[list[str]], ways: Sequence[tuple[str, str]]) -> list[list[str]]:
    """Order each column by the places that its own hang together with, a few times to and fro."""
    near: dict[str, list[str]] = defaultdict(list)
    for start, end in ways:
        near[start].append(end)
        near[end].append(start)
    for _ in range(4):
        for column in (*columns, *reversed(columns)):
            height = {name: (row + 0.5) / len(some) for some in columns for row, name in enumerate(some)}

            def mean(name: str, height: dict[str, float] = height) -> float:
                return sum(height[one] for one in near[name]) / len(near[name])

            column.sort(key=lambda name: (mean(name), name))
    return columns


def _line(start: tuple[float, float], end: tuple[float, float], edge: Edge, now: datetime) -> Line:
    x, y = start[0] + WIDTH, start[1] + HEIGHT / 2
    to_x, to_y = end[0], end[1] + HEIGHT / 2
    bend = max((to_x - x) / 2, ACROSS / 2)
    path = f"M{x:g} {y:.1f}C{x + bend:g} {y:.1f} {to_x - bend:g} {to_y:.1f} {to_x:g} {to_y:.1f}"
    shown = edge.arrow.program if edge.arrow.source and edge.arrow.target else ""
    return Line(path, shown, to_x - ACROSS / 2 + 4, y + (to_y - y) * 0.55, _state(edge, now), said(edge))


def said(edge: Edge) -> str:
    """Say in a line what an arrow moved last."""
    way = " → ".join(part for part in (edge.arrow.source, edge.arrow.program, edge.arrow.target) if part)
    if edge.last is None:
        return f"{way}: nothing yet"
    rows = "" if edge.rows is None else f", {edge.rows:,} rows in all"
    return f"{way}: last on {edge.last:%d %b at %H:%M:%S} UTC{rows}"
