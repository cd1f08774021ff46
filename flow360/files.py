"""Files that are whole at any moment, and locks: one that gives up in time, one for the writer of a small file."""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from flow360.errors import FlowError


def write(path: Path, content: str | bytes, mode: int = 0o644) -> bool:
    """Give a file this content; False where it had it already, and then it is left alone.

    It is written aside, brought to the disk and put in place: whoever reads it, at whatever moment, finds all of the
    old or all of the new.

    Args:
        mode: who may read it, as in `chmod`; a secret is its owner's alone while it is being written, too.
    """
    content = content.encode() if isinstance(content, str) else content
    if path.exists() and path.read_bytes() == content:
        return False
    fd, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)  # readable by its owner only
    part = Path(name)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(content)
            os.fchmod(fd, mode)
            os.fsync(fd)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return True


def hold(file: IO[str], deadline: float, said: str) -> None:
    """Lock an open file for this process alone; the lock ends when the file is closed.

    Raises:
        FlowError: somebody else has held it for `deadline` seconds; `said` is the line.
    """
    end = time.monotonic() + deadline
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > end:
                raise FlowError(said) from None
            time.sleep(0.2)


def is_free(file: IO[str]) -> bool:
    """Say whether nobody holds an open file by `hold` at this moment."""
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    fcntl.flock(file, fcntl.LOCK_UN)
    return True


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Let one writer at a time have a file; the folder is made when it is missing.

    The lock is on the folder, so no lock file is left. On NFS only what is open for writing can be locked, which a
    folder never is: there a file beside it is. Some network file systems know no locks at all: then there is none.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    fd = os.open(path.parent, os.O_RDONLY)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
        except OSError:
            os.close(fd)
            fd = os.open(path.with_name(f".{path.name}.lock"), os.O_RDWR | os.O_CREAT, 0o600)
            with contextlib.suppress(OSError):
                fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)
