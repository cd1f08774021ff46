"""Start services, look at them, stop them."""

from __future__ import annotations

import contextlib
import dataclasses
import signal
import subprocess
from collections.abc import Iterator
from functools import partial
from typing import Annotated

import typer

from flow360.cli.application import app
from flow360.cli.common import Engine, Json, Names, Yes, course, lay_out_desk, print_json, say_address, token
from flow360.errors import Exit, FlowError

PANEL = "Services"
command = partial(app.command, rich_help_panel=PANEL)


@command()
def up(names: Names = None, engine: Engine = None) -> None:
    """Start services and wait until each answers. Without a name: JupyterLab and Primeur's databases."""
    from flow360.course import desk
    from flow360.course.services import resolve
    from flow360.stack import open_stack
    from flow360.stack.console import Reporter, console
    from flow360.stack.status import Event

    stack = open_stack(engine)
    wanted = resolve(names or [*desk.services(), "primeur-load"])
    chapters = [found for name in names or () if (found := course().find(name))]
    if chapters:
        wanted = list(dict.fromkeys([*desk.services(), *wanted]))  # a chapter is read at the desk
    if chapters or not names or "jupyterlab" in wanted:
        lay_out_desk(console)
    reporter = Reporter()
    lesson = chapters[-1].lesson if chapters else None

    def hear(event: Event) -> None:
        reporter(event)
        if event.service == "jupyterlab" and event.state == "running" and len(wanted) > 1:
            say_address(console, lesson)  # it can be read while the others start

    try:
        with reporter:
            stack.up(wanted, hear, names)
    finally:  # also when something else could not be started
        if "jupyterlab" in reporter.running or (lesson and desk.at_the_hub()):
            say_address(console, lesson)
    if not names:
        with Reporter() as reporter:
            stack.fetch([s for c in course().chapters for s in c.services], reporter)
        console.print("Everything that the chapters need is on this machine. `flow360 down` stops it all.")


@command()
def down(names: Names = None, engine: Engine = None) -> None:
    """Stop services and what depends on them; without a name, all. Data stays."""
    from flow360.course.services import resolve
    from flow360.stack import open_stack
    from flow360.stack.console import Reporter

    with _deaf_to_hangup(), Reporter() as reporter:
        open_stack(engine).down(resolve(names) if names else None, reporter)


@contextlib.contextmanager
def _deaf_to_hangup() -> Iterator[None]:
    """Let a terminal that closes meanwhile, as one of JupyterLab does when that is stopped, leave nothing half-done."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)


@command()
def status(
    names: Names = None,
    every: Annotated[bool, typer.Option("--all", help="also what is stopped")] = False,
    engine: Engine = None,
    as_json: Json = False,
) -> None:
    """Show what runs: state, what it really is (real, stand-in, compose only), port, memory (PSS), link."""
    from flow360.course.services import resolve
    from flow360.stack import open_stack
    from flow360.stack.console import console, links, show, status_table

    rows = open_stack(engine).status()
    if names:
        wanted = resolve(names)
        rows = [row for row in rows if row.name in wanted]
    if as_json:
        print_json([dataclasses.asdict(row) for row in rows])
        return
    shown = [row for row in rows if names or every or row.state != "stopped"]
    if shown:
        show(status_table(shown))
    for line in links(shown, token()):
        console.print(line, soft_wrap=True)
    if len(rows) > len(shown):
        console.print(f"{len(rows) - len(shown)} stopped: `flow360 status --all` lists them too")


@command()
def logs(
    service: str,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="go on printing")] = False,
    lines: Annotated[int, typer.Option("-n", "--lines", min=1)] = 50,
    engine: Engine = None,
) -> None:
    """Print the end of a service's log."""
    from flow360.stack import open_stack

    service = service.lower()
    stack = open_stack(engine)
    if follow:
        command = stack.follow_command(service)
        try:
            code = subprocess.run(command, check=False).returncode
        except KeyboardInterrupt:
            return
        except FileNotFoundError:
            missing = Exit.DOCKER if command[0] == "docker" else Exit.FAILED
            raise FlowError(f"{command[0]} is not installed: take another --engine", missing) from None
        if code:
            # A signal is reported as shells report it.
            raise typer.Exit(code if code > 0 else 128 - code)
    else:
        text = stack.logs(service, lines)
        print(text or f"{service} has no log yet")


@command()
def doctor(names: Names = None, engine: Engine = None, as_json: Json = False) -> None:
    """Look at this machine: each finding names its fix. Exits with the first blocker's code."""
    from flow360.course.services import resolve, together
    from flow360.stack import doctor as checks
    from flow360.stack import open_stack
    from flow360.stack.console import console

    stack = open_stack(engine)
    findings = checks.examine(stack, resolve(names) if names else None, together())
    if as_json:
        print_json([dataclasses.asdict(finding) for finding in findings])
    else:
        marks = {"ok": "[green]ok     [/]", "warning": "[yellow]warning[/]", "blocker": "[red]blocker[/]"}
        for finding in findings:
            fix = f"\n                    [bold]→ {finding.fix}[/]" if finding.fix else ""
            console.print(f"{marks[finding.level]} {finding.check:<11} {finding.message}{fix}", soft_wrap=True)
    blocker = next((finding for finding in findings if finding.level == "blocker"), None)
    if blocker:
        raise typer.Exit(int(blocker.code))


@command()
def reset(
    services: Annotated[list[str], typer.Argument(help="whose data to remove")],
    yes: Yes = False,
    engine: Engine = None,
) -> None:
    """Stop services and remove their data. Touches nothing of other projects."""
    from flow360.course.services import resolve
    from flow360.stack import open_stack
    from flow360.stack.console import Reporter

    stack = open_stack(engine)
    wanted = resolve(services)
    if not yes:
        typer.confirm(f"Remove the data of {', '.join(wanted)}?", abort=True)
    with Reporter() as reporter:
        stack.reset(wanted, reporter)


@command()
def env() -> None:
    """Write .env (ports, generated passwords) without starting anything."""
    from flow360.settings import ensure_env

    print(ensure_env())
