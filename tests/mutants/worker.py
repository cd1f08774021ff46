"""A process that runs mutants of one exercise, one after the other, as a kernel would.

Each line of standard input is a JSON object with the sources of the answer's cells that differ, by cell id; each line
of the answer (on the standard output that it was started with) is a `Said`. A mutant that never ends is ended by
killing this process, so nothing here outlives a mutant but the lab's first cell.
"""

from __future__ import annotations

import json
import numbers
import os
import sys
import time
from dataclasses import asdict, dataclass
from decimal import Decimal
from typing import Any, TextIO

from flow360.checks.verdict import NotAttempted, NotYet
from flow360.course.registry import course
from flow360.settings import ROOT
from tests import answers
from tests.mutants.lab import Solved, exercises


@dataclass(frozen=True)
class Said:
    """What became of one mutant.

    Attributes:
        verdict: "correct", "not yet", "not attempted", "raised" (the answer's own cell did not get to its end), or
            "broken" (the check ended in something else than a verdict).
        message: the verdict's line.
        value: the answer, where it is a number, a text or a list of these; two of the same value are the same answer.
        seconds: how long it took, the check alone.
    """

    verdict: str
    message: str
    value: str | None
    seconds: float


def main(number: str, name: str) -> None:
    """Answer each line of standard input."""
    commands, answer_to = own_streams()
    chapter = course().chapter(number)
    solved = exercises(chapter)[name]
    os.chdir((ROOT / chapter.solution).parent)
    shell = _shell()
    for cell in solved.before:
        _run(shell, cell.source)
    known = set(shell.user_ns)
    answer_to.write("ready\n")
    for line in commands:
        answers.reset(number, name)
        # A name that the mutant before has given would hide that this one does not.
        for left in set(shell.user_ns) - known:
            del shell.user_ns[left]
        answer_to.write(json.dumps(asdict(_try(shell, solved, json.loads(line)))) + "\n")
        answers.reset(number, "")


def own_streams() -> tuple[TextIO, TextIO]:
    """Return standard input and output, and leave empty ones in their places for whatever a mutant starts.

    A program that reads its standard input would wait for the next mutant, and then swallow it.
    """
    commands, answer_to = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w", buffering=1)
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)
    return commands, answer_to


def _shell() -> Any:
    from IPython.core.interactiveshell import InteractiveShell

    shell = InteractiveShell.instance()
    shell.history_manager.enabled = False
    return shell


def _run(shell: Any, source: str) -> None:
    """Run a cell; what it raises comes through."""
    shell.run_cell(source, store_history=False, silent=True).raise_error()


def _try(shell: Any, solved: Solved, changed: dict[str, str]) -> Said:
    for cell in solved.cells:
        try:
            _run(shell, changed.get(cell.id, cell.source))
        except BaseException as error:  # noqa: BLE001 - a mutant may raise anything; the learner would see it
            return Said("raised", f"{type(error).__name__}: {error}", None, 0.0)
    begun = time.monotonic()
    verdict, message = "correct", ""
    try:
        _run(shell, solved.check.source)
    except NotYet as error:
        verdict, message = "not yet", str(error)
    except NotAttempted as error:
        verdict, message = "not attempted", str(error)
    except BaseException as error:  # noqa: BLE001 - it is what we look for
        verdict, message = "broken", f"{type(error).__name__}: {error}"
    return Said(verdict, message, _value(shell, solved), round(time.monotonic() - begun, 2))


def _value(shell: Any, solved: Solved) -> str | None:
    names = solved.variables()
    given = {target for target in names if f"{target} = " in solved.check.source}
    if len(names) != 1 or given:
        return None
    return _plain(shell.user_ns.get(names[0]))


def _plain(value: Any) -> str | None:
    """Write a number, a text, or a list of these, as text; None for anything else."""
    if isinstance(value, list | tuple):
        inside = [_plain(one) for one in value]
        return None if None in inside else repr(inside)
    if isinstance(value, str | numbers.Number | Decimal):
        return repr(value.item() if hasattr(value, "item") else value)
    return None


if __name__ == "__main__":
    main(*sys.argv[1:])
