"""What notebooks import, tried with a fake stack and no service."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import nbformat
import psycopg
import pytest
from nbclient import NotebookClient

from flow360 import lesson
from flow360.clients import query
from flow360.errors import FlowError
from flow360.settings import ROOT
from flow360.stack.model import model
from flow360.stack.status import Event, ServiceStatus
from flow360.waiting import patient, rounds


class FakeStack:
    """Remembers what was asked of it; a service named in `bad` cannot be started."""

    def __init__(self, *running: str, bad: str = "") -> None:
        self.names = ("postgres-dwh", "hive-metastore", "hive-server", "kafka", "primeur-load", "jupyterlab")
        self.model = model()
        self.asked = 0  # how often for the status
        self.running = set(running)
        self.bad = bad
        self.calls: list[tuple] = []

    def status(self) -> list[ServiceStatus]:
        self.asked += 1
        return [
            ServiceStatus(
                name=name,
                layer=2,
                state=("done" if name == "primeur-load" else "running") if name in self.running else "stopped",
                runs="real",
                what=f"the {name}",
                port=None if name == "primeur-load" else 19092,
                pss_mb=278.4 if name in self.running else 0,
                link="http://127.0.0.1:1/" if name == "jupyterlab" else None,
                title=name,
            )
            for name in self.names
        ]

    def up(self, names, progress) -> None:
        self.calls.append(("up", list(names)))
        for name in names:
            progress(Event(name, "starting"))
            if name == self.bad:
                raise FlowError(f"{name} did not become ready")
            progress(Event(name, "running"))
            self.running.add(name)

    def down(self, names, progress, *, alone=False) -> None:
        self.calls.append(("down", list(names)))
        for name in self.model.dependants(names):
            if name in self.running and not self.model[name].job:
                self.running.remove(name)
                progress(Event(name, "stopped"))

    def logs(self, name: str, lines: int) -> str:
        return f"{lines} lines of {name}"


@pytest.fixture
def stack(monkeypatch: pytest.MonkeyPatch) -> FakeStack:
    monkeypatch.setattr("flow360.lesson.stopping._users", {})
    fake = FakeStack("postgres-dwh")
    monkeypatch.setattr("flow360.stack.open_stack", lambda: fake)
    return fake


# --- Services -----------------------------------------------------------------------------------


def test_start_starts_what_is_missing_and_shows_it(stack: FakeStack, capsys) -> None:
    lesson.start("00_welcome", "kafka")
    assert stack.calls == [("up", ["primeur-load", "kafka"])]
    out = capsys.readouterr().out
    assert "kafka: starting" in out
    assert "primeur-load" in out.splitlines()[-1] or "done" in out
    assert "jupyterlab" not in out


def test_start_does_nothing_when_all_runs(stack: FakeStack, capsys) -> None:
    lesson.start("postgres-dwh")
    assert stack.calls == []
    assert "running" in capsys.readouterr().out
    assert stack.asked == 1


def test_start_asks_each_service_before_and_after_and_not_in_between(stack: FakeStack) -> None:
    lesson.start("kafka")
    assert stack.asked == 2


def test_start_passes_the_failure_on(stack: FakeStack) -> None:
    stack.bad = "kafka"
    with pytest.raises(FlowError, match="kafka did not become ready"):
        lesson.start("kafka")


def test_start_wants_a_name(stack: FakeStack) -> None:
    with pytest.raises(FlowError, match="name a chapter"):
        lesson.start()


def test_a_download_is_reported_now_and_then(capsys) -> None:
    say = lesson._progress()
    for n in range(100):
        say(Event("kafka", "fetching", f"{n} of 100", share=n / 100))
    say(Event("kafka", "fetching", "100 of 100", share=1.0))
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_stop_and_logs(stack: FakeStack, capsys) -> None:
    lesson.stop("postgres-dwh")
    lesson.logs("kafka", 3)
    assert stack.calls == [("down", ["postgres-dwh"])]
    assert capsys.readouterr().out.splitlines() == ["stopped: postgres-dwh", "3 lines of kafka"]


def test_stop_names_all_that_it_stopped_and_start_brings_all_of_it_back(stack: FakeStack, capsys) -> None:
    stack.running |= {"hive-metastore", "hive-server", "kafka"}
    lesson.stop("postgres-dwh", "kafka")
    assert capsys.readouterr().out == "stopped: hive-server, hive-metastore, kafka, postgres-dwh\n"
    lesson.stop("postgres-dwh")
    assert capsys.readouterr().out == "stopped: none of them was running\n"
    stack.bad = "hive-server"
    with pytest.raises(FlowError, match="hive-server did not become ready"):
        lesson.start("postgres-dwh")
    stack.bad = ""
    lesson.start("postgres-dwh")
    assert stack.running == {"postgres-dwh", "hive-metastore", "hive-server"}, "kafka was not stopped with it"
    assert "hive-server" in capsys.readouterr().out
    stack.running -= {"hive-server"}
    lesson.start("postgres-dwh")
    assert "hive-server" not in stack.running, "what came back is forgotten"


def test_status_table(stack: FakeStack) -> None:
    table = lesson.status_table().set_index("service")
    assert table.loc["postgres-dwh", "port"] == 19092
    assert table.loc["postgres-dwh", "memory_mb"] == pytest.approx(278.4)
    assert list(table.columns) == ["layer", "state", "runs", "what", "port", "memory_mb", "link"]


def test_page_shows_the_link_of_a_service_that_runs(stack: FakeStack, capsys) -> None:
    stack.running.add("jupyterlab")
    lesson.page("jupyterlab", "lab/tree")
    assert capsys.readouterr().out == "jupyterlab: http://127.0.0.1:1/lab/tree\n"
    stack.running.remove("jupyterlab")
    for name, why in {"jupyterlab": "does not run", "kafka": "no page of its own", "kafak": "no such service"}.items():
        with pytest.raises(FlowError, match=why):
            lesson.page(name)


def test_the_panel_starts_stops_and_has_a_text_twin(stack: FakeStack) -> None:
    panel = lesson.status()
    assert "kafka" in repr(panel)
    assert panel._repr_mimebundle_()["text/plain"] == repr(panel)
    buttons = {row.children[-1].tooltip: row.children[-1] for row in panel._rows.children if len(row.children) == 8}
    names = ("hive-metastore", "hive-server", "kafka", "primeur-load")
    assert set(buttons) == {"Stop postgres-dwh", *(f"Start {name}" for name in names)}
    buttons["Start hive-server"].click()
    buttons["Stop postgres-dwh"].click()
    assert stack.calls == [("up", ["hive-server"]), ("down", ["postgres-dwh"])]
    assert "hive-server, postgres-dwh: stopped" in panel._message.value
    panel._act("postgres-dwh", "Start", buttons["Start kafka"])
    assert stack.calls[-1] == ("up", ["postgres-dwh", "hive-server"])
    assert "postgres-dwh, hive-server: started" in panel._message.value


def test_the_panel_says_what_failed(stack: FakeStack) -> None:
    stack.bad = "kafka"
    panel = lesson.status()
    panel._act("kafka", "Start", panel._rows.children[4].children[-1])
    assert "kafka did not become ready" in panel._message.value


# --- wait_for -----------------------------------------------------------------------------------


def test_wait_for_returns_the_truthy_value() -> None:
    answers = iter([None, [], 0, FlowError("down"), ConnectionResetError("reset"), "yes"])

    def condition():
        value = next(answers)
        if isinstance(value, Exception):
            raise value
        return value

    assert lesson.wait_for(condition, every=0) == "yes"


def test_wait_for_takes_a_frame_with_rows() -> None:
    import pandas as pd

    assert len(lesson.wait_for(lambda: pd.DataFrame({"a": [1]}), deadline=0)) == 1
    with pytest.raises(FlowError, match="rows"):
        lesson.wait_for(lambda: pd.DataFrame(), deadline=0, what="rows")


def test_wait_for_says_what_was_seen_last() -> None:
    began = time.monotonic()
    with pytest.raises(FlowError, match=r"waited 0.1 s for the topic, without success; last seen: \[\]"):
        lesson.wait_for(list, deadline=0.1, what="the topic", every=0.02)
    assert time.monotonic() - began < patient(1)


def test_rounds_end_and_one_comes_at_the_end() -> None:
    began = time.monotonic()
    assert len(list(rounds(0))) == 1
    assert len(list(rounds(0.2, every=10))) == 2
    assert time.monotonic() - began < patient(2)


def test_wait_for_lets_a_mistake_through() -> None:
    with pytest.raises(ZeroDivisionError):
        lesson.wait_for(lambda: 1 / 0)


# --- run ----------------------------------------------------------------------------------------


def test_run_returns_what_was_printed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert lesson.run(["python", "-c", "import os; print(os.getcwd(), os.environ['A'])"], env={"A": "b"}) == (
        f"{ROOT} b\n"
    )
    assert lesson.run(["python", "-c", "import sys; print(sys.stdin.read())"], stdin="in", cwd=tmp_path) == "in\n"


def test_run_fails_in_few_lines() -> None:
    program = "import sys; print('a\\nb\\nc\\nd', file=sys.stderr); sys.exit(3)"
    with pytest.raises(FlowError) as error:
        lesson.run([sys.executable, "-c", program])
    assert str(error.value).splitlines()[0].endswith("ended with exit code 3")
    assert str(error.value).splitlines()[1:] == ["b", "c", "d"]


def test_run_names_a_missing_program_and_a_string() -> None:
    with pytest.raises(FlowError, match="no-such-program was not found"):
        lesson.run(["no-such-program"])
    with pytest.raises(FlowError, match="takes a list"):
        lesson.run("ls -l")


def test_run_ends_the_whole_group(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    program = (
        "import subprocess, sys, pathlib;"
        "child = subprocess.Popen([sys.executable, '-c', 'import signal; signal.pause()']);"
        f"pathlib.Path({str(note)!r}).write_text(str(child.pid)); child.wait()"
    )
    with pytest.raises(FlowError, match="took more than"):
        lesson.run([sys.executable, "-c", program], seconds=2)
    child = int(note.read_text())
    lesson.wait_for(lambda: not _alive(child), deadline=5, what="the child's end")


def _alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


# --- show, mermaid ------------------------------------------------------------------------------


def test_show_a_function_a_file_and_a_region(tmp_path: Path, capsys) -> None:
    lesson.show(_alive)
    assert "def _alive(pid: int)" in capsys.readouterr().out
    path = tmp_path / "a.yaml"
    path.write_text("a: 1\n# [START b]\n  b: 2\n  c: 3\n# [END b]\nd: 4\n", "utf-8")
    lesson.show(path, region="b")
    assert capsys.readouterr().out == "b: 2\nc: 3\n"
    lesson.show("course.toml")
    assert "[[chapter]]" in capsys.readouterr().out


def test_show_refuses_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "a.py"
    path.write_text("# [START b]\n", "utf-8")
    with pytest.raises(FlowError, match=r"\[END b\] stands there 0 times"):
        lesson.show(path, region="b")
    with pytest.raises(FlowError, match="No such file"):
        lesson.show("nothing.py")
    with pytest.raises(FlowError, match="holds passwords"):
        lesson.show(".env")
    with pytest.raises(FlowError, match="cannot be found"):
        lesson.show(len)


def test_what_a_kernel_displays(tmp_path: Path) -> None:
    source = "from flow360 import lesson\nlesson.mermaid('''\n  graph LR\n    a --> b\n''')\nlesson.show(lesson.sql)"
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
    NotebookClient(book, timeout=60, kernel_name="python3").execute(cwd=str(tmp_path))
    diagram, code = (output.data for output in book.cells[0].outputs)
    assert diagram["text/vnd.mermaid"] == "graph LR\n  a --> b"
    assert code["text/markdown"].startswith("`flow360/clients/query.py`, lines ")
    assert "```python\ndef sql(" in code["text/markdown"]


# --- sql ----------------------------------------------------------------------------------------


class FakeConnection:
    """A connection whose one statement fails as PostgreSQL would say it."""

    class adapters:
        register_loader = staticmethod(lambda *args: None)

    def __init__(self, error: psycopg.Error) -> None:
        self.error = error

    def __enter__(self):
        return self

    def __exit__(self, *args: object) -> None:
        return None

    def execute(self, query, params):
        raise self.error

    def rollback(self) -> None:
        return None


class Diagnosed(psycopg.ProgrammingError):
    """An error with a diagnosis, as from a server."""

    class diag:
        message_primary = 'relation "odrers" does not exist'
        message_hint = "Perhaps you meant orders."
        statement_position = "24"


def test_an_sql_error_is_one_line_with_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(query, "postgres", lambda which: FakeConnection(Diagnosed()))
    with pytest.raises(FlowError) as error:
        lesson.sql("select count(*)\n  from odrers")
    assert str(error.value) == (
        'warehouse: relation "odrers" does not exist (line 2, column 8: `from odrers`). Perhaps you meant orders.'
    )


def test_an_error_of_the_client_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    said = psycopg.ProgrammingError("the query has 1 placeholder but 0 parameters were passed")
    monkeypatch.setattr(query, "postgres", lambda which: FakeConnection(said))
    with pytest.raises(FlowError, match="source: the query has 1 placeholder"):
        lesson.sql("select %s", [], db="source")
