"""A maintainer's commands: what is generated, what is measured, which artifacts are locked."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from flow360.cli.application import app
from flow360.cli.common import Json, print_json
from flow360.errors import Exit

PANEL = "For maintainers"
jars_app = typer.Typer(help="The Maven artifacts of the native engine.", no_args_is_help=True)
app.add_typer(jars_app, name="jars", rich_help_panel=PANEL)

command = partial(app.command, rich_help_panel=PANEL)


@command()
def generate(
    check: Annotated[bool, typer.Option("--check", help="compare, write nothing")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="replace labs with answers in them, too (a copy is kept)")
    ] = False,
) -> None:
    """Write what is generated: labs/ from solutions/, the tables of both README, Logstash's filter."""
    from flow360.course import labs as generator
    from flow360.course.handout import only_whole
    from flow360.course.readme import render_all
    from flow360.monitoring.logs import grammar
    from flow360.settings import ROOT

    only_whole("generate")
    parser, pages = ROOT / grammar.CONF, render_all(ROOT)
    if check:
        problems = generator.check(ROOT)
        for page, wanted in pages.items():
            if page.read_text("utf-8") != wanted:
                said = f"{page.relative_to(ROOT)}: a table of it is not what course.toml and stack/layers say"
                problems.append(f"{said}: {generator.COMMAND}")
        if not parser.exists() or parser.read_text("utf-8") != grammar.logstash():
            problems.append(f"{grammar.CONF} is not what stack/logs/lines.yaml says: {generator.COMMAND}")
    else:
        for page, wanted in pages.items():
            page.write_text(wanted, "utf-8")
        parser.parent.mkdir(parents=True, exist_ok=True)
        parser.write_text(grammar.logstash(), "utf-8")
        said, problems = generator.write(ROOT, force)
        for line in said:
            print(line)
    for problem in problems:
        print(problem, file=sys.stderr)
    if problems:
        raise typer.Exit(int(Exit.FAILED))


@command()
def bench(
    figures: Annotated[list[str] | None, typer.Argument(help="which figures; all by default")] = None,
    rounds: Annotated[int, typer.Option(min=1)] = 5,
    output: Annotated[Path | None, typer.Option(help="keep the JSON here", dir_okay=False)] = None,
) -> None:
    """Measure, each figure beside its anchor from the same run; prints one table."""
    from flow360.bench import main

    main(figures, rounds, output)


@command()
def mutants(
    chapter: str,
    exercise: Annotated[list[str] | None, typer.Option(help="may be given more than once; all by default")] = None,
    sample: Annotated[int | None, typer.Option(min=1, help="so many of each; all by default")] = None,
    seed: Annotated[int, typer.Option(help="which ones")] = 1,
    record: Annotated[bool, typer.Option("--record", help="write the scores down for README's table")] = False,
) -> None:
    """Try a lab's checks against its solution with small mistakes made by machine."""
    from flow360.course.handout import only_whole
    from flow360.settings import ROOT

    only_whole("mutants")
    wanted = [part for name in exercise or () for part in ("--exercise", name)]
    wanted += ["--sample", str(sample)] if sample else []
    wanted += ["--record"] if record else []
    command = [sys.executable, "-m", "tests.mutants", chapter, *wanted, "--seed", str(seed)]
    # It stands with the tests, whose answers tell it how to clean up: a process of its own, in the checkout.
    raise typer.Exit(subprocess.run(command, cwd=ROOT, check=False).returncode)


@jars_app.command("lock")
def jars_lock() -> None:
    """Resolve the groups of jars in stack/layers again and write stack/jars.lock."""
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
    """List the locked artifacts, and which are here."""
    from flow360.stack.native import jars

    lock = jars.read_lock()
    rows = [
        {"group": group, "coordinates": jar.coordinates, "present": jar.present()}
        for group, found in lock.items()
        for jar in found
    ]
    if as_json:
        print_json(rows)
        return
    for row in rows:
        print(f"{'here   ' if row['present'] else 'missing'} {row['group']:<8} {row['coordinates']}")
