"""How the command line shows work: one live line a service in a terminal, plain lines elsewhere."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn
from rich.table import Table

from flow360.stack.status import Event, ServiceStatus

console = Console(highlight=False)
errors = Console(stderr=True, highlight=False)

ENDED = ("running", "ready", "done", "stopped", "reset", "failed")
COLOURS = {"running": "green", "done": "green", "starting": "yellow", "failed": "red", "stopped": "dim"}


class Reporter:
    """A progress callback for the engines. Use it as a context manager."""

    def __init__(self) -> None:
        self._live = (
            Progress(
                SpinnerColumn(finished_text="[green]✓"),
                TextColumn("{task.fields[name]:<16}"),
                BarColumn(bar_width=20),
                TextColumn("{task.description}", markup=False),
                console=console,
            )
            if console.is_terminal
            else None
        )
        self.running: set[str] = set()  # what has been heard to run
        self._tasks: dict[str, TaskID] = {}
        self._tenths: dict[str, int] = {}

    def __enter__(self) -> Reporter:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._live:
            self._live.stop()

    def __call__(self, event: Event) -> None:
        if event.state == "running":
            self.running.add(event.service)
        text = f"{event.state} {event.detail}".strip()
        if event.state in ENDED and event.seconds >= 0.05:
            text += f" ({event.seconds:.1f} s)"
        if self._live:
            self._draw(event, text)
        elif event.share is None or self._tenth(event):
            console.print(f"{event.service:<16} {text}", markup=False, soft_wrap=True)

    def _draw(self, event: Event, text: str) -> None:
        assert self._live
        if event.service not in self._tasks:
            self._tasks[event.service] = self._live.add_task("", name=event.service, total=None)
        ended = event.state in ENDED
        share = 1.0 if ended else event.share
        self._live.update(
            self._tasks[event.service],
            description=text,
            total=1 if share is not None else None,
            completed=share or 0,
            refresh=ended,  # whoever ends with the event shall have been read
        )

    def _tenth(self, event: Event) -> bool:
        """Say whether a tenth of a long fetch is done since the last news: in a log file, that is news enough."""
        tenth = int((event.share or 0) * 10)
        new = self._tenths.get(event.service) != tenth
        self._tenths[event.service] = tenth
        return new


def show(table: Table, narrowest: int = 80) -> None:
    """Print a table; where the terminal is narrower, its lines are folded there, and nothing is left out."""
    if console.width < narrowest:
        Console(file=console.file, width=narrowest, highlight=False).print(table)
    else:
        console.print(table)


def status_table(rows: list[ServiceStatus]) -> Table:
    """Draw the table of `flow360 status`."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("layer", "service", "state", "runs"):
        table.add_column(name, no_wrap=name != "runs")
    table.add_column("port", justify="right")
    table.add_column("PSS MB", justify="right", no_wrap=True)
    for row in rows:
        colour = COLOURS.get(row.state, "")
        state = f"[{colour}]{row.state}[/]" if colour else row.state
        pss = f"{row.pss_mb:.0f}" if row.pss_mb else ""
        table.add_row(str(row.layer or ""), row.name, state, f"{row.runs}: {row.what}", str(row.port or ""), pss)
    return table


def links(rows: list[ServiceStatus], token: str = "") -> list[str]:
    """List the pages that answer now, a line each: a link in a table cell would be broken in a narrow terminal.

    Args:
        token: what JupyterLab's address ends with.
    """
    tokens = {"jupyterlab": token}
    running = (row for row in rows if row.link and row.state == "running")
    return [f"{row.name:<16} {row.link}{tokens.get(row.name, '')}" for row in running]
