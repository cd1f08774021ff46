"""Go through the course: chapters, labs, progress."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from flow360.cli.application import app
from flow360.cli.common import Engine, Json, Yes, course, lay_out_desk, print_json, say_address
from flow360.errors import Exit, FlowError

PANEL = "The course"
command = partial(app.command, rich_help_panel=PANEL)


@command()
def goto(
    chapter: Annotated[str, typer.Argument(help="05a or 05a_data_lake")],
    yes: Yes = False,
    engine: Engine = None,
) -> None:
    """Bring the services to the start of a chapter, as if you had done all before it. Replaces their data."""
    import time

    from flow360.course.goto import goto as bring
    from flow360.course.handout import only_whole
    from flow360.stack import open_stack
    from flow360.stack.console import Reporter, console

    only_whole("goto")
    found = course().chapter(chapter)
    if not yes:
        typer.confirm("The services' present data will be replaced (your files and progress stay). Go on?", abort=True)
    lay_out_desk(console)
    start, done = time.monotonic(), []
    with Reporter() as reporter:
        bring(open_stack(engine), found, reporter, done.append)
    for line in done:
        console.print(line, soft_wrap=True)
    seconds = time.monotonic() - start
    console.print(f"You are at the start of {found.title}, after {seconds:.0f} s", soft_wrap=True)
    say_address(console, found.lesson)


@command()
def run(
    chapter: Annotated[str, typer.Argument(help="02 or 02_ingestion")],
    kind: Annotated[str, typer.Option(help="notebooks, labs or solutions")] = "notebooks",
    parameters: Annotated[list[str] | None, typer.Option("-p", help="name=value for the parameters cell")] = None,
    keep: Annotated[bool, typer.Option(help="put promised outputs back into the lesson (maintainers)")] = False,
) -> None:
    """Run a chapter's notebook headless; the executed copy goes to build/run/."""
    from flow360.course.handout import only_whole
    from flow360.course.run import keep_outputs, run_notebook
    from flow360.stack.console import console

    if kind == "solutions":
        only_whole("run --kind solutions")
    found = course().chapter(chapter)
    values = [item.partition("=") for item in parameters or ()]
    if wrong := next(("".join(item) for item in values if not (item[0].isidentifier() and item[1])), None):
        raise FlowError(f"-p {wrong}: a parameter is written name=value", Exit.USAGE)
    target = run_notebook(found, kind, {name: value for name, _, value in values})
    console.print(f"executed: {target}", soft_wrap=True)
    if keep:
        console.print(f"promised outputs kept in {keep_outputs(found, target)}", soft_wrap=True)


@command()
def labs(as_json: Json = False) -> None:
    """List the labs and how far you are in each."""
    from flow360.course.progress import lab_rows, lab_table
    from flow360.stack.console import show

    if as_json:
        print_json(lab_rows())
    else:
        show(lab_table())


@command()
def progress(as_json: Json = False) -> None:
    """Show which exercises are done."""
    from flow360.course.progress import progress_rows, progress_table
    from flow360.stack.console import show

    if as_json:
        print_json(progress_rows())
    else:
        show(progress_table())


@command("next")
def next_() -> None:
    """Say where to go on: the first exercise that is not passed yet."""
    from flow360.course.progress import next_line

    print(next_line())


@command()
def watch() -> None:
    """Say what each check found, as you run it, and what is next; Ctrl-C ends it."""
    from flow360.course.progress import watch as follow
    from flow360.stack.console import console

    for line in follow():
        console.print(line, soft_wrap=True, markup=False)
