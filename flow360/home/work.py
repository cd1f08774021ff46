"""Starting and stopping services from home: the command line does it, one at a time, and home shows its lines."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence

from flow360.course.services import resolve
from flow360.errors import Exit, FlowError
from flow360.settings import ROOT
from flow360.stack.model import model

VERBS = ("up", "down")
LINES = 200
COMMAND = (sys.executable, "-m", "flow360.cli")


class Work:
    """The last `flow360 up` or `down` that home began.

    Attributes:
        title: the command as a person would type it; "" before the first.
        lines: the end of what it says.
        code: its exit code; None while it runs.
    """

    def __init__(self, ended: Callable[[], None], command: Sequence[str] = COMMAND) -> None:
        self.title = ""
        self.lines: deque[str] = deque(maxlen=LINES)
        self.code: int | None = None
        self._ended, self._command = ended, command
        self._thread: threading.Thread | None = None

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
        self.title, self.code = f"flow360 {verb} {name}", None
        self.lines.clear()
        # A group of its own: what JupyterLab is sent, Ctrl-C or its end, leaves nothing half-done.
        process = subprocess.Popen(
            [*self._command, verb, name],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        self._thread = threading.Thread(target=self._follow, args=[process], name="home-work", daemon=True)
        self._thread.start()

    def _follow(self, process: subprocess.Popen[str]) -> None:
        with process:
            for line in process.stdout or ():
                self.lines.append(line.rstrip())
        self.code = process.returncode
        self._ended()
