"""A trace as people read it: a table, a Mermaid drawing; and as programs do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flow360.trace.way import DOWN, MISSING, NONE, THERE, Step, Trace

if TYPE_CHECKING:
    import pandas as pd
    from rich.table import Table

COLUMNS = ("hop", "", "where", "what", "later by")
MARKS = {THERE: "✓", MISSING: "–", NONE: "·", DOWN: "✗"}
LEGEND = "✓ there   – not there yet   · need not be there   ✗ the layer does not answer"
LATER = "later by: since the hop that it came from, by the layers' own clocks"
AGAIN = "; with a minus: that hop has been written again since"


def notes(trace: Trace) -> list[str]:
    """List what is said below the table: its marks, and of each program that would bring something whether it runs."""
    programs = dict.fromkeys(f"{step.hop.by} {step.program}" for step in trace.steps if step.program)
    again = AGAIN if any(step.seconds is not None and step.seconds < 0 for step in trace.steps) else ""
    return [*programs, LEGEND, LATER + again]


def lapse(step: Step, trace: Trace) -> str:
    """Say how long after the hop before a thing came, or why nobody can say."""
    if step.state != THERE or not step.hop.after:
        return ""
    if step.seconds is not None:
        return f"{step.seconds:+,.1f} s"
    return "no time kept" if step.at is None else "no time before"


def lines(trace: Trace) -> list[tuple[str, str, str, str, str]]:
    """List the rows of the table, as `COLUMNS`: one for each place, and one for a hop without any."""
    found = []
    for step in trace.steps:
        for number, place in enumerate(step.places):
            first = (step.hop.name, MARKS[step.state]) if number == 0 else ("", "")
            found.append((*first, place.where, place.what, lapse(step, trace) if number == 0 else ""))
        if not step.places:
            found.append((step.hop.name, MARKS[step.state], "", step.said, ""))
    return found


def title(trace: Trace) -> str:
    """Write the question that the trace answers."""
    return f"Where is {trace.thing} now?"


def table(trace: Trace) -> Table:
    """Draw the trace for a terminal."""
    from rich.table import Table
    from rich.text import Text

    made = Table(
        box=None, pad_edge=False, header_style="bold", title=title(trace), title_justify="left", title_style=""
    )
    for name in COLUMNS:
        made.add_column(name or "", overflow="fold", justify="right" if name == COLUMNS[-1] else "left")
    for line in lines(trace):
        made.add_row(*(Text(cell) for cell in line))
    return made


def frame(trace: Trace) -> pd.DataFrame:
    """Make the trace a table for a notebook."""
    import pandas as pd

    return pd.DataFrame(lines(trace), columns=COLUMNS)


def mermaid(trace: Trace) -> str:
    """Draw the trace as a flowchart: an arrow is named by the program that carries, dashed is what is not there."""
    drawn = ["flowchart LR", "    classDef away stroke-dasharray: 4 4, opacity: 0.6"]
    ids = {step.hop.name: f"hop{number}" for number, step in enumerate(trace.steps)}
    for step in trace.steps:
        text = [step.hop.name, *(place.where for place in step.places[:2])]
        if len(step.places) > 2:
            text.append(f"and {len(step.places) - 2} more")
        label = "<br/>".join(_plain(part) for part in text)
        drawn.append(f'    {ids[step.hop.name]}["{label}"]' + ("" if step.state == THERE else ":::away"))
        if step.hop.after:
            seconds = "" if step.seconds is None else f"{step.seconds:+,.1f} s"
            said = _plain(", ".join(filter(None, (step.hop.by, seconds))))
            arrow = "-->" if step.state == THERE else "-.->"
            label = f'|"{said}"|' if said else ""
            drawn.append(f"    {ids[step.hop.after]} {arrow}{label} {ids[step.hop.name]}")
    return "\n".join(drawn)


def _plain(text: str) -> str:
    """Escape a text so that it ends no label of Mermaid's, and a narrow box can break it."""
    for plain, written in {"&": "&amp;", '"': "&quot;", "<": "&lt;", ">": "&gt;", "/": "/\u200b"}.items():
        text = text.replace(plain, written)
    return text


def plain(trace: Trace) -> dict[str, Any]:
    """Return the trace for programs."""
    thing = trace.thing
    return {
        "kind": thing.kind,
        "key": thing.key,
        "day": thing.known.get("day"),
        "hops": [
            {
                "hop": step.hop.name,
                "after": step.hop.after or None,
                "service": step.hop.service or None,
                "by": step.hop.by or None,
                "state": step.state,
                "said": step.said or None,
                "program": step.program or None,
                "seconds": step.seconds,
                "places": [{"where": one.where, "what": one.what, "at": one.at} for one in step.places],
            }
            for step in trace.steps
        ],
    }
