"""The arrows that the events add up to, and their picture: which program carries what from which place to which.

An arrow goes from place to place (`Dataset.place`): from one schema to another, not from table to table. What README
shows is `recorded()`: a file in git, of names alone. Tests ask that each arrow in it moved data in their run.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from flow360 import files
from flow360.monitoring.lineage.names import Dataset

RECORDED = Path(__file__).with_name("picture.json")
KINDS = {"mqtt": '(["{}"])', "http": '(["{}"])', "file": '[/"{}"/]', "kafka": '[["{}"]]'}
TABLES = '[("{}")]'
NOTHING = "nothing"
"""In the place of a number of rows, where None says that nobody has counted."""


@dataclass(frozen=True, order=True)
class Arrow:
    """A program that carries something; `source` or `target` is "" where it makes it, or only reads it."""

    source: str
    program: str
    target: str


@dataclass(frozen=True)
class Edge:
    """What is known of an arrow.

    Attributes:
        last: when it last moved something, UTC; None: it never did.
        rows: how many that were, in all events that are kept; None where nobody has counted rows.
    """

    arrow: Arrow
    last: datetime | None = None
    rows: int | None = None

    def __str__(self) -> str:
        when = f"{self.last:%Y-%m-%d %H:%M:%S}" if self.last else "never"
        rows = "" if self.rows is None else f"{self.rows:,} rows"
        one = self.arrow
        way = " -> ".join(part for part in (one.source, one.program, one.target) if part)
        return f"{when:<19} {rows:>16}  {way}"


def edges(events: Iterable[Mapping[str, Any]]) -> list[Edge]:
    """List the arrows of these events, in the order of their names. One within a place is none."""
    found: dict[Arrow, Edge] = {}
    read: dict[str, set[str]] = {}  # by run: where a stream has read from; what comes of it may come a while later
    for event in events:
        if event.get("eventType") in ("COMPLETE", "RUNNING"):
            for arrow, rows in _moved(event, read.setdefault(event["run"]["runId"], set())).items():
                edge = found.setdefault(arrow, Edge(arrow))
                found[arrow] = edge if rows == NOTHING else _later(edge, rows, _moment(event))
    return [found[arrow] for arrow in sorted(found)]


def moved(events: Iterable[Mapping[str, Any]]) -> set[Arrow]:
    """Return the arrows that moved something in these events."""
    return {edge.arrow for edge in edges(events) if edge.last}


def _later(edge: Edge, rows: int | None, when: datetime) -> Edge:
    total = edge.rows if rows is None else (edge.rows or 0) + rows
    return replace(edge, last=max(edge.last or when, when), rows=total)


def _moment(event: Mapping[str, Any]) -> datetime:
    return datetime.fromisoformat(event["eventTime"])


def _moved(event: Mapping[str, Any], read: set[str]) -> dict[Arrow, Any]:
    """Return arrow -> rows that came to its target; None if they were not counted, or `NOTHING`.

    Args:
        read: the places that the run has read from so far; those of this event are added.
    """
    program = event["job"]["name"].partition(".")[0]
    inputs, outputs = _places(event, "input"), _places(event, "output")
    read |= {place for place, given in inputs.items() if given != NOTHING}
    found: dict[Arrow, Any] = {}
    for source, given in (inputs or {"": None}).items():
        for target, taken in (outputs or {"": given}).items():
            if source != target:
                found[Arrow(source, program, target)] = NOTHING if source and source not in read else taken
    return found


def _places(event: Mapping[str, Any], way: str) -> dict[str, Any]:
    """Return place -> rows of its datasets, None or `NOTHING`."""
    found: dict[str, Any] = {}
    for one in event.get(f"{way}s", []):
        place = Dataset(one["namespace"], one["name"]).place
        found[place] = _sum(found.get(place, NOTHING), _amount(one, way))
    return found


def _amount(dataset: Mapping[str, Any], way: str) -> Any:
    counts = dataset.get(f"{way}Facets", {}).get(f"{way}Statistics", {})
    rows, size = counts.get("rowCount"), counts.get("size")
    if rows is not None:
        return rows or NOTHING
    # An output into which nobody has counted anything got nothing; an input was read.
    return None if size or way == "input" else NOTHING


def _sum(first: Any, second: Any) -> Any:
    known = [one for one in (first, second) if one != NOTHING]
    if not known:
        return NOTHING
    counted = [one for one in known if one is not None]
    return sum(counted) if counted else None


# --- The picture ------------------------------------------------------------------------------------------------------


def mermaid(arrows: Collection[Arrow]) -> str:
    """Draw the arrows as a Mermaid flowchart, the same for the same arrows whatever their order."""
    shapes: dict[str, str] = {}
    lines = []
    for arrow in sorted(set(arrows)):
        ends = []
        for place, verb in ((arrow.source, "from"), (arrow.target, "to")):
            name = _id(place) if place else f"{_id(arrow.program)}_{verb}"
            shapes[name] = _shape(place) if place else f'{{{{"{arrow.program}"}}}}'
            ends.append(name)
        label = f'|"{arrow.program}"|' if arrow.source and arrow.target else ""
        lines.append(f"    {ends[0]} -->{label} {ends[1]}")
    return "\n".join(["flowchart LR", *(f"    {name}{shape}" for name, shape in sorted(shapes.items())), *lines])


def _id(text: str) -> str:
    return re.sub(r"\W+", "_", text).strip("_")


def _shape(place: str) -> str:
    service, _, name = place.partition(": ")
    kind = {"mosquitto": "mqtt", "market-api": "http"}.get(service, service)
    return KINDS.get(kind, TABLES).format(f"{service}<br/>{name}")


def recorded() -> set[Arrow]:
    """Read the arrows of README's picture."""
    return {Arrow(*one) for one in json.loads(RECORDED.read_text("utf-8"))}


def record(arrows: Collection[Arrow]) -> None:
    """Write them down as those of README's picture (a maintainer's command: `flow360 lineage --record`)."""
    lines = [json.dumps([one.source, one.program, one.target]) for one in sorted(set(arrows))]
    files.write(RECORDED, "[\n " + ",\n ".join(lines) + "\n]\n")
