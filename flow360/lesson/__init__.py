"""What a notebook imports: start services, show code, ask SQL, wait for a condition, run a program.

`from flow360 import lesson`. Each function fails with one line (FlowError) that says what was wrong and what to do.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from flow360.clients.query import sql
from flow360.course import tables
from flow360.course.services import resolve
from flow360.errors import Exit, FlowError
from flow360.lesson import stopping
from flow360.lesson.showing import display_link, display_table, mermaid, show
from flow360.process import run
from flow360.waiting import wait_for

if TYPE_CHECKING:
    import pandas as pd

    from flow360.lesson.panel import Panel
    from flow360.primeur.plays import Play

__all__ = [
    "frozen",
    "hdfs",
    "kill",
    "lineage",
    "logs",
    "mermaid",
    "page",
    "play",
    "run",
    "show",
    "sql",
    "start",
    "status",
    "status_table",
    "stop",
    "trace",
    "wait_for",
]

tables.register()
UP = ("running", "done")  # a service that answers; a job that has run


def _stack() -> Any:
    from flow360.stack import open_stack

    return open_stack()


def _progress() -> Callable[[Any], None]:
    """Make a callback that prints each step that is waited for, with the seconds since the start."""
    began, said = time.monotonic(), {}

    def say(event: Any) -> None:
        now = time.monotonic()
        # A download reports every file: one line in two seconds is enough, and its last one.
        if event.share is not None and event.share < 1 and now - said.get(event.service, 0.0) < 2:
            return
        said[event.service] = now
        print(f"{now - began:5.1f} s  {event.service}: {event.state}  {event.detail}".rstrip(), flush=True)

    return say


def start(*names: str) -> None:
    """Start what a chapter needs and show it: `lesson.start("01_sources")` or `lesson.start("kafka")`.

    What `stop` stopped in this notebook because it needs one of them is started, too. Nothing happens to a service that
    runs already. Each step that is waited for is printed.

    Raises:
        FlowError: a service did not become ready; the line says which and why.
    """
    wanted = stopping.with_users(resolve(names))
    if not wanted:
        raise FlowError('name a chapter or a service: lesson.start("01_sources")', Exit.USAGE)
    stack = _stack()
    rows = stack.status()
    running = {s.name for s in rows if s.state in UP}
    if missing := [name for name in wanted if name not in running]:
        stack.up(missing, progress=_progress())
        rows = stack.status()
    stopping.started(wanted)
    table = _table([row for row in rows if row.name in wanted])
    display_table(table[["service", "state", "runs", "port"]], index=False)


def stop(*names: str, alone: bool = False) -> None:
    """Stop services and what needs them; what they stored stays. `lesson.start(...)` of the same brings all back.

    Args:
        alone: stop only these, as if they had failed: what needs them goes on and has to cope.

    Raises:
        FlowError: no such service.
    """
    wanted = resolve(names)
    if not wanted:
        raise FlowError('name a service: lesson.stop("kafka")', Exit.USAGE)
    print(f"stopped: {', '.join(stopping.stop(_stack(), wanted, alone)) or 'none of them was running'}")


def kill(name: str) -> None:
    """End a service without warning (SIGKILL), as a crash or a power cut would.

    Its keeper starts it again at once; `lesson.start(name)` waits until it answers.

    Raises:
        FlowError: no such service, or it does not run.
    """
    _stack().kill(name)
    print(f"killed: {name}")


def frozen(name: str) -> AbstractContextManager[None]:
    """Freeze a service while a block runs: `with lesson.frozen("postgres-source"): ...`.

    It is there and says nothing, like a machine that is overloaded: anyone who asks waits until their patience ends.

    Raises:
        FlowError: no such service, or it does not run.
    """
    return _stack().frozen(name)


def play(day: str, speed: float = 3600, wait: bool = True) -> Play:
    """Let the business run for a day: `lesson.play("2026-05-07")` fills the shop's tables, event by event.

    A day that was played is taken back first: what you changed in its rows is gone.

    Args:
        day: ISO date, 4 May 2026 or any later day.
        speed: how much faster than life, 3,600 is a day in 24 seconds; 0 is at once.
        wait: until the day is over; else its handle comes back at once: `.state()` says how far it is, `.wait()` waits.

    Raises:
        FlowError: there is no such day, another one is being played, or it is not over in time.
        ServiceError: postgres-source or market-day does not answer.
    """
    from flow360.primeur import plays

    asked = plays.play(day, speed)
    if wait:
        state = asked.wait()
        print("\n".join([str(state), *asked.result(state)]))
    else:
        print(f"{asked.day} is being played, its vans as {asked.run}")
    return asked


def trace(
    *,
    order: int | None = None,
    van: str | None = None,
    day: str | None = None,
    sheet: int | None = None,
    review: int | None = None,
) -> None:
    """Ask every layer where a thing is now, and show its way as a table and as a drawing.

    `lesson.trace(order=100933)` follows an order, `lesson.trace(van="VAN-03", day="2026-05-07")` a van's day,
    `lesson.trace(sheet=101)` and `lesson.trace(review=1000183)` a document of the catalogue. A layer whose service is
    down is shown as such, after two seconds at most.

    Raises:
        FlowError: no layer knows it, or that cannot be an order, a van, a day or a document.
        ServiceError: no layer that answers knows it.
    """
    from flow360.trace import documents, drawing, orders, vans

    things = {"order": order, "van": van, "sheet": sheet, "review": review}
    asked = [(kind, key) for kind, key in things.items() if key is not None]
    if len(asked) != 1 or (day is None) != (van is None):
        known = 'lesson.trace(order=100933), (van="VAN-03", day="2026-05-07"), (sheet=101) or (review=1000183)'
        raise FlowError(known, Exit.USAGE)
    if van is not None:
        found = vans.follow(van, day)
    else:
        ((kind, key),) = asked
        found = orders.follow(key) if kind == "order" else documents.follow(kind, key)
    print(drawing.title(found))
    display_table(drawing.frame(found), index=False)
    print(*drawing.notes(found), sep="\n")
    mermaid(drawing.mermaid(found))


def status_table() -> pd.DataFrame:
    """List the services, one a row.

    Columns: service, layer, state, runs (real, stand-in or compose only), what, port, memory_mb (PSS), link.
    """
    return _table(_stack().status())


def _table(services: list[Any]) -> pd.DataFrame:
    import pandas as pd

    rows = [
        {
            "service": s.name,
            "layer": s.layer,
            "state": s.state,
            "runs": s.runs,
            "what": s.what,
            "port": s.port,
            "memory_mb": s.pss_mb,
            "link": s.link or "",
        }
        for s in services
    ]
    columns = ["service", "layer", "state", "runs", "what", "port", "memory_mb", "link"]
    return pd.DataFrame(rows, columns=columns).astype({"port": "Int64", "memory_mb": "Float64"})


def status() -> Panel:
    """Show the status panel: the table with buttons to refresh, start and stop; plain text without widgets."""
    from flow360.lesson.panel import Panel

    return Panel(_stack())


def lineage() -> None:
    """Draw which program has carried what from where to where, and print when it last did and how many rows.

    It is what the programs have written down themselves; `flow360 lineage` prints the same.
    """
    from flow360.monitoring.lineage import graph, journal

    edges = [edge for edge in graph.edges(journal.read().events) if edge.last]
    mermaid(graph.mermaid([edge.arrow for edge in edges]))
    print("\n".join(map(str, edges)))


def logs(service: str, lines: int = 20) -> None:
    """Print the last lines of a service's log."""
    print(_stack().logs(service, lines))


def page(service: str, path: str = "") -> None:
    """Show the link of a service's own page: `lesson.page("namenode")`.

    Args:
        path: of one page below it: `lesson.page("spark-connect", "SQL/")`.

    Raises:
        FlowError: no such service, it has no page of its own, or it does not run.
    """
    rows = {row.name: row for row in _stack().status()}
    if service not in rows:
        raise FlowError(f"{service}: no such service; `lesson.status()` lists them", Exit.USAGE)
    row = rows[service]
    if not row.link:
        raise FlowError(f"{service} has no page of its own", Exit.USAGE)
    if row.state not in UP:
        raise FlowError(f'{service} does not run: start it with lesson.start("{service}")')
    display_link(row.title, f"{row.link.rstrip('/')}/{path}")


def hdfs(subcommand: str, *args: str, seconds: float = 60) -> str:
    """Run the `hdfs` command where the NameNode runs: `hdfs("dfsadmin", "-report")`; return what it printed.

    Args:
        subcommand: dfs, dfsadmin, fsck, oev or oiv.
        seconds: how long it may take.

    Raises:
        FlowError: no such subcommand, or its exit code was not 0.
    """
    return run(_stack().tool_command("namenode", "hdfs", subcommand, args), seconds=seconds)
