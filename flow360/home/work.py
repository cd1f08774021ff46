"""Starting and stopping services from home: the command line does it, one at a time, and home shows its lines."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from typing import IO

from flow360.course.services import resolve
from flow360.errors import Exit, FlowError
from flow360.settings import ROOT
from flow360.stack.model import model

VERBS = ("up", "down")
LAST = 20_000
"""Bytes of what a command says that are shown: those at its end."""
COMMAND = (sys.executable, "-m", "flow360.cli")


class Work:
    """The last `flow360 up` or `down` that home began.

    Attributes:
        title: the command as a person would type it; "" before the first.
        code: its exit code; None while it runs.
    """

    def __init__(self, ended: Callable[[], None], command: Sequence[str] = COMMAND) -> None:
        self.title = ""
        self.code: int | None = None
        self._ended, self._command = ended, command
        self._said: IO[bytes] | None = None
        self._thread: threading.Thread | None = None

    @property
    def lines(self) -> list[str]:
        """The end of what it says."""
        if self._said is None:
            return []
        file = self._said.fileno()
        cut = max(0, os.fstat(file).st_size - LAST)
        return os.pread(file, LAST, cut).decode("utf-8", "replace").splitlines()[1 if cut else 0 :]

    @property
    def busy(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def begin(self, verb: str, name: str) -> None:
        """Start or stop a service, or those of a chapter.

        Raises:
            FlowError: another one is under way; there is no such verb or name; or it would stop JupyterLab itself.
        """
        if verb not in VERBS:
            raise FlowError(f"home does not know {verb!r}", Exit.USAGE)
        names = resolve([name])
        if verb == "down" and any(model()[one].host for one in names):
            raise FlowError("JupyterLab is stopped from a terminal: flow360 down", Exit.USAGE)
        if self.busy:
            raise FlowError(f"{self.title} is still under way: wait for its end")
        # A group of its own, and a file in place of a pipe: what JupyterLab is sent, Ctrl-C or its end, leaves nothing
        # half-done.
        said = tempfile.TemporaryFile()  # noqa: SIM115 - closed when the next one takes its place
        process = subprocess.Popen(
            [*self._command, verb, name],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self.title, self.code, self._said = f"flow360 {verb} {name}", None, said
        self._thread = threading.Thread(target=self._follow, args=[process], name="home-work", daemon=True)
        self._thread.start()

    def _follow(self, process: subprocess.Popen[bytes]) -> None:
        self.code = process.wait()
        self._ended()
