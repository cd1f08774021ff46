"""A learner's function in a process of its own, so that a check can kill it as life would.

`python -m flow360.checks.apart` reads the pickled function and its arguments from standard input, and calls it.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from flow360.settings import ROOT


class Apart:
    """The process; it is ended with SIGKILL, together with whatever it started, by `kill` or when the block ends."""

    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        import cloudpickle  # a function of a notebook cannot be imported elsewhere: its code is sent

        self._job = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `close`
        self._trouble = tempfile.TemporaryFile()  # noqa: SIM115
        self._job.write(cloudpickle.dumps((function, args)))
        self._job.seek(0)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "flow360.checks.apart"],
            stdin=self._job,
            stdout=subprocess.DEVNULL,
            stderr=self._trouble,
            cwd=ROOT,
            start_new_session=True,
        )

    @property
    def ended(self) -> bool:
        """Whether it has come to an end by itself."""
        return self._process.poll() is not None

    @property
    def error(self) -> str:
        """The exception that ended it, as `UniqueViolation: duplicate key …`; "" when there was none."""
        if not self._process.poll():
            return ""
        self._trouble.seek(0)
        lines = self._trouble.read().decode(errors="replace").splitlines()
        return next((line[3:] for line in lines if line.startswith("!! ")), f"exit code {self._process.returncode}")

    def kill(self) -> None:
        """Send SIGKILL, and wait until it is gone."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(20)

    def close(self) -> None:
        self.kill()
        self._job.close()
        self._trouble.close()


@contextmanager
def apart(function: Callable[..., Any], *args: Any) -> Iterator[Apart]:
    """Run a function apart: `with apart(take_orders, topic, group) as process:`; afterwards nothing of it runs."""
    process = Apart(function, *args)
    try:
        yield process
    finally:
        process.close()


def main() -> int:
    """Call what came over standard input; an exception becomes one line, marked with `!!`."""
    function, args = pickle.load(sys.stdin.buffer)
    try:
        function(*args)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - the learner's code may raise anything; it is reported
        text = " ".join(str(error).split())
        print(f"!! {type(error).__name__}: {text}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
