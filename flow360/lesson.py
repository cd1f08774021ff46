"""What a notebook imports: start services, show code, ask SQL, wait for a condition, run a program.

`from flow360 import lesson`. Each function fails with one line (FlowError) that says what was wrong and what to do.
"""

from __future__ import annotations

import inspect
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from flow360 import clients
from flow360.course import course
from flow360.errors import Exit, FlowError
from flow360.settings import ROOT

if TYPE_CHECKING:
    import pandas as pd

    from flow360.panel import Panel

T = TypeVar("T")
UP = ("running", "done")  # a service that answers; a job that has run
_LANGUAGE = {
    ".py": "python",
    ".sql": "sql",
    ".yaml": "yaml",
    ".yml": "yaml",
    ".toml": "toml",
    ".json": "json",
    ".sh": "bash",
    ".conf": "ini",
    ".properties": "ini",
    ".cfg": "ini",
    ".md": "markdown",
    ".html": "html",
}


# --- Services ---------------------------------------------------------------------------------------------------------


def _stack() -> Any:
    from flow360.stack import open_stack

    return open_stack()


def _progress() -> Callable[[Any], None]:
    """A callback that prints each step that is waited for, with the seconds since the start."""
    began, said = time.monotonic(), {}

    def say(event: Any) -> None:
        now = time.monotonic()
        # A download reports every file: one line in two seconds is enough, and its last one.
        if event.share is not None and event.share < 1 and now - said.get(event.service, 0.0) < 2:
            return
        said[event.service] = now
        print(f"{now - began:5.1f} s  {event.service}: {event.state}  {event.detail}".rstrip(), flush=True)

    return say


def services_of(*names: str) -> list[str]:
    """The services behind chapter names (`01_sources`, `01`) and service names, in order, each once."""
    found: list[str] = []
    for name in names:
        found += course().chapter(name).services if re.match(r"\d", name) else [name]
    return list(dict.fromkeys(found))


def start(*names: str) -> None:
    """Start what a chapter needs and show it: `lesson.start("01_sources")` or `lesson.start("kafka")`.

    Nothing happens to a service that runs already. Each step that is waited for is printed.

    Raises:
        FlowError: a service did not become ready; the line says which and why.
    """
    wanted = services_of(*names)
    if not wanted:
        raise FlowError('name a chapter or a service: lesson.start("01_sources")', Exit.USAGE)
    stack = _stack()
    running = {s.name for s in stack.status() if s.state in UP}
    if missing := [name for name in wanted if name not in running]:
        stack.up(missing, progress=_progress())
    table = status_table(stack)
    rows = table[table["service"].isin(wanted)]
    _display(rows[["service", "state", "runs", "port"]], index=False)


def stop(*names: str) -> None:
    """Stop services; what they stored stays. `lesson.start(...)` brings them back.

    Raises:
        FlowError: no such service.
    """
    wanted = services_of(*names)
    if not wanted:
        raise FlowError('name a service: lesson.stop("kafka")', Exit.USAGE)
    _stack().down(wanted)
    print(f"stopped: {', '.join(wanted)}")


def kill(name: str) -> None:
    """End a service without a word of farewell (SIGKILL), as a crash or a power cut would.

    Its keeper starts it again at once; `lesson.start(name)` waits until it answers.

    Raises:
        FlowError: no such service, or it does not run.
    """
    _stack().kill(name)
    print(f"killed: {name}")


def status_table(stack: Any = None) -> pd.DataFrame:
    """One row for each service.

    Columns: service, layer, state, runs (real, stand-in or compose only), what, port, memory_mb (PSS), link.
    """
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
        for s in (stack or _stack()).status()
    ]
    columns = ["service", "layer", "state", "runs", "what", "port", "memory_mb", "link"]
    return pd.DataFrame(rows, columns=columns).astype({"port": "Int64", "memory_mb": "Float64"})


def status() -> Panel:
    """The status panel: the table with buttons to refresh, start and stop; plain text where no widgets can be shown."""
    from flow360.panel import Panel

    return Panel(_stack())


def logs(service: str, lines: int = 20) -> None:
    """Print the last lines of a service's log."""
    print(_stack().logs(service, lines))


def wait_for(condition: Callable[[], T], deadline: float = 30, what: str = "the condition", every: float = 0.2) -> T:
    """Ask again and again until `condition()` is true, and return what it said.

    A condition that cannot connect yet (FlowError, OSError) counts as "not yet"; any other exception comes through.

    Args:
        condition: what to ask.
        deadline: seconds until we give up.
        what: how the message calls the thing that is waited for.
        every: seconds between two questions.

    Raises:
        FlowError: the deadline passed; the line says what was seen last.
    """
    end = time.monotonic() + deadline
    pause = threading.Event()
    while True:
        try:
            value = condition()
        except (FlowError, OSError) as error:
            seen = str(error) or type(error).__name__
        else:
            if value is not None and _truth(value):
                return value
            seen = repr(value)
        if time.monotonic() >= end:
            seen = seen if len(seen) <= 160 else seen[:159] + "…"
            raise FlowError(f"waited {deadline:g} s for {what}, in vain; last seen: {seen}")
        pause.wait(min(every, max(0.0, end - time.monotonic())))


def _truth(value: Any) -> bool:
    empty = getattr(value, "empty", None)  # a DataFrame has no truth value, but it can be empty
    return not empty if isinstance(empty, bool) else bool(value)


# --- SQL --------------------------------------------------------------------------------------------------------------


def sql(query: str, params: Sequence[Any] | Mapping[str, Any] | None = None, db: str = "warehouse") -> pd.DataFrame:
    """Run one statement and return its rows.

    Args:
        query: SQL with `%s` or `%(name)s` where a value goes; values are never pasted into the text.
        params: the values. Without them a `%` is just a `%`.
        db: "warehouse", "source", "lake" (HiveServer2), or the records of Airflow and the metastore: "airflow", "hive".

    Returns:
        The rows, with numeric as float64; for a statement without rows one line with its command tag ("INSERT 0 5",
        "OK" on the lake).

    Raises:
        FlowError: the server is down, or it refused the statement: its message, and where in the text.
    """
    import pandas as pd
    import psycopg
    from psycopg.types.numeric import FloatLoader

    pd.set_option("display.max_colwidth", 120)  # a sentence in a column should be readable
    if db == "lake":
        return _lake_sql(query, params)
    with clients.postgres(db) as connection:
        connection.adapters.register_loader("numeric", FloatLoader)
        try:
            cursor = connection.execute(query, params)
            if cursor.description is None:
                return pd.DataFrame({"done": [cursor.statusmessage]})
            rows, names = cursor.fetchall(), [column.name for column in cursor.description]
        except psycopg.Error as error:
            connection.rollback()
            raise FlowError(_sql_error(error, query, params, db)) from None
    return pd.DataFrame(rows, columns=names)


def _sql_error(error: Any, query: str, params: Any, db: str) -> str:
    said = error.diag.message_primary or (str(error).splitlines() or [type(error).__name__])[0]
    text = f"{db}: {said}"
    position = error.diag.statement_position
    if position and params is None:
        before = query[: int(position) - 1]
        line = before.count("\n") + 1
        column = len(before) - (before.rfind("\n") + 1) + 1
        text += f" (line {line}, column {column}: `{query.splitlines()[line - 1].strip()[:80]}`)"
    if error.diag.message_hint:
        text += f". {error.diag.message_hint}"
    return text


def _lake_sql(query: str, params: Any) -> pd.DataFrame:
    """One statement for HiveServer2."""
    import pandas as pd

    with clients.lake_errors(), clients.hive() as connection, connection.cursor() as cursor:
        cursor.execute(query, params)
        if cursor.description is None:
            return pd.DataFrame({"done": ["OK"]})
        return pd.DataFrame(cursor.fetchall(), columns=[column[0] for column in cursor.description])


# --- Programs ---------------------------------------------------------------------------------------------------------


def run(
    command: Sequence[str | Path],
    *,
    seconds: float = 120,
    stdin: str | None = None,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> str:
    """Run a program from the checkout's root and return what it printed.

    Args:
        command: the program and its arguments, as a list: no shell is in between. "python" is this environment's.
        seconds: how long it may take; then it is ended with all that it started.
        stdin: text for its standard input.
        cwd: another folder to run it in.
        env: variables on top of the environment.

    Raises:
        FlowError: there is no such program, it took too long, or its exit code was not 0 (with its last lines).
    """
    if isinstance(command, str):
        raise FlowError(f"lesson.run takes a list: lesson.run({command.split()!r})", Exit.USAGE)
    words = [str(word) for word in command]
    here = str(Path(sys.executable).parent)
    name = " ".join(words)
    if words and words[0] in ("python", "python3"):
        words[0] = sys.executable
    environment = {**os.environ, "PATH": os.pathsep.join([here, os.environ.get("PATH", os.defpath)]), **(env or {})}
    try:
        process = subprocess.Popen(
            words,
            stdin=subprocess.PIPE if stdin is not None else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            cwd=cwd or ROOT,
            env=environment,
            start_new_session=True,
        )
    except FileNotFoundError as error:
        raise FlowError(f"`{name}`: {error.filename} was not found") from None
    except OSError as error:
        raise FlowError(f"`{name}`: {error.strerror}") from None
    try:
        out, err = process.communicate(stdin, timeout=seconds)
    except subprocess.TimeoutExpired:
        _end(process)
        raise FlowError(f"`{name}` took more than {seconds:g} s and was ended") from None
    except BaseException:  # the learner pressed stop: nothing that we started stays behind
        _end(process)
        raise
    if process.returncode:
        last = [line for line in (err.strip() or out.strip()).splitlines() if line.strip()][-3:]
        raise FlowError("\n".join([f"`{name}` ended with exit code {process.returncode}", *last]))
    return out


def _end(process: subprocess.Popen[str]) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    process.communicate()


def hdfs(subcommand: str, *args: str, seconds: float = 60) -> str:
    """The `hdfs` command, run where the NameNode runs: `hdfs("dfsadmin", "-report")`; what it printed.

    Args:
        subcommand: dfs, dfsadmin, fsck, oev or oiv.
        seconds: how long it may take.

    Raises:
        FlowError: no such subcommand, or its exit code was not 0.
    """
    return run(_stack().tool_command("namenode", "hdfs", subcommand, args), seconds=seconds)


# --- Showing ----------------------------------------------------------------------------------------------------------


def show(what: Any, region: str | None = None) -> None:
    """Show code as it stands in its file: a function or class, a whole file, or a marked region of it.

    Args:
        what: a function, a class, a module, or a path below the checkout.
        region: the name between `[START name]` and `[END name]` in the file's comments.

    Raises:
        FlowError: no such file or region, or a file that holds passwords.
    """
    if isinstance(what, str | Path):
        path = Path(what) if Path(what).is_absolute() else ROOT / what
        if path.name.startswith(".env"):
            raise FlowError(f"{path.name} holds passwords: it is not shown in a notebook")
        try:
            lines = path.read_text("utf-8").splitlines()
        except OSError as error:
            raise FlowError(f"{what}: {error.strerror}") from None
        first = 1
    else:
        try:
            target = inspect.unwrap(what) if callable(what) else what
            lines, first = inspect.getsourcelines(target)
            path = Path(inspect.getsourcefile(target) or "")
        except (OSError, TypeError):
            raise FlowError(f"the source of {what!r} cannot be found: pass a function, a class or a path") from None
        lines, first = [line.rstrip("\n") for line in lines], max(first, 1)
    if region:
        begin, end = _region(lines, region, path)
        lines, first = lines[begin:end], first + begin
    place = path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else None
    caption = f"`{place}`, lines {first}-{first + len(lines) - 1}\n\n" if place else ""
    code = textwrap.dedent("\n".join(lines)).strip("\n")
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall(r"`+", code)), default=0))
    language = "dockerfile" if path.name.startswith("Dockerfile") else _LANGUAGE.get(path.suffix, "")
    if not isinstance(what, str | Path):
        language = "python"
    _display_bundle({"text/markdown": f"{caption}{fence}{language}\n{code}\n{fence}", "text/plain": code})


def _region(lines: list[str], region: str, path: Path) -> tuple[int, int]:
    marks = {}
    for edge in ("START", "END"):
        at = [i for i, line in enumerate(lines) if f"[{edge} {region}]" in line]
        if len(at) != 1:
            raise FlowError(f"{path.name}: the mark [{edge} {region}] stands there {len(at)} times: it must be once")
        marks[edge] = at[0]
    return marks["START"] + 1, marks["END"]


def mermaid(text: str) -> None:
    """Draw a Mermaid diagram (JupyterLab draws it; elsewhere its text is shown)."""
    source = textwrap.dedent(text).strip()
    _display_bundle({"text/vnd.mermaid": source, "text/plain": source})


def _in_ipython() -> bool:
    ipython = sys.modules.get("IPython")
    return bool(ipython and ipython.get_ipython())


def _display_bundle(bundle: dict[str, str]) -> None:
    if not _in_ipython():
        print(bundle["text/plain"])
        return
    from IPython.display import display

    display(bundle, raw=True)


def _display(table: pd.DataFrame, *, index: bool = True) -> None:
    table = table.astype(object).where(table.notna(), "")
    text = table.to_string(index=index)
    _display_bundle({"text/html": table.to_html(index=index, border=0), "text/plain": text})
