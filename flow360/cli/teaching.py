"""For those who teach with it."""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from flow360.cli.application import app
from flow360.cli.common import Json, print_json
from flow360.errors import Exit, FlowError

PANEL = "For instructors"
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
