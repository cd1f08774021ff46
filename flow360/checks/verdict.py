"""Three verdicts: not attempted, not yet, correct.

A check is a function whose parameters are named like the learner's variables. It asks the service, raises
`NotYet("orders: expected 1,204 rows, found 1,200: is the last page missing?")` or returns None, which means correct:

    @exercise
    def paged_client(fetch_all):
        orders = limited(fetch_all, 60)()
        expect_equal("fetch_all", found=len(orders), expected=truth(), why="is the last page missing?")

`@exercise` does the rest: it finds title and hints in solutions/STEM.toml, answers "not attempted" while a parameter
still is a hole, turns whatever the learner's own code raises into one line, and keeps the record.
"""

from __future__ import annotations

import ast
import functools
import inspect
import linecache
import numbers
import sys
import sysconfig
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path
from types import CodeType, FrameType, FunctionType
from typing import Any

from flow360.checks import card
from flow360.clients import reach
from flow360.course import progress
from flow360.course.registry import Chapter, Exercise, course
from flow360.errors import FlowError, ServiceError
from flow360.lesson.showing import show_code
from flow360.settings import ROOT
from flow360.waiting import patient

_LONGEST = 400


class Verdict(Exception):
    """A verdict: a card where somebody sits (flow360/checks/card.py), elsewhere an exception of one line."""

    kind: card.Kind

    def __init__(self, message: str) -> None:
        line = " ".join(str(message).split())
        self.message = line if len(line) <= _LONGEST else line[: _LONGEST - 1] + "…"
        super().__init__(self.message)

    def _render_traceback_(self) -> list[str]:
        return [card.line(self.kind, self.message)]


class NotAttempted(Verdict):
    """The answer still is (or holds) the `...` of the lab as shipped."""

    kind = card.NOT_ATTEMPTED


class NotYet(Verdict):
    """The answer is not right; the message says of which variable what was expected and what was found."""

    kind = card.NOT_YET


# --- Holes ----------------------------------------------------------------------------------------


def attempted(**values: Any) -> None:
    """Raise NotAttempted when one of the named values still is a hole.

    A hole is Ellipsis, the string "...", a list, tuple, set or dict that holds one of these, a function (or a method of
    a class) whose body is only `...`, or one in which a statement, an assigned value or a returned value is `...`.
    `@exercise` calls this for all parameters of a check.
    """
    for name, value in values.items():
        if where := _hole(value):
            raise NotAttempted(f"{name} {where}")


def _hole(value: Any) -> str:
    """Say where the hole is, as the end of a sentence; empty when there is none."""
    if value is Ellipsis or (isinstance(value, str) and value.strip() == "..."):
        return "is still `...`."
    if isinstance(value, (list, tuple, set, frozenset)):
        return "still holds `...`." if any(_hole(v) for v in value if not isinstance(v, type)) else ""
    if isinstance(value, dict):
        return "still holds `...`." if any(_hole(v) for v in [*value, *value.values()]) else ""
    if isinstance(value, type):
        bodies = [inspect.unwrap(v) for v in vars(value).values() if inspect.isroutine(v)]
        return next((text for v in bodies if (text := _hole(v))), "")
    if inspect.isroutine(value):
        function = inspect.unwrap(getattr(value, "__func__", value))
        return _hole_in_function(function) if isinstance(function, FunctionType) else ""
    return ""


def _hole_in_function(function: FunctionType) -> str:
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError, ValueError):
        return ""  # there is no source (made by exec), or it is a lambda inside an expression: somebody wrote it
    definition = next((n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)), None)
    body = definition.body if definition else []
    sayings = [s for s in body if isinstance(s, ast.Expr) and isinstance(s.value, ast.Constant)]
    if body and all(s in sayings or isinstance(s, ast.Pass) for s in body):
        return "has no body yet: replace the `...` in it."
    for node in (inner for statement in body for inner in ast.walk(statement)):
        filled = isinstance(node, ast.Expr | ast.Assign | ast.AnnAssign | ast.AugAssign | ast.Return)
        if filled and isinstance(node.value, ast.Constant) and node.value.value is Ellipsis:
            return f"still holds `...` (line {node.lineno} of the function): replace it, or write `pass` for nothing."
    return ""


# --- What a check is written with -----------------------------------------------------------------


def shown(value: Any) -> str:
    """Write a value as a message shows it: thousands with commas, long things cut."""
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.6g}"
    text = " ".join((value if isinstance(value, str) else repr(value)).split())
    text = repr(text) if isinstance(value, str) else text
    return text if len(text) <= 80 else text[:79] + "…"


def expect(condition: Any, message: str) -> None:
    """Raise NotYet(message) unless the condition holds."""
    if not condition:
        raise NotYet(message)


def expect_equal(name: str, *, found: Any, expected: Any, why: str = "") -> None:
    """Raise NotYet("name: expected …, found …: why") unless the two are equal. `why` is a nudge, not the answer."""
    if found != expected:
        tail = f": {why}" if why else ""
        raise NotYet(f"{name}: expected {shown(expected)}, found {shown(found)}{tail}")


def expect_type(name: str, value: Any, kind: type | tuple[type, ...]) -> None:
    """Raise NotYet unless the value is of that kind (or one of those): "name: expected a list, found a dict"."""
    kinds = kind if isinstance(kind, tuple) else (kind,)
    # A number that pandas or numpy made is a number.
    if not isinstance(value, tuple({int: numbers.Integral, float: numbers.Real}.get(k, k) for k in kinds)):
        wanted = " or ".join(k.__name__ for k in kinds)
        raise NotYet(f"{name}: expected {wanted}, found {type(value).__name__} ({shown(value)})")


def limited(func: Callable[..., Any], seconds: float, name: str | None = None) -> Callable[..., Any]:
    """Give the learner's function a deadline: `limited(fetch_all, 60)(url)`.

    It runs in a thread of its own, which cannot be ended by force: after the deadline it is left behind.

    Args:
        func: what to call.
        seconds: how long it may take, on an idle machine (see `flow360.waiting.patient`).
        name: what to call it in the message; by default its own name.

    Raises:
        NotYet: no answer in time. What the function itself raises comes through.
    """
    called = name or getattr(func, "__name__", "your function")
    seconds = patient(seconds)

    @functools.wraps(func)
    def call(*args: Any, **kwargs: Any) -> Any:
        outcome: list[tuple[bool, Any]] = []

        def target() -> None:
            try:
                outcome.append((True, func(*args, **kwargs)))
            except BaseException as error:  # noqa: BLE001 - it is raised again, in the thread that waits
                outcome.append((False, error))

        thread = threading.Thread(target=target, name=f"check-{called}", daemon=True)
        thread.start()
        thread.join(seconds)
        if not outcome:
            raise NotYet(f"{called}: no answer within {seconds:g} s: does a loop or a wait in it never end?")
        good, value = outcome[0]
        if good:
            return value
        raise value

    return call


# --- The check as an object -----------------------------------------------------------------------


class Check:
    """A check that can be called with the learner's variables and gives hints, one more each time.

    Attributes:
        name: as in solutions/STEM.toml. title: what the exercise is called. run: the bare function, for its own tests.
    """

    def __init__(self, run: Callable[..., None], chapter: Chapter, exercise: Exercise) -> None:
        self.run = run
        self.chapter = chapter
        self.exercise = exercise
        self.name = exercise.name
        self.title = exercise.title
        self.__doc__ = run.__doc__
        self.__signature__ = inspect.signature(run)
        self._hints_given = 0

    def __repr__(self) -> str:
        return f"check {self.name}{self.__signature__}: {self.title}"

    def __call__(self, *args: Any, **kwargs: Any) -> None:
        try:
            self._verdict(*args, **kwargs)
        except Verdict as verdict:
            if isinstance(verdict, NotYet):
                self._record(passed=False)
            if card.cell() is not None:
                card.show(verdict.kind, verdict.message, **self._about())
            if card.somebody_sits_there():
                return
            raise
        note = self._record(passed=True)
        said = _noted(f"{self.title}.{self._count()}", note)
        card.show(card.CORRECT, said, link=self._next(), **self._about())

    def hint(self) -> None:
        """Show the next hint; after the last one it begins again."""
        hints = self.exercise.hints
        number = self._hints_given % len(hints)
        self._hints_given += 1
        note = progress.record_help(self.chapter.stem, self.name, f"hint {number + 1}")
        label = f"Hint {number + 1} of {len(hints)}"
        card.show(card.HINT, _noted(hints[number], note), label=label, **self._about())

    def solution(self) -> None:
        """Show how the solved lab answers it, once the exercise has been tried.

        Raises:
            FlowError: this folder has no solutions.
        """
        from flow360.course.labs import solution_of  # nbformat takes longer to load than a check to answer
        from flow360.course.notebooks import read

        file = ROOT / self.chapter.solution
        if not progress.attempts(self.chapter.stem, self.name):
            tip = f"First try it yourself: answer, and run the check once. `check.{self.name}.hint()` helps."
            card.show(card.HINT, tip, label="Solution", **self._about())
            return
        if not file.exists():
            raise FlowError(f"{self.chapter.solution} is not in this folder: ask who gave you the course")
        note = progress.record_help(self.chapter.stem, self.name, "solution")
        said = _noted("One way; yours may be another, the check decides.", note)
        card.show(card.HINT, said, label="Solution", **self._about())
        show_code("\n\n".join(solution_of(read(file), self.name)))

    def _about(self) -> dict[str, str]:
        return {"chapter": self.chapter.stem, "exercise": self.name}

    def _verdict(self, *args: Any, **kwargs: Any) -> None:
        call = f"check.{self.name}({', '.join(self.__signature__.parameters)})"
        try:
            bound = self.__signature__.bind(*args, **kwargs)
        except TypeError as error:
            raise NotYet(f"{self.name}: call it as {call} ({error})") from None
        values = dict(bound.arguments)
        attempted(**values)
        try:
            self.run(*args, **kwargs)
        except (Verdict, ServiceError):
            raise
        except (Exception, SystemExit) as error:  # noqa: BLE001 - the learner's code may raise anything; it becomes one line
            for service in self.chapter.services:
                if not reach.answers(service):
                    raise reach.is_down(service) from None
            raise NotYet(explain(error, values)) from error

    def _record(self, *, passed: bool) -> str | None:
        return progress.record(self.chapter.stem, self.name, passed)

    def _passed(self) -> int | None:
        try:
            return progress.passed_in(self.chapter.stem)
        except FlowError:
            return None

    def _count(self) -> str:
        done = self._passed()
        return "" if done is None else f" {done} of {len(self.chapter.exercises)} in this lab."

    def _next(self) -> tuple[str, str] | None:
        """Say where to go when the lab is done: the title and the notebook of the next lesson."""
        if self._passed() != len(self.chapter.exercises):
            return None
        following = course().after(self.chapter)
        return following and (f"The lab is done. Next: {following.title}", f"../{following.lesson}")


def _noted(text: str, note: str | None) -> str:
    """Add what became of the learner's record, where there is something to say of it."""
    return f"{text}\n{note}" if note else text


def exercise(function: Callable[..., None]) -> Check:
    """Make the check of a chapter's module out of a function; its name must stand in the lab's file of exercises.

    The function's parameters are the learner's variables, by name; it takes one at least.
    """
    module = function.__module__.removeprefix("flow360.checks.").partition(".")[0]
    chapter = course().chapter(module.removeprefix("c"))
    entry = chapter.exercise(function.__name__)
    if not inspect.signature(function).parameters:
        raise FlowError(f"{chapter.checks}.{entry.name}: a check takes at least one variable of the learner's")
    return Check(function, chapter, entry)


def explain(error: BaseException, values: dict[str, Any]) -> str:
    """Say in one line of an unexpected error which variable, what was raised, and the line of the learner's cell."""
    if isinstance(error, FlowError):
        said = str(error)
    elif isinstance(error, SystemExit):
        said = "SystemExit (sys.exit or quit), which ends a program: return instead, or let an error be raised"
    else:
        said = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    frames = [(frame, line) for frame, line in _frames(error) if _is_learners(frame.f_code)]
    if not frames:
        name = next(iter(values), "your answer")
        kinds = ", ".join(f"{n} is a {type(v).__name__}" for n, v in values.items() if not callable(v))
        return f"{name}: the check could not use it: {said}" + (f" ({kinds})" if kinds else "")
    frame, line = frames[-1]
    entered = {f.f_code for f, _ in frames}
    name = next((n for n, v in values.items() if _codes(v) & entered), frame.f_code.co_name)
    text = linecache.getline(frame.f_code.co_filename, line).strip()
    return f"{name}: it raised {said}, in line {line} of its cell" + (f": `{shown(text)[1:-1]}`" if text else "")


def _frames(error: BaseException) -> list[tuple[FrameType, int]]:
    found, trace = [], error.__traceback__
    while trace:
        found.append((trace.tb_frame, trace.tb_lineno))
        trace = trace.tb_next
    return found


def _codes(value: Any) -> set[CodeType]:
    """Find the code of a function, or of the methods of a class or an object."""
    if isinstance(value, (list, tuple)):
        return set().union(*(_codes(v) for v in value))
    function = inspect.unwrap(getattr(value, "__func__", value)) if callable(value) else value
    if isinstance(function, FunctionType):
        return {function.__code__}
    owner = function if isinstance(function, type) else type(function)
    return {v.__code__ for v in vars(owner).values() if isinstance(v, FunctionType)}


def _is_learners(code: CodeType) -> bool:
    """Say whether the code was written in a cell: not ours, not the standard library's, not an installed package's."""
    file = code.co_filename
    if file.startswith("<frozen"):
        return False
    ours = (str(ROOT / "flow360"), sysconfig.get_path("stdlib"), sysconfig.get_path("purelib"), sys.prefix)
    resolved = str(Path(file))
    return not any(resolved.startswith(f"{folder}/") for folder in ours)
