"""What the fault tests share: the line of counts, waiting, and killing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from flow360.waiting import patient

SEED = 360
ROOT = Path(__file__).resolve().parent.parent.parent


def report(fault: str, **counts: Any) -> None:
    """One line of counts; the suite shows it."""
    shown = {name: f"{value:.1f}s" if isinstance(value, float) else value for name, value in counts.items()}
    print(f"\n{fault}: " + " ".join(f"{name}={value}" for name, value in {**shown, "seed": SEED}.items()))


def until(condition: Callable[[], Any], what: str, deadline: float = 60.0, pause: float = 0.05) -> Any:
    """Wait until a condition holds; its value. The deadline is an idle machine's (see `patient`)."""
    deadline = patient(deadline)
    end = time.monotonic() + deadline
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < end, f"after {deadline:.0f} s still waiting for {what}"
        time.sleep(pause)


def ready(stack: Any, name: str) -> bool:
    """Does the service answer its probe now?"""
    return stack.host._probe(stack.model[name])() is None


def kill(stack: Any, name: str) -> float:
    """SIGKILL to a service and all its children; the moment of it."""
    parent = psutil.Process(stack.host.pids()[name])
    parent.suspend()  # a session that it began after we looked would outlive it, and wait for what the dead have locked
    family = [parent, *parent.children(recursive=True)]
    parent.kill()
    for process in family[1:]:
        if process.is_running():
            process.kill()
    return time.monotonic()


def recovered(stack: Any, name: str, since: float, deadline: float = 90.0) -> float:
    """Wait until the supervisor has brought it back; seconds since the kill."""
    until(lambda: ready(stack, name), f"{name} to answer again", deadline)
    return time.monotonic() - since


@contextmanager
def child(code: str, *arguments: str) -> Iterator[subprocess.Popen]:
    """A Python process of our own, with the tests' environment; its standard output is read line by line."""
    process = subprocess.Popen(
        [sys.executable, "-u", "-c", code, *arguments], stdout=subprocess.PIPE, text=True, cwd=ROOT, env=os.environ
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        process.wait(10)
        process.stdout.close()


def line(process: subprocess.Popen, word: str) -> str:
    """The child's next line that begins with a word (the test's own time limit bounds the wait)."""
    for text in process.stdout:
        if text.startswith(word):
            return text.strip()
    raise AssertionError(f"the child ended ({process.wait(10)}) and never said {word!r}")
