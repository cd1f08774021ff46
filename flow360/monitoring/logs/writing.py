"""How our own programs log: a line of JSON for each thing that happened, with the ids by which it can be found.

    log = logging.getLogger("market-api")
    log.info("order placed", extra={"order_id": 100933})

`to_stdout` is called once by a program's main; the engine keeps what comes out there. stack/logs/lines.yaml names the
keys that become fields.
"""

from __future__ import annotations

import logging
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime

from pythonjsonlogger.json import JsonFormatter

_trace: ContextVar[str] = ContextVar("trace_id", default="")
NAMES = {"asctime": "@timestamp", "levelname": "level", "name": "logger", "exc_info": "exception"}


class _Lines(JsonFormatter):
    """JSON with a time in UTC to the millisecond, whatever zone this machine is in."""

    def __init__(self) -> None:
        super().__init__("{asctime}{levelname}{name}{message}", style="{", rename_fields=NAMES, json_ensure_ascii=False)

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802 - logging's name
        return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")


def to_stdout() -> None:
    """Let everything that this process logs from INFO on go to standard output, a line of JSON each."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(_Lines())
    handler.addFilter(_with_trace)
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.captureWarnings(True)


@contextmanager
def traced(trace_id: str) -> Iterator[None]:
    """Write an id on each line that is logged within: what belongs together is found together, in every program."""
    before = _trace.set(trace_id)
    try:
        yield
    finally:
        _trace.reset(before)


def new_trace() -> str:
    """Make an id for what begins here, as W3C's Trace Context writes them: 32 hexadecimal digits."""
    return secrets.token_hex(16)


def trace_of(traceparent: str) -> str:
    """Read the trace id of a `traceparent` header, or make a new one where there is none that is right."""
    version, _, rest = traceparent.partition("-")
    found = rest.partition("-")[0]
    right = len(version) == 2 and len(found) == 32 and set(found) <= set("0123456789abcdef") and found != "0" * 32
    return found if right else new_trace()


def _with_trace(record: logging.LogRecord) -> bool:
    if found := _trace.get():
        record.trace_id = found
    return True
