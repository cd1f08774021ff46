"""For those who teach with it."""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from flow360.cli.application import app
from flow360.cli.common import Json, print_json
from flow360.errors import Exit, FlowError

PANEL = "For instructors"
class_app = typer.Typer(help="The folder that a class gets, without solutions.", no_args_is_help=True)
app.add_typer(class_app, name="class", rich_help_panel=PANEL)

command = partial(app.command, rich_help_panel=PANEL)


@command()
def report(
    folder: Annotated[Path, typer.Argument(help="the labs of a class, executed, in files of any name, nested or not")],
    csv: Annotated[Path | None, typer.Option(help="write a line for each exercise of each lab")] = None,
    html: Annotated[Path | None, typer.Option(help="write a page")] = None,
    as_json: Json = False,
) -> None:
    """Make a class's table out of handed-in labs: what each check said, how much help, what is alike. Run nothing."""
    from flow360.course import report as reports
    from flow360.files import write
    from flow360.stack.console import console, show

    for place in (csv, html):
        if place and not place.parent.is_dir():
            raise FlowError(f"{place.parent} is not a folder: name another place", Exit.USAGE)
    found = reports.read_class(folder)
    if csv:
        write(csv, reports.as_csv(found.lines))
    if html:
        write(html, reports.as_html(found))
    if as_json:
        print_json({"labs": [dataclasses.asdict(line) for line in found.lines], "alike": found.alike})
        return
    show(reports.table(found.lines))
    for files in found.alike:
        console.print(f"the same but for white space: {', '.join(files)}", soft_wrap=True, markup=False)


@class_app.command("new")
def class_new(folder: Annotated[Path, typer.Argument(help="made if it is missing; else renewed")]) -> None:
    """Make the folder to hand out, or renew one: lessons, labs, data, stack; no solved labs, no tests."""
    from flow360.course import handout
    from flow360.settings import ROOT

    # Of a folder that was handed out itself, and in which nobody has worked, another one like it.
    again = (ROOT / handout.RECORD).exists()
    _say_laid(handout.lay(handout.handed_out(ROOT) if again else handout.contents(ROOT), folder), folder)


@class_app.command("update")
def class_update(source: Annotated[Path, typer.Argument(help="a newer folder, as it was handed out")]) -> None:
    """Renew this folder, which was handed out, from a newer one. What you have written in it stays."""
    from flow360.course import handout
    from flow360.settings import ROOT

    if not (ROOT / handout.RECORD).exists():
        raise FlowError("this is the whole course, which `git pull` renews", Exit.USAGE)
    _say_laid(handout.lay(handout.handed_out(source), ROOT), ROOT)


def _say_laid(laid: Any, folder: Path) -> None:
    from flow360.stack.console import console

    for line in laid.left:
        console.print(line, soft_wrap=True, markup=False)
    count = len(laid.written)
    said = f"{count} file{'' if count == 1 else 's'} written" if count else "nothing to renew"
    console.print(f"{folder}: {said}; there, ./scripts/up opens the course", soft_wrap=True, markup=False)
