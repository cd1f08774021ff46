"""Run a topology until SIGTERM: `python -m flow360.processing.streams MODULE --application NAME`."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import os
import queue
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import Annotated, Any

import typer

from flow360.errors import Exit, FlowError
from flow360.monitoring.logs import writing
from flow360.settings import settings

LOG = logging.getLogger("kafka-streams")
GUARANTEES = ("exactly_once_v2", "at_least_once")


def load(source: str) -> Callable[[Any], None]:
    """Load the function `topology` of a module (`package.module`) or of a Python file (`.py`), or a pickled function.

    Raises:
        FlowError: there is no such module or file, or it has no function `topology`.
    """
    path = Path(source)
    if path.suffix == ".pickle":
        import pickle

        return pickle.loads(path.read_bytes())  # written by flow360.processing.streams.live for this one run
    try:
        if path.suffix == ".py":
            spec = importlib.util.spec_from_file_location(path.stem, path)
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
        else:
            module = importlib.import_module(source)
    except (ModuleNotFoundError, FileNotFoundError) as error:
        raise FlowError(f"{source}: {error}", Exit.USAGE) from None
    if not callable(getattr(module, "topology", None)):
        raise FlowError(f"{source} has no function `topology(builder)`", Exit.USAGE)
    return module.topology


def main(
    source: Annotated[str, typer.Argument(help="A module, or a .py file, with a function topology(builder).")],
    application: Annotated[str, typer.Option(help="Its id: group, prefix of its own topics, folder of its state.")],
    state: Annotated[Path, typer.Option(help="The folder of the state stores.")],
    bootstrap: Annotated[str | None, typer.Option(help="HOST:PORT of Kafka; from the settings by default.")] = None,
    host: Annotated[str, typer.Option(help="Where the HTTP endpoint listens.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Its port; 0 takes a free one and prints it.")] = 0,
    guarantee: Annotated[str, typer.Option(help="exactly_once_v2 or at_least_once.")] = "exactly_once_v2",
    commit_every: Annotated[float | None, typer.Option(help="Seconds between commits; Kafka Streams' own.")] = None,
    heap: Annotated[str, typer.Option(help="-Xmx of the JVM.")] = "128m",
    with_parent: Annotated[bool, typer.Option(help="End when standard input does.")] = False,
) -> None:
    """Run a topology until SIGTERM."""
    try:
        raise typer.Exit(
            _run(source, application, state, bootstrap, host, port, guarantee, commit_every, heap, with_parent)
        )
    except FlowError as error:
        print(error.message, file=sys.stderr, flush=True)
        raise typer.Exit(error.code) from None


def _run(
    source: str,
    application: str,
    state: Path,
    bootstrap: str | None,
    host: str,
    port: int,
    guarantee: str,
    commit_every: float | None,
    heap: str,
    with_parent: bool,
) -> int:
    from flow360.processing.streams import jvm

    if with_parent:  # a learner reads it, line by line
        logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    else:
        writing.to_stdout()
    if guarantee not in GUARANTEES:
        raise FlowError(f"--guarantee: {' or '.join(GUARANTEES)}", Exit.USAGE)
    jvm.start(heap=heap, log="warn")
    from flow360.processing.streams.app import Application
    from flow360.processing.streams.queries import Endpoint

    # A signal handler must take no lock: it only hands the signal on to the thread below.
    reasons: queue.SimpleQueue[str] = queue.SimpleQueue()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda received, _: reasons.put(signal.Signals(received).name))
    if with_parent:
        Thread(target=_until_parent_ends, args=(reasons,), daemon=True).start()
    app = Application(
        load(source), application, bootstrap or settings().kafka_bootstrap, state, guarantee, commit_every
    )
    endpoint = Endpoint(app, host, port)
    print(f"queries: http://{host}:{endpoint.port}", flush=True)
    Thread(target=lambda: (app.ended.wait(), reasons.put("")), daemon=True).start()
    app.start()
    why = reasons.get()
    if why:
        LOG.info("ending: %s", why)
    clean = app.close()
    endpoint.close()
    return 1 if app.error or not clean else 0


def _until_parent_ends(reasons: queue.SimpleQueue[str]) -> None:
    # Not through sys.stdin, whose lock this thread would still hold when the interpreter ends.
    while os.read(0, 4096):
        pass
    reasons.put("the parent ended")


if __name__ == "__main__":
    typer.run(main)
