"""The file of the events: one JSON a line, of this user alone, and never larger than twice `LIMIT`.

Many programs write it at the same time and none waits for another: each event is one `write` at the file's end. A full
file is put aside in the place of the one before. A line that a crash has cut, or that is not an event, is counted by
the reader and overlooked.

Other users can neither read nor write it (folder 0700, file 0600). Nothing here needs the library openlineage-python,
which would cost each program 0.9 s and 29 MB; a test compares what is written here with what that library writes.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flow360.settings import GENERATED, settings

LIMIT = 16_000_000
"""Bytes after which the file is put aside: days of what five programs say that never rest."""
ASIDE = "events.1.jsonl"
failed = 0
"""Events that this process could not write."""


@dataclass(frozen=True)
class Found:
    """What the journal holds: the events in the order in which they were written, and the lines that are none."""

    events: list[dict[str, Any]]
    bad: int


def path() -> Path:
    """Return the file that is written now."""
    return settings().lineage_dir / "events.jsonl"


def _kept() -> list[Path]:
    """List all that may be there: of this machine's programs, and of containers, which see `GENERATED` alone."""
    folders = dict.fromkeys([path().parent, *([] if settings().flow360_lineage else [GENERATED / "lineage"])])
    return [folder / name for folder in folders for name in (ASIDE, path().name)]


def append(event: Mapping[str, Any]) -> bool:
    """Write an event down. It does not raise: lineage must not stop what it is about.

    Returns:
        False where it could not be written; that is counted and said in a line.
    """
    global failed
    try:
        _write(path(), json.dumps(event, ensure_ascii=False).encode() + b"\n")
    except Exception as error:  # noqa: BLE001 - whatever it is, it is not the program's own trouble
        failed += 1
        print(f"lineage: {type(error).__name__}: {error} ({failed} events lost)", file=sys.stderr, flush=True)
        return False
    return True


def _write(file: Path, line: bytes) -> None:
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fd = os.open(file, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        size = os.fstat(fd).st_size
        if size and os.pread(fd, 1, size - 1) != b"\n":
            line = b"\n" + line  # the one before was cut: it must not take this one along
        if os.write(fd, line) != len(line):
            raise OSError("the disk is full: the line is cut")
        if size > LIMIT:
            _rotate(file, fd)
    finally:
        os.close(fd)


def _rotate(file: Path, fd: int) -> None:
    """Put the full file aside, unless somebody else does so at this moment or has done it."""
    with contextlib.suppress(BlockingIOError, FileNotFoundError):
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if file.stat().st_ino == os.fstat(fd).st_ino:
            file.replace(file.with_name(ASIDE))


def read() -> Found:
    """Read all that is there, of each folder the older file first."""
    events, bad = [], 0
    for file in _kept():
        with contextlib.suppress(FileNotFoundError):
            for line in file.read_bytes().splitlines():
                event = _parsed(line)
                events += [event] if event else []
                bad += bool(line) and event is None
    return Found(events, bad)


def _parsed(line: bytes) -> dict[str, Any] | None:
    """Parse the event, or return None if the line is not one that `graph` could read."""
    try:
        event = json.loads(line)
        text = [event["eventTime"], event["job"]["name"], event["run"]["runId"]]
        for dataset in [*event.get("inputs", []), *event.get("outputs", [])]:
            text += [dataset["namespace"], dataset["name"]]
    except (ValueError, KeyError, TypeError):
        return None
    return event if all(isinstance(one, str) for one in text) else None
