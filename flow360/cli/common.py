"""What several commands take and do."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any

import typer

Names = Annotated[list[str] | None, typer.Argument(help="services, profiles (minimal …) or chapters (02)")]
Engine = Annotated[str | None, typer.Option(help="native, docker or auto")]
Json = Annotated[bool, typer.Option("--json", help="for programs")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="do not ask")]


def course() -> Any:
    """Read the chapters when a command needs them."""
    from flow360.course.registry import course

    return course()


def print_json(value: Any) -> None:
    """Print what a program is to read."""
    print(json.dumps(value, indent=2, default=str))


def lay_out_desk(console: Any) -> None:
    """Bring the learner's own copies of the notebooks up to date, and say which were left as they are."""
    from flow360.course.desk import lay_out
    from flow360.settings import ROOT

    for line in lay_out(ROOT):
        console.print(line, soft_wrap=True)


def token() -> str:
    """Make the end of JupyterLab's address that lets its reader in.

    It goes to the person at the terminal, not into a log: in a pipe it is empty.
    """
    from flow360.settings import settings

    return f"?token={settings().jupyter_token}" if sys.stdout.isatty() else ""


def say_address(console: Any, lesson: str | None = None) -> None:
    """Say where the course is open: at home, or with a lesson."""
    from flow360.course.desk import at_the_hub, own
    from flow360.settings import settings

    if at_the_hub():
        console.print(f"\nThe course is open in this JupyterLab{f': {own(lesson)}' if lesson else ''}", soft_wrap=True)
        return
    address = settings().jupyter_url + (f"/tree/{own(lesson)}" if lesson else "")
    console.print(f"\nThe course is open: [bold]{address}{token()}[/]", soft_wrap=True)
    if not token():
        console.print("Its token is JUPYTER_TOKEN in .env", soft_wrap=True)
