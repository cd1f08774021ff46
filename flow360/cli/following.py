"""Let the business run, and follow what becomes of it in every layer."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Annotated, Any

import typer

from flow360.cli.application import app
from flow360.cli.common import Json, print_json
from flow360.errors import Exit, FlowError

PANEL = "The company and its data"
trace_app = typer.Typer(help="Where a thing is, in every layer, asked now.", no_args_is_help=True)
app.add_typer(trace_app, name="trace", rich_help_panel=PANEL)

command = partial(app.command, rich_help_panel=PANEL)


@command()
def play(
    day: Annotated[str, typer.Argument(help="2026-05-07, or any later day: the company goes on")],
    speed: Annotated[float | None, typer.Option(help="how much faster than life: 600 by itself, 0 is at once")] = None,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="ask for it, and do not watch")] = False,
) -> None:
    """Let the business run for a day: orders, payments, deliveries in the shop's database, its vans over MQTT.

    A day that was played is taken back and played again. Ctrl-C ends the watching, not the day; asking again goes on
    watching, at the speed that is asked for then.
    """
    from flow360.primeur import plays
    from flow360.stack.console import console

    asked = plays.play(day, plays.SPEED if speed is None else speed)
    if detach:
        said = f"{asked.day} is being played, its vans as {asked.run}: flow360 play {asked.day} watches it"
        console.print(said, soft_wrap=True)
        return
    hour = None
    try:
        with console.status(f"{asked.day}") as line:
            for state in asked.follow():
                line.update(f"{asked.day} {state}")
                if state.ended or (state.clock and state.clock.hour != hour):
                    hour = state.clock and state.clock.hour
                    console.print(str(state), soft_wrap=True)
    except KeyboardInterrupt:
        console.print(f"The day goes on: flow360 play {asked.day} watches it again, --speed 0 ends it", soft_wrap=True)
        raise
    for said in asked.result(state):
        console.print(said, soft_wrap=True)


@command()
def reconcile(day: Annotated[str, typer.Argument(help="a day that a night has brought, as 2026-05-07")]) -> None:
    """Compare a day's orders in every layer, from the shop to the mart, and show what became of each delivered row."""
    from flow360.primeur.clock import day_of
    from flow360.stack.console import console
    from flow360.storage.reconcile import reconcile as compare
    from flow360.storage.reconcile import summary

    try:
        wanted = day_of(day)
    except ValueError as error:
        raise FlowError(f"{day}: {error}", Exit.USAGE) from None
    found = compare(wanted)
    for row in found.frame().itertuples():
        console.print(f"{row.layer:<10} {row.orders:>8,} orders {row.euros:>14,.2f} EUR", soft_wrap=True)
    for said in (*summary(found), *found.differences):
        console.print(said, soft_wrap=True, markup=False)
    if found.differences:
        raise FlowError(f"{found.verdict}, see above")
    console.print(found.verdict, soft_wrap=True)


@trace_app.command("order")
def trace_order(
    number: Annotated[str, typer.Argument(help="the order's number, as 100933")], as_json: Json = False
) -> None:
    """Follow an order from the shop to the dashboard: where each layer has it, and what would bring it further."""
    from flow360.trace import orders

    _show_trace(orders.follow(number), as_json)


@trace_app.command("van")
def trace_van(
    van: Annotated[str, typer.Argument(help="the van's name, as VAN-03")],
    day: Annotated[str, typer.Option(help="the day of its tours, as 2026-05-07")],
    as_json: Json = False,
) -> None:
    """Follow a van's day from its tours to its readings, its alarms and the mart."""
    from flow360.trace import vans

    _show_trace(vans.follow(van, day), as_json)


@trace_app.command("sheet")
def trace_sheet(
    number: Annotated[str, typer.Argument(help="the product's number, as 101")], as_json: Json = False
) -> None:
    """Follow a product's sheet from the catalogue through Kafka to the rows that it becomes."""
    from flow360.trace import documents

    _show_trace(documents.follow("sheet", number), as_json)


@trace_app.command("review")
def trace_review(
    number: Annotated[str, typer.Argument(help="the review's number, as 1000183")], as_json: Json = False
) -> None:
    """Follow a review from the catalogue through Kafka to the rows that it becomes."""
    from flow360.trace import documents

    _show_trace(documents.follow("review", number), as_json)


def _show_trace(found: Any, as_json: bool) -> None:
    from flow360.stack.console import console, show
    from flow360.trace import drawing

    if as_json:
        print_json(drawing.plain(found))
        return
    show(drawing.table(found))
    for line in drawing.notes(found):
        console.print(line, soft_wrap=True, markup=False)


@command()
def lineage(
    mermaid: Annotated[bool, typer.Option("--mermaid", help="the picture, of what has moved something")] = False,
    record: Annotated[bool, typer.Option("--record", help="make it README's picture (maintainers)")] = False,
    as_json: Json = False,
) -> None:
    """Show which program carries what from where to where, when it last did, and how many rows in all that is kept."""
    from flow360.monitoring.lineage import graph, journal
    from flow360.stack.console import console

    found = journal.read()
    edges = graph.edges(found.events)
    moved = [edge.arrow for edge in edges if edge.last]
    if record:
        graph.record(moved)
        console.print(f"{graph.RECORDED}: {len(moved)} arrows; now flow360 generate", soft_wrap=True)
    elif mermaid:
        print(graph.mermaid(moved))
    elif as_json:
        print_json([dataclasses.asdict(edge) for edge in edges])
    else:
        for edge in edges:
            console.print(str(edge), soft_wrap=True, markup=False, highlight=False)
        if not edges:
            console.print("No program has carried anything yet: flow360 play 2026-05-07, or a night of Airflow's")
        if found.bad:
            said = f"{found.bad} lines of {journal.path()} are not events and were overlooked"
            console.print(said, soft_wrap=True, markup=False)
