"""The command line: `flow360 --help`.

Thin: each command calls one thing of the package and shows its answer. Errors meant for people become one line on
standard error and an exit code (flow360.errors.Exit).
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from flow360.errors import Exit, FlowError

CODES = ", ".join(f"{code.value} {code.name.lower().replace('_', ' ')}" for code in Exit)


class OneLineErrors(TyperGroup):
    """Shows a FlowError as its line and leaves with its code; Ctrl-C leaves with 130 and no traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except FlowError as error:
            from rich.text import Text

            from flow360.stack.console import errors

            errors.print(Text("flow360: ", "red").append(error.message, "default"), soft_wrap=True)
            raise typer.Exit(int(error.code)) from None
        except OSError as error:
            if error.errno in (errno.ENOTDIR, errno.EISDIR, errno.EEXIST) and error.filename:
                print(f"flow360: {error.filename}: {error.strerror}: name another place", file=sys.stderr)
                raise typer.Exit(int(Exit.USAGE)) from None
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS):
                raise
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            fix = f"{'free some' if full else 'look who owns it'}, or set FLOW360_STATE and FLOW360_CACHE"
            print(f"flow360: {error.filename or 'the disk'}: {error.strerror}: {fix}", file=sys.stderr)
            raise typer.Exit(int(Exit.DISK if full else Exit.PERMISSION)) from None
        except subprocess.TimeoutExpired as error:
            name = Path(str(error.cmd[0] if isinstance(error.cmd, list | tuple) else error.cmd)).name
            print(f"flow360: {name} did not end within {error.timeout:.0f} s", file=sys.stderr)
            raise typer.Exit(int(Exit.FAILED)) from None


app = typer.Typer(
    cls=OneLineErrors,
    help="A course in data engineering over live services: start them, look at them, check your labs.",
    epilog=f"Exit codes: {CODES}.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
jars_app = typer.Typer(help="The Maven artifacts of the native engine.", no_args_is_help=True)
app.add_typer(jars_app, name="jars")
trace_app = typer.Typer(help="Where a thing is, in every layer, asked now.", no_args_is_help=True)
app.add_typer(trace_app, name="trace")

Names = Annotated[list[str] | None, typer.Argument(help="services, profiles (minimal …) or chapters (02)")]
Engine = Annotated[str | None, typer.Option(help="native, docker or auto")]
Json = Annotated[bool, typer.Option("--json", help="for programs")]


@app.command()
def up(names: Names = None, engine: Engine = None) -> None:
    """Start services and wait until each answers. Without a name: JupyterLab and Primeur's databases."""
    from flow360.course.services import resolve
    from flow360.stack import open_stack
    from flow360.stack.console import Reporter, console

    stack = open_stack(engine)
    wanted = resolve(names or ["jupyterlab", "primeur-load"])
    if any(_course().find(name) for name in names or ()):
        wanted = list(dict.fromkeys(["jupyterlab", *wanted]))  # a chapter is read at the desk
    reporter = Reporter()
    try:
        with reporter:
            stack.up(wanted, reporter, names)
    finally:  # also when something else could not be started
        if "jupyterlab" in reporter.running:
            _say_address(console)
    if not names:
        with Reporter() as reporter:
            stack.fetch([s for c in _course().chapters for s in c.services], reporter)
        console.print("Everything that the chapters need is on this machine. `flow360 down` stops it all.")


def _say_address(console: Any) -> None:
    from flow360.settings import settings

    # The token goes to the person at the terminal, not into a log: a pipe gets the address alone.
    token = f"?token={settings().jupyter_token}" if sys.stdout.isatty() else ""
    console.print(f"\nThe course is open: [bold]{settings().jupyter_url}{token}[/]", soft_wrap=True)
    if not token:
        console.print("Its token is JUPYTER_TOKEN in .env", soft_wrap=True)


@app.command()
def down(names: Names = None, engine: Engine = None) -> None:
    """Stop services and what depends on them; without a name, all. Data stays."""
    from flow360.course.services import resolve
    from flow360.stack import open_stack
    from flow360.stack.console import Reporter

    with _deaf_to_hangup(), Reporter() as reporter:
        open_stack(engine).down(resolve(names) if names else None, reporter)


@contextlib.contextmanager
def _deaf_to_hangup() -> Iterator[None]:
    """A terminal that closes meanwhile, as one of JupyterLab does when that is stopped, leaves nothing half-done."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)


@app.command()
def status(engine: Engine = None, as_json: Json = False) -> None:
    """What runs: state, what it really is (real, stand-in, compose only), port, memory (PSS), link."""
    from flow360.stack import open_stack
    from flow360.stack.console import console, links, show, status_table

    rows = open_stack(engine).status()
    if as_json:
        _print_json([dataclasses.asdict(row) for row in rows])
        return
    show(status_table(rows))
    for line in links(rows):
        console.print(line, soft_wrap=True)


@app.command()
def logs(
    service: str,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="go on printing")] = False,
    lines: Annotated[int, typer.Option("-n", "--lines", min=1)] = 50,
    engine: Engine = None,
) -> None:
    """The end of a service's log."""
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


@app.command()
def doctor(names: Names = None, engine: Engine = None, as_json: Json = False) -> None:
    """Look at this machine: each finding names its fix. Exits with the first blocker's code."""
    from flow360.course.services import resolve
    from flow360.stack import doctor as checks
    from flow360.stack import open_stack
    from flow360.stack.console import console

    stack = open_stack(engine)
    together = {f"chapter {chapter.number}": chapter.services for chapter in _course().chapters}
    findings = checks.examine(stack, resolve(names) if names else None, together)
    if as_json:
        _print_json([dataclasses.asdict(finding) for finding in findings])
    else:
        marks = {"ok": "[green]ok     [/]", "warning": "[yellow]warning[/]", "blocker": "[red]blocker[/]"}
        for finding in findings:
            fix = f"\n                    [bold]→ {finding.fix}[/]" if finding.fix else ""
            console.print(f"{marks[finding.level]} {finding.check:<11} {finding.message}{fix}", soft_wrap=True)
    blocker = next((finding for finding in findings if finding.level == "blocker"), None)
    if blocker:
        raise typer.Exit(int(blocker.code))


@app.command()
def reset(
    services: Annotated[list[str], typer.Argument(help="whose data to remove")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="do not ask")] = False,
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


@app.command()
def goto(
    chapter: Annotated[str, typer.Argument(help="05a or 05a_data_lake")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="do not ask")] = False,
    engine: Engine = None,
) -> None:
    """Bring the services to the start of a chapter, as if you had done all before it. Replaces their data."""
    import time

    from flow360.course.goto import goto as bring
    from flow360.stack import open_stack
    from flow360.stack.console import Reporter, console

    found = _course().chapter(chapter)
    if not yes:
        typer.confirm("The services' present data will be replaced (your files and progress stay). Go on?", abort=True)
    start, done = time.monotonic(), []
    with Reporter() as reporter:
        bring(open_stack(engine), found, reporter, done.append)
    for line in done:
        console.print(line, soft_wrap=True)
    seconds = time.monotonic() - start
    console.print(f"You are at the start of {found.title}, after {seconds:.0f} s: {found.lesson}", soft_wrap=True)
    _say_address(console)


@app.command()
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


@app.command()
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
    if not found.equal:
        raise FlowError(f"{wanted} is not the same in all layers: {len(found.differences)} differences, see above")
    console.print(f"{wanted} is the same in all layers", soft_wrap=True)


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


def _show_trace(found: Any, as_json: bool) -> None:
    from flow360.stack.console import console, show
    from flow360.trace import drawing

    if as_json:
        _print_json(drawing.plain(found))
        return
    show(drawing.table(found))
    for line in drawing.notes(found):
        console.print(line, soft_wrap=True, markup=False)


@app.command()
def lineage(
    mermaid: Annotated[bool, typer.Option("--mermaid", help="the picture, of what has moved something")] = False,
    record: Annotated[bool, typer.Option("--record", help="make it README's picture (maintainers)")] = False,
    as_json: Json = False,
) -> None:
    """Which program carries what from where to where, when it last did, and how many rows in all that is kept."""
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
        _print_json([dataclasses.asdict(edge) for edge in edges])
    else:
        for edge in edges:
            console.print(str(edge), soft_wrap=True, markup=False, highlight=False)
        if not edges:
            console.print("No program has carried anything yet: flow360 play 2026-05-07, or a night of Airflow's")
        if found.bad:
            said = f"{found.bad} lines of {journal.path()} are not events and were overlooked"
            console.print(said, soft_wrap=True, markup=False)


@app.command()
def run(
    chapter: Annotated[str, typer.Argument(help="02 or 02_ingestion")],
    kind: Annotated[str, typer.Option(help="notebooks, labs or solutions")] = "notebooks",
    parameters: Annotated[list[str] | None, typer.Option("-p", help="name=value for the parameters cell")] = None,
    keep: Annotated[bool, typer.Option(help="put promised outputs back into the lesson (maintainers)")] = False,
) -> None:
    """Run a chapter's notebook headless; the executed copy goes to build/run/."""
    from flow360.course.run import keep_outputs, run_notebook
    from flow360.stack.console import console

    found = _course().chapter(chapter)
    values = [item.partition("=") for item in parameters or ()]
    if wrong := next(("".join(item) for item in values if not (item[0].isidentifier() and item[1])), None):
        raise FlowError(f"-p {wrong}: a parameter is written name=value", Exit.USAGE)
    target = run_notebook(found, kind, {name: value for name, _, value in values})
    console.print(f"executed: {target}", soft_wrap=True)
    if keep:
        console.print(f"promised outputs kept in {keep_outputs(found, target)}", soft_wrap=True)


@app.command()
def labs(as_json: Json = False) -> None:
    """List the labs and how far you are in each."""
    from flow360.course.progress import lab_rows, lab_table
    from flow360.stack.console import show

    if as_json:
        _print_json(lab_rows())
    else:
        show(lab_table())


@app.command()
def generate(
    check: Annotated[bool, typer.Option("--check", help="compare, write nothing")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="replace labs with answers in them, too (a copy is kept)")
    ] = False,
) -> None:
    """Write what is generated: labs/ from solutions/, README's tables (a maintainer's command)."""
    from flow360.course import labs as generator
    from flow360.course.readme import render
    from flow360.settings import ROOT

    readme = ROOT / "README.md"
    text = readme.read_text("utf-8")
    wanted = render(text)
    if check:
        problems = generator.check(ROOT)
        if text != wanted:
            problems.append(
                f"README.md: a table of it is not what course.toml and stack/layers say: {generator.COMMAND}"
            )
    else:
        readme.write_text(wanted, "utf-8")
        said, problems = generator.write(ROOT, force)
        for line in said:
            print(line)
    for problem in problems:
        print(problem, file=sys.stderr)
    if problems:
        raise typer.Exit(int(Exit.FAILED))


@app.command()
def progress(as_json: Json = False) -> None:
    """Which exercises are done."""
    from flow360.course.progress import progress_rows, progress_table
    from flow360.stack.console import show

    if as_json:
        _print_json(progress_rows())
    else:
        show(progress_table())


@app.command()
def bench(
    figures: Annotated[list[str] | None, typer.Argument(help="which figures; all by default")] = None,
    rounds: Annotated[int, typer.Option(min=1)] = 5,
    output: Annotated[Path | None, typer.Option(help="keep the JSON here", dir_okay=False)] = None,
) -> None:
    """Measure, each figure beside its anchor from the same run; prints one table."""
    from flow360.bench import main

    main(figures, rounds, output)


@app.command()
def mutants(
    chapter: str,
    exercise: Annotated[list[str] | None, typer.Option(help="may be given more than once; all by default")] = None,
    sample: Annotated[int | None, typer.Option(min=1, help="so many of each; all by default")] = None,
    seed: Annotated[int, typer.Option(help="which ones")] = 1,
) -> None:
    """Try a lab's checks against its solution with small mistakes made by machine (a maintainer's command)."""
    from flow360.settings import ROOT

    wanted = [part for name in exercise or () for part in ("--exercise", name)]
    wanted += ["--sample", str(sample)] if sample else []
    command = [sys.executable, "-m", "tests.mutants", chapter, *wanted, "--seed", str(seed)]
    # It stands with the tests, whose answers tell it how to clean up: a process of its own, in the checkout.
    raise typer.Exit(subprocess.run(command, cwd=ROOT, check=False).returncode)


@app.command()
def env() -> None:
    """Write .env (ports, generated passwords) without starting anything."""
    from flow360.settings import ensure_env

    print(ensure_env())


@jars_app.command("lock")
def jars_lock() -> None:
    """Resolve the groups of jars in stack/layers again and write stack/jars.lock (a maintainer's command)."""
    from flow360.stack.console import Reporter
    from flow360.stack.model import model
    from flow360.stack.native import jars
    from flow360.stack.status import Event

    with Reporter() as reporter:
        count = jars.write_lock(
            model(), progress=lambda n, of, name: reporter(Event("lock", "fetching", f"{n} of {of}: {name}", n / of))
        )
    print(f"stack/jars.lock: {count} artifacts")


@jars_app.command("fetch")
def jars_fetch() -> None:
    """Fetch what is missing, for all services."""
    from flow360.stack import open_stack
    from flow360.stack.console import Reporter

    stack = open_stack("native")
    with Reporter() as reporter:
        stack.fetch([name for name, s in stack.model.services.items() if s.native.runs != "compose only"], reporter)


@jars_app.command("list")
def jars_list(as_json: Json = False) -> None:
    """The locked artifacts, and which are here."""
    from flow360.stack.native import jars

    lock = jars.read_lock()
    rows = [
        {"group": group, "coordinates": jar.coordinates, "present": jar.present()}
        for group, found in lock.items()
        for jar in found
    ]
    if as_json:
        _print_json(rows)
        return
    for row in rows:
        print(f"{'here   ' if row['present'] else 'missing'} {row['group']:<8} {row['coordinates']}")


def _course() -> Any:
    from flow360.course.registry import course

    return course()


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=2, default=str))


if __name__ == "__main__":
    app()
