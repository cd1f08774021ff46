"""The errors that a person is meant to read: one line, no traceback.

`FlowError` is shown by the command line as its message with its exit code, and by a notebook as the same line
(IPython asks an exception for `_render_traceback_` before it prints a traceback).
"""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """Exit codes of `flow360`, so that scripts and CI can tell what to mend; `flow360 --help` prints them."""

    OK = 0
    FAILED = 1  # the thing asked for was tried and did not work
    USAGE = 2  # the command line was wrong (typer's own code)
    PYTHON = 10
    JAVA = 11
    PORT = 12
    MEMORY = 13
    DISK = 14
    NETWORK = 15
    PERMISSION = 16
    LEFTOVERS = 17
    LINE_ENDS = 18
    DOCKER = 19
    SERVICE = 20  # a service did not become ready, or is down


class FlowError(Exception):
    """A failure with a one-line explanation that names the fix.

    Args:
        message: what is wrong and what to do, for a person. Two or three lines at most.
        code: the exit code of the command line.
    """

    def __init__(self, message: str, code: Exit = Exit.FAILED) -> None:
        super().__init__(message)
        self.message = message
        self.code = code

    def _render_traceback_(self) -> list[str]:
        return self.message.splitlines()


class ServiceError(FlowError):
    """A service is down, refuses us, or broke off: never the fault of a learner's answer, and so no verdict on it."""

    def __init__(self, message: str) -> None:
        super().__init__(message, Exit.SERVICE)
