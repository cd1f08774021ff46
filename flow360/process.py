"""Running a program to its end, with a time limit and one line when it fails; and how a program of ours is ended."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from threading import Thread

from flow360.environment import clean
from flow360.errors import Exit, FlowError
from flow360.settings import OURS, ROOT


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
        env: variables on top of the environment, which goes without the names that flow360.environment drops.

    Raises:
        FlowError: there is no such program, it took too long, or its exit code was not 0 (with its last lines).
    """
    done = complete(command, seconds=seconds, stdin=stdin, cwd=cwd, env=env)
    if done.returncode:
        last = [line for line in (done.stderr.strip() or done.stdout.strip()).splitlines() if line.strip()][-3:]
        name = " ".join(str(word) for word in command)
        raise FlowError("\n".join([f"`{name}` ended with exit code {done.returncode}", *last]))
    return done.stdout


def complete(
    command: Sequence[str | Path],
    *,
    seconds: float,
    stdin: str | None = None,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a program as `run` does, and return its exit code with all that it printed: the caller looks at them.

    Raises:
        FlowError: there is no such program, or it took too long.
    """
    if isinstance(command, str):
        raise FlowError(f"lesson.run takes a list: lesson.run({command.split()!r})", Exit.USAGE)
    words = [str(word) for word in command]
    here = str(Path(sys.executable).parent)
    name = " ".join(words)
    if words and words[0] in ("python", "python3"):
        words[0] = sys.executable
    environment = {
        **clean(os.environ, OURS),
        "PATH": os.pathsep.join([here, os.environ.get("PATH", os.defpath)]),
        **(env or {}),
    }
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
    return subprocess.CompletedProcess(words, process.returncode, out, err)


def _end(process: subprocess.Popen[str]) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    process.communicate()


def at_the_end(stop: Callable[[], None]) -> None:
    """Call `stop`, from a thread of its own, when SIGTERM or SIGINT comes.

    A signal's handler runs between any two steps of the main thread and must take no lock: it only hands the signal on.
    """
    signals: queue.SimpleQueue[int] = queue.SimpleQueue()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda received, _: signals.put(received))

    def wait() -> None:
        signals.get()
        stop()

    Thread(target=wait, name="signals", daemon=True).start()
