"""`python -m flow360.cli`, the same as `flow360`."""

from flow360.cli import app

app()
