"""Verdicts: holes are seen, learners' errors become one line, a service that is down is named."""

from __future__ import annotations

import threading
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from flow360.checks import card, verdict
from flow360.checks.verdict import (
    Check,
    NotAttempted,
    NotYet,
    attempted,
    exercise,
    expect,
    expect_equal,
    expect_type,
    limited,
    shown,
)
from flow360.clients import reach
from flow360.course import progress
from flow360.course.labs import solution_of
from flow360.course.notebooks import read
from flow360.course.registry import Chapter, Exercise, course
from flow360.errors import FlowError, ServiceError
from flow360.settings import ROOT, settings


@pytest.fixture(autouse=True)
def own_progress(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FLOW360_PROGRESS", str(tmp_path / "progress.json"))
    settings.cache_clear()
    yield
    settings.cache_clear()


@pytest.fixture(autouse=True)
def services_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reach, "answers", lambda service: True)


def make(run) -> Check:
    entry = Exercise("paged_client", "A client that reads every page", ("first hint", "second hint"))
    return Check(run, Chapter("01_sources", "T", "1", 1, ("market-api",), None, (entry,)), entry)


# --- Holes --------------------------------------------------------------------------------------


def empty(): ...


def with_docstring(x: int) -> int:
    """What it does."""
    ...


def with_pass():
    pass


async def later(): ...


def first_line_given(x):
    rows = x + 1
    ...
    return rows


def hole_assigned(x):
    rows = ...
    return [x, rows]


def hole_returned(x):
    x += 1
    return ...


class Half:
    def done(self):
        return 1

    def open(self): ...


FROM_EXEC: dict = {}
exec("def stub():\n    '''doc'''\n    ...\n", FROM_EXEC)


@pytest.mark.parametrize(
    "value",
    [
        ...,
        "...",
        " ... ",
        [1, ...],
        {"acks": ...},
        ({"a": [...]},),
        empty,
        with_docstring,
        with_pass,
        later,
        first_line_given,
        hole_assigned,
        hole_returned,
        Half,
        Half().open,
    ],
)
def test_a_hole_is_not_attempted(value) -> None:
    with pytest.raises(NotAttempted, match="^answer "):
        attempted(other=1, answer=value)


def slices(a):
    return a[..., 0]


def annotated(a: tuple[int, ...]) -> tuple[int, ...]:
    pairs: tuple[int, ...] = a
    return pairs


def generator():
    yield 1


def nothing_found():
    return None


@pytest.mark.parametrize(
    "value",
    [None, 0, "", "a ... b", [], {}, slices, annotated, generator, lambda: 1, lambda x: x, int, len, Half.done, Path()]
    + [nothing_found, lambda: None, FROM_EXEC["stub"]],
)
def test_an_answer_is_attempted(value) -> None:
    attempted(answer=value)


# --- The check ----------------------------------------------------------------------------------


def test_correct_is_said_and_recorded(capsys: pytest.CaptureFixture[str]) -> None:
    def paged_client(fetch_all):
        expect_equal("fetch_all", found=fetch_all(), expected=3)

    assert make(paged_client)(lambda: 3) is None
    assert "Correct:" in (out := capsys.readouterr().out)
    assert "1 of 1 in this lab" in out
    assert progress.passed_in("01_sources") == 1


def test_not_attempted_counts_no_attempt() -> None:
    check = make(lambda fetch_all: None)
    with pytest.raises(NotAttempted):
        check(empty)
    assert progress.load() == {}


def test_not_yet_counts_an_attempt() -> None:
    def paged_client(fetch_all):
        expect_equal("fetch_all", found=1200, expected=1204, why="is the last page missing?")

    with pytest.raises(NotYet) as error:
        make(paged_client)(print)
    assert str(error.value) == "fetch_all: expected 1,204, found 1,200: is the last page missing?"
    assert progress.load()["01_sources/paged_client"]["attempts"] == 1


def raises_key_error(url=None):
    return {}["next"]


class Client:
    def pages(self):
        return raises_key_error()


def calls_helper():
    return Client().pages()


def test_the_learners_error_names_variable_error_and_line() -> None:
    check = make(lambda fetch_all: fetch_all())
    with pytest.raises(NotYet) as error:
        check(raises_key_error)
    line = raises_key_error.__code__.co_firstlineno + 1
    assert str(error.value) == (
        f"fetch_all: it raised KeyError: 'next', in line {line} of its cell: `return {{}}[\"next\"]`"
    )


def test_the_innermost_line_of_the_learner_is_named() -> None:
    with pytest.raises(NotYet, match=r"^fetch_all: it raised KeyError"):
        make(lambda other, fetch_all: limited(fetch_all, 5)())(1, calls_helper)


def test_an_object_of_the_learner_is_named() -> None:
    with pytest.raises(NotYet, match=r"^client: it raised KeyError"):
        make(lambda client: client.pages())(Client())


def test_an_error_in_the_check_is_about_the_first_value(monkeypatch: pytest.MonkeyPatch) -> None:
    # The check's own code stands in flow360/checks; here it stands in this file, so this file is declared ours.
    monkeypatch.setattr(verdict, "_is_learners", lambda code: False)
    with pytest.raises(NotYet, match=r"orders: the check could not use it: KeyError: 'id' \(orders is a dict\)"):
        make(lambda orders: orders["id"])({})


def test_a_service_that_is_down_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(fetch_all):
        raise ConnectionResetError("reset")

    monkeypatch.setattr(reach, "answers", lambda service: False)
    with pytest.raises(FlowError, match="market-api does not answer on 127.0.0.1:.*flow360 up market-api") as error:
        make(broken)(print)
    assert "\n" not in str(error.value)
    assert progress.load() == {}


def test_a_flow_error_of_a_service_comes_through() -> None:
    def broken(fetch_all):
        raise ServiceError("kafka does not answer")

    with pytest.raises(FlowError, match="kafka does not answer"):
        make(broken)(print)


def test_another_flow_error_is_the_learners() -> None:
    def bad_sql():
        raise FlowError("warehouse: syntax error")

    with pytest.raises(NotYet, match="fetch_all: it raised warehouse: syntax error"):
        make(lambda fetch_all: fetch_all())(bad_sql)


def test_a_wrong_call_says_how() -> None:
    with pytest.raises(NotYet, match=r"call it as check.paged_client\(fetch_all\)"):
        make(lambda fetch_all: None)()


def test_hints_come_one_by_one(capsys: pytest.CaptureFixture[str]) -> None:
    check = make(lambda fetch_all: None)
    for _ in range(3):
        check.hint()
    said = [card.line(card.HINT, f"{hint} hint", f"Hint {n} of 2") for n, hint in ((1, "first"), (2, "second"))]
    assert capsys.readouterr().out.splitlines() == [*said, said[0]]


def test_a_hint_says_what_became_of_an_unreadable_record(capsys: pytest.CaptureFixture[str]) -> None:
    settings().progress_file.write_text("{", "utf-8")
    make(lambda fetch_all: None).hint()
    assert "first hint\nprogress.json could not be read" in capsys.readouterr().out


def test_the_solution_is_shown_after_an_honest_try(capsys: pytest.CaptureFixture[str]) -> None:
    check = make(lambda fetch_all: expect(fetch_all is not print, "no"))
    check.hint()
    check.hint()
    check.solution()
    assert "First try it yourself" in (out := capsys.readouterr().out) and "def " not in out
    assert progress.load()["01_sources/paged_client"]["help"] == "hint 2"
    with pytest.raises(NotYet):
        check(print)
    check.solution()
    assert "def fetch_deliveries" in (out := capsys.readouterr().out) and "SOLUTION" not in out
    check.hint()
    assert progress.load()["01_sources/paged_client"]["help"] == "solution"


@pytest.mark.parametrize("chapter", [one for one in course().chapters if one.written], ids=lambda one: one.number)
def test_each_exercise_has_a_solution_that_can_be_shown(chapter: Chapter) -> None:
    solved = read(ROOT / chapter.solution)
    shown = {one.name: "\n\n".join(solution_of(solved, one.name)) for one in chapter.exercises}
    assert all(text and "SOLUTION" not in text for text in shown.values())
    assert len(set(shown.values())) == len(shown)


def test_exercise_finds_its_entry() -> None:
    def paged_client(fetch_all):
        """Doc."""

    paged_client.__module__ = "flow360.checks.c01_sources"
    check = exercise(paged_client)
    assert (check.name, check.title, check.__doc__) == ("paged_client", check.exercise.title, "Doc.")


@pytest.mark.parametrize(("name", "says"), [("nothing", "no exercise"), ("paged_client", "at least one variable")])
def test_exercise_refuses_what_does_not_fit(name: str, says: str) -> None:
    def function():
        """Doc."""

    function.__name__, function.__module__ = name, "flow360.checks.c01_sources"
    with pytest.raises(FlowError, match=says):
        exercise(function)


# --- Helpers ------------------------------------------------------------------------------------


def test_limited_ends_the_wait() -> None:
    never = threading.Event()
    with pytest.raises(NotYet, match=r"wait: no answer within 0.05 s"):
        limited(never.wait, 0.05)()
    never.set()


def test_limited_passes_values_and_errors() -> None:
    assert limited(lambda a, b=1: a + b, 5)(2, b=3) == 5
    with pytest.raises(ZeroDivisionError):
        limited(lambda: 1 / 0, 5)()


def test_expectations() -> None:
    expect(True, "no")
    expect_equal("a", found=1, expected=1.0)
    expect_type("a", [], (list, tuple))
    with pytest.raises(NotYet, match=r"a: expected list or tuple, found dict"):
        expect_type("a", {}, (list, tuple))
    with pytest.raises(NotYet, match="^no$"):
        expect([], "no")


def test_a_message_is_one_line_of_bounded_length() -> None:
    assert str(NotYet("a\n  b")) == "a b"
    assert len(str(NotYet("x" * 5000))) == 400
    assert len(shown("x" * 5000)) <= 80
    assert shown(1204) == "1,204"


# --- In a real kernel ---------------------------------------------------------------------------

CELLS = [
    """
from flow360 import clients
from flow360.checks.verdict import Check
from flow360.course.registry import Chapter, Exercise, course
clients.reach.answers = lambda service: True
entry = Exercise("one", "One", ("h",))
def run(fetch_all):
    from flow360.checks.verdict import NotYet
    if fetch_all() != 1:
        raise NotYet("fetch_all: expected 1, found another")
check = Check(run, Chapter("01_sources", "T", "1", 1, ("market-api",), None, (entry,)), entry)
""",
    "def fetch_all():\n    '''Doc.'''\n    ...",
    "check(fetch_all)",
    "def fetch_all():\n    rows = 1\n    ...\n    return rows",
    "check(fetch_all)",
    "def fetch_all():\n    return 2",
    "check(fetch_all)",
    "def fetch_all():\n    page = {}\n    return page['next']",
    "check(fetch_all)",
    "fetch_all = lambda: 1",
    "check(fetch_all)",
    "from flow360.errors import FlowError\nraise FlowError('kafka does not answer')",
]


def test_a_notebook_shows_one_line(tmp_path: Path) -> None:
    cells = [nbformat.v4.new_code_cell(source) for source in CELLS]
    notebook = nbformat.v4.new_notebook(cells=cells)
    NotebookClient(notebook, timeout=60, allow_errors=True, kernel_name="python3").execute(cwd=str(tmp_path))
    errors = {n: o for n, c in enumerate(notebook.cells) for o in c.outputs if o.output_type == "error"}
    assert {n: o.ename for n, o in errors.items()} == {
        2: "NotAttempted",
        4: "NotAttempted",
        6: "NotYet",
        8: "NotYet",
        11: "FlowError",
    }
    assert all(len(o.traceback) == 1 for o in errors.values())
    assert errors[6].evalue == "fetch_all: expected 1, found another"
    assert errors[8].evalue == ("fetch_all: it raised KeyError: 'next', in line 3 of its cell: `return page['next']`")
    assert "line 3 of the function" in errors[4].evalue
    cards = {n: o.data for n, c in enumerate(notebook.cells) for o in c.outputs if o.output_type == "display_data"}
    said = {n: data[card.MIME]["verdict"] for n, data in cards.items()}
    assert said == {2: "not attempted", 4: "not attempted", 6: "not yet", 8: "not yet", 10: "correct"}
    about = {"chapter": "01_sources", "exercise": "one", "message": "fetch_all: expected 1, found another"}
    assert cards[6][card.MIME] == about | {"verdict": "not yet", "label": "Not yet"}
    assert "return page[" in cards[8]["text/html"] and "<code>" in cards[8]["text/html"]


def test_where_somebody_sits_a_wrong_answer_is_a_card_and_not_an_error(tmp_path: Path) -> None:
    """As JupyterLab runs a cell: it says that it can be asked for input."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in CELLS[:3]])
    client = NotebookClient(notebook, timeout=60, kernel_name="python3")
    with client.setup_kernel(cwd=str(tmp_path)):
        client.kc.allow_stdin = True
        for number, cell in enumerate(notebook.cells):
            client.execute_cell(cell, number)
    (output,) = notebook.cells[2].outputs
    assert (output.output_type, output.data[card.MIME]["verdict"]) == ("display_data", "not attempted")


def test_after_the_last_exercise_the_next_lesson_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    make(lambda fetch_all: None)(print)
    assert "The lab is done. Next: " in (out := capsys.readouterr().out)
    assert f"../{course().after(course().chapter('01')).lesson}" in out
    assert course().after(course().chapters[-1]) is None


def test_a_card_s_label_is_read_by_day_and_by_night() -> None:
    """White letters on its colour have a contrast of 4.5 at least (WCAG 2.2, 1.4.3)."""

    def light(colour: str) -> float:
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    for kind in (card.NOT_ATTEMPTED, card.NOT_YET, card.CORRECT, card.HINT):
        assert 1.05 / (light(kind.colour) + 0.05) >= 4.5, kind.label
