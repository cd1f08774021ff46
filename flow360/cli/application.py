"""The application that the commands join."""

from __future__ import annotations

import typer

from flow360.cli.errors import OneLineErrors
from flow360.errors import Exit

CODES = ", ".join(f"{code.value} {code.name.lower().replace('_', ' ')}" for code in Exit)

app = typer.Typer(
    cls=OneLineErrors,
    help="A course in data engineering over live services: start them, look at them, check your labs.",
    epilog=f"Exit codes: {CODES}.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
