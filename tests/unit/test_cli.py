"""The command line: exit codes, JSON for programs, one line for what is wrong."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import subprocess
import sys
from datetime import date
from decimal import Decimal
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

import flow360.stack
from flow360.cli import app
from flow360.errors import Exit, FlowError
from flow360.settings import PORTS, ROOT, settings
from flow360.stack.model import model
from flow360.stack.status import Event

COMMANDS = (
    "up", "down", "status", "logs", "doctor", "reset", "goto", "run", "labs", "next", "report", "generate", "play",
    "progress", "reconcile", "env", "jars", "trace",
)  # fmt: skip


@pytest.fixture(autouse=True)
def apart(tmp_path, monkeypatch):
    """A state folder with nothing in it: no test here sees or starts a service."""
    monkeypatch.setenv("FLOW360_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("FLOW360_ENV_FILE", str(tmp_path / ".env"))
    monkeypatch.setenv("FLOW360_PROGRESS", str(tmp_path / "progress.json"))
    monkeypatch.setenv("FLOW360_ENGINE", "native")
    settings.cache_clear()
    yield
    settings.cache_clear()


def flow360_(*words: str, **more):
    return CliRunner().invoke(app, list(words), **more)


def one_line(result, code: Exit) -> str:
    """Its only line of standard error; it left with `code`, and said nothing else."""
    assert result.exit_code == code, result.output
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("flow360: ")
    return lines[0]


# --- help -------------------------------------------------------------------------------------------------------------


def test_help_names_every_command_and_every_exit_code():
    result = flow360_("--help", env={"COLUMNS": "200", "NO_COLOR": "1"})
    assert result.exit_code == 0
    for name in COMMANDS:
        assert re.search(rf"\b{name}\b", result.stdout), name
    told = " ".join(result.stdout.replace("│", " ").split())
    for code in Exit:
        assert f"{code.value} {code.name.lower().replace('_', ' ')}" in told


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_explains_itself(name):
    result = flow360_(name, "--help")
    assert result.exit_code == 0
    assert "Usage" in result.stdout


def test_exit_codes_differ():
    assert len({code.value for code in Exit}) == len(Exit)
    assert not any(code.value >= 126 for code in Exit), "shells use these"


# --- what is wrong is one line ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [["2026-05-1"], ["2026-05-03"], ["2036-01-01"], ["2026-05-07", "--speed", "-1"]])
def test_a_day_that_cannot_be_played(words):
    assert words[-1] in one_line(flow360_("play", *words), Exit.USAGE)


@pytest.mark.parametrize("day", ["2026-05-1", "yesterday"])
def test_a_day_that_cannot_be_compared(day):
    assert f"{day}: a date, as 2026-05-07" in one_line(flow360_("reconcile", day), Exit.USAGE)


@pytest.mark.parametrize("equal", [True, False])
def test_a_day_that_differs_says_where_and_leaves_with_an_error(monkeypatch, equal):
    from flow360.storage import reconcile as room
    from flow360.storage.ledger import Entry, Ledger

    day, layers = date(2026, 5, 7), {"shop": {1: Decimal("7.50")}, "mart": {1: Decimal("7.50")} if equal else {}}
    ledger = Ledger(day, (Entry("orders", "shop", "orders.csv", "clean", None, 1),))
    found = room.Reconciled(day, layers, ledger, tuple(room.differences(layers)))
    monkeypatch.setattr(room, "reconcile", lambda wanted: found if wanted == day else None)
    result = flow360_("reconcile", "2026-05-07", env={"COLUMNS": "200"})
    assert "orders: 1 delivered = 1 clean" in result.stdout
    assert ("order 1: in shop, not in mart" in result.stdout) != equal
    assert ("2026-05-07 is the same in all layers" in result.stdout) == equal
    assert result.exit_code == (Exit.OK if equal else Exit.FAILED)


def test_a_day_that_nobody_played_is_named_as_such(monkeypatch):
    from flow360.storage import reconcile as room
    from flow360.storage.ledger import Ledger

    day = date(2026, 11, 27)
    monkeypatch.setattr(room, "reconcile", lambda wanted: room.Reconciled(wanted, {"shop": {}}, Ledger(day, ()), ()))
    result = flow360_("reconcile", f"{day}", env={"COLUMNS": "200"})
    assert "nothing happened on 2026-11-27" in result.stdout
    assert "the same in all layers" not in result.stdout
    assert result.exit_code == Exit.OK


@pytest.mark.parametrize(
    "words",
    [
        ("up", "kafak"),
        ("down", "kafak"),
        ("doctor", "kafak"),
        ("logs", "kafak"),
        ("reset", "--yes", "kafak"),
        ("run", "99"),
        ("status", "--engine", "podman"),
        ("run", "00", "--kind", "essays"),
    ],
)
def test_a_wrong_name_is_one_line_with_what_there_is(words):
    line = one_line(flow360_(*words), Exit.USAGE)
    wrong = next(word for word in ("kafak", "99", "podman", "essays") if word in words)
    assert repr(wrong) in line


@pytest.mark.parametrize("given", ["rows", "=3", "no such=3"])
def test_a_parameter_that_is_not_name_and_value_is_one_line(given):
    assert f"-p {given}: a parameter is written name=value" in one_line(flow360_("run", "00", "-p", given), Exit.USAGE)


def test_a_parameter_that_the_notebook_does_not_have_is_one_line_with_those_that_it_has():
    line = one_line(flow360_("run", "00", "-p", "previw=3"), Exit.USAGE)
    assert line == "flow360: -p previw: notebooks/00_welcome.ipynb has the parameters preview"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "it is empty"),
        (b'{"cells": [\n{"cell_type": "ma', "cut off, or not JSON (line 2: Unterminated string"),
        (b"{\n<<<<<<< HEAD\n}\n=======\n}\n>>>>>>> mine\n", "line 2 is a mark of git's"),
        (b"\xff\xfe", "byte 0 is not UTF-8"),
        (b"[" * 100_000, "cut off, or not JSON"),
        (b'"x"', "its JSON is not that of one"),
        (b"{}", "not a notebook: "),
        (b'{"cells": [{"cell_type": "code"}], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}', "not a notebook: "),
        (None, "No such file"),
    ],
)
def test_a_notebook_that_is_broken_is_one_line_that_names_it_and_the_way_back(monkeypatch, tmp_path, content, says):
    from flow360.course import run

    monkeypatch.setattr(run, "ROOT", tmp_path)
    (tmp_path / "labs").mkdir()
    if content is not None:
        (tmp_path / "labs" / "00_welcome.ipynb").write_bytes(content)
    line = one_line(flow360_("run", "00", "--kind", "labs"), Exit.FAILED)
    assert says in line
    assert line.endswith("git checkout labs/00_welcome.ipynb")


def test_bench_refuses_a_folder_before_it_measures(tmp_path):
    result = flow360_("bench", "first-cell", "--output", str(tmp_path))
    assert result.exit_code == Exit.USAGE
    assert "is a directory" in " ".join(result.stderr.replace("│", " ").split())
    (tmp_path / "file").touch()
    line = one_line(flow360_("bench", "first-cell", "--output", str(tmp_path / "file" / "x.json")), Exit.USAGE)
    assert "name another place" in line


@pytest.mark.parametrize("words", [("labs",), ("status", "--all"), ("progress",)])
def test_a_table_in_a_narrow_terminal_leaves_no_column_out(monkeypatch, words):
    from flow360.stack import console

    monkeypatch.setattr(console.console, "width", 20)
    narrow = flow360_(*words).stdout
    monkeypatch.setattr(console.console, "width", 80)
    assert narrow == flow360_(*words).stdout


def test_a_square_bracket_in_a_message_is_text_not_markup(monkeypatch):
    def fail(_engine=None):
        raise FlowError("stack/layers: [kafka]: unknown key [bold]x[/bold]", Exit.SERVICE)

    monkeypatch.setattr(flow360.stack, "open_stack", fail)
    line = one_line(flow360_("status"), Exit.SERVICE)
    assert "[kafka]: unknown key [bold]x[/bold]" in line


@pytest.mark.parametrize("code", list(Exit)[1:])
def test_every_code_of_an_error_becomes_the_exit_status(monkeypatch, code):
    def fail(_engine=None):
        raise FlowError("it went wrong", code)

    monkeypatch.setattr(flow360.stack, "open_stack", fail)
    assert one_line(flow360_("status"), code) == "flow360: it went wrong"


def test_control_c_has_no_traceback(monkeypatch):
    def interrupted(_engine=None):
        raise KeyboardInterrupt

    monkeypatch.setattr(flow360.stack, "open_stack", interrupted)
    result = flow360_("status")
    assert result.exit_code == 130
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("number", "code", "fix"),
    [(errno.ENOSPC, Exit.DISK, "free some"), (errno.EACCES, Exit.PERMISSION, "look who owns it")],
)
def test_a_disk_that_refuses_is_one_line(monkeypatch, number, code, fix):
    def fail(_engine=None):
        raise OSError(number, os.strerror(number), "/some/file")

    monkeypatch.setattr(flow360.stack, "open_stack", fail)
    line = one_line(flow360_("status"), code)
    assert line.startswith(f"flow360: /some/file: {os.strerror(number)}: {fix}")


def test_a_bad_port_in_env_is_one_line(tmp_path):
    (tmp_path / ".env").write_text("KAFKA_PORT=ninety\n")
    assert "KAFKA_PORT" in one_line(flow360_("status"), Exit.FAILED)


# --- what it says -----------------------------------------------------------------------------------------------------


def test_status_as_json_has_a_row_for_each_service():
    result = flow360_("status", "--json")
    assert result.exit_code == 0
    rows = json.loads(result.stdout)
    assert {row["name"] for row in rows} == set(model().services)
    for row in rows:
        assert set(row) == {"name", "layer", "state", "runs", "what", "port", "pss_mb", "link", "title"}
        assert row["runs"] in ("real", "stand-in", "compose only")
        assert row["state"] == "stopped"
    assert [row["layer"] for row in rows] == sorted(row["layer"] for row in rows)


def test_status_for_people_fits_a_terminal():
    result = flow360_("status", "--all", env={"COLUMNS": "80"})
    assert result.exit_code == 0
    for name in model().services:
        assert re.search(rf"\b{name} +stopped +(real|stand-in|compose only):", result.stdout), name
    assert max(map(len, result.stdout.splitlines())) <= 80


def test_status_is_about_what_runs_or_what_was_asked_for():
    assert flow360_("status").stdout == f"{len(model().services)} stopped: `flow360 status --all` lists them too\n"
    asked = flow360_("status", "kafka").stdout
    assert "kafka" in asked and "postgres-dwh" not in asked
    assert [row["name"] for row in json.loads(flow360_("status", "--json", "kafka").stdout)] == ["kafka"]


def test_doctor_as_json_and_its_exit_code(monkeypatch):
    from flow360.stack import doctor

    result = flow360_("doctor", "--json", "kafka")
    found = json.loads(result.stdout)
    assert {finding["level"] for finding in found} <= {"ok", "warning", "blocker"}
    monkeypatch.setattr(doctor, "_available_memory_mb", lambda: 1.0)
    monkeypatch.setattr(doctor, "_free", lambda _port: True)
    result = flow360_("doctor", "--json", "kafka")
    assert result.exit_code == Exit.MEMORY
    blocker = next(finding for finding in json.loads(result.stdout) if finding["level"] == "blocker")
    assert blocker["fix"]
    result = flow360_("doctor", "kafka")
    assert result.exit_code == Exit.MEMORY
    assert "→" in result.stdout


def test_up_with_a_blocker_starts_nothing(monkeypatch, tmp_path):
    from flow360.stack import doctor

    monkeypatch.setattr(doctor, "_available_memory_mb", lambda: 1.0)
    monkeypatch.setattr(doctor, "_free", lambda _port: True)
    line = one_line(flow360_("up", "postgres-dwh"), Exit.MEMORY)
    assert "1 MB there" in line
    assert not (tmp_path / "state" / "postgres-dwh").exists()


def test_logs_of_a_service_that_never_ran(tmp_path):
    result = flow360_("logs", "kafka")
    assert (result.exit_code, result.stdout) == (0, "kafka has no log yet\n")
    log = tmp_path / "state" / "logs" / "kafka.log"
    log.parent.mkdir(parents=True)
    log.write_text("".join(f"line {n}\n" for n in range(1000)))
    assert flow360_("logs", "kafka", "-n", "2").stdout == "line 998\nline 999\n"
    log.write_text("x" * 5000 + "\nlast\n")
    assert flow360_("logs", "kafka", "-n", "1").stdout == "last\n"


def test_reset_asks_first(tmp_path):
    data = tmp_path / "state" / "kafka" / "data"
    data.mkdir(parents=True)
    result = flow360_("reset", "kafka", input="n\n")
    assert result.exit_code == 1
    assert data.exists()
    assert flow360_("reset", "kafka", input="y\n").exit_code == 0
    assert not data.exists()


def test_zookeeper_is_not_reset_without_its_broker(tmp_path):
    data = tmp_path / "state" / "zookeeper" / "data"
    data.mkdir(parents=True)
    assert "flow360 reset zookeeper kafka" in one_line(flow360_("reset", "zookeeper", input="y\n"), Exit.USAGE)
    assert data.exists()
    assert flow360_("reset", "zookeeper", "kafka", input="y\n").exit_code == 0
    assert not data.exists()


def test_down_when_nothing_runs_is_no_error():
    assert flow360_("down").exit_code == 0
    assert flow360_("down", "kafka").exit_code == 0


def test_env_prints_the_path_and_not_the_passwords(tmp_path):
    result = flow360_("env")
    assert result.stdout == f"{tmp_path / '.env'}\n"
    text = (tmp_path / ".env").read_text()
    assert all(name in text for name in PORTS)


def test_jars_list_as_json():
    rows = json.loads(flow360_("jars", "list", "--json").stdout)
    assert {row["group"] for row in rows} == set(model().jar_groups)
    assert all(set(row) == {"group", "coordinates", "present"} for row in rows)
    assert len(flow360_("jars", "list").stdout.splitlines()) == len(rows)


def test_progress_as_json_begins_with_nothing_done():
    result = flow360_("progress", "--json")
    assert result.exit_code == 0
    json.loads(result.stdout)
    assert flow360_("progress").exit_code == 0


def test_labs_lists_them_and_touches_nothing(monkeypatch, tmp_path):
    from flow360.course import progress, registry

    monkeypatch.setattr(flow360.settings, "ROOT", tmp_path)
    for exercise in registry.course().chapter("01").exercises:
        progress.record("01_sources", exercise.name, True)
    progress.record("02_ingestion", registry.course().chapter("02").exercises[0].name, False)
    rows = {row["lab"]: row for row in json.loads(flow360_("labs", "--json").stdout)}
    assert list(rows) == [f"work/{chapter.lab}" for chapter in registry.course().chapters if chapter.written]
    assert [rows[f"work/labs/{stem}.ipynb"]["state"] for stem in ("00_welcome", "01_sources", "02_ingestion")] == [
        "-", "done", "begun",
    ]  # fmt: skip
    said = flow360_("next").stdout.splitlines()
    assert said[0].startswith("00, exercise 1 of 5: ")
    assert said[1] == "flow360 up 00, then work/notebooks/00_welcome.ipynb and work/labs/00_welcome.ipynb"
    result = flow360_("labs", env={"COLUMNS": "100"})
    assert result.exit_code == 0
    assert re.search(r"work/labs/01_sources.ipynb +5 of 5 +done +Five kinds of source", result.stdout)
    assert {path.name for path in tmp_path.iterdir()} == {"progress.json"}, "no lab, no README was written"


def test_generate_leaves_with_an_error_when_it_left_a_lab_alone(monkeypatch, tmp_path):
    # What README says comes from this checkout, whose place each module learns when it is loaded.
    assert flow360_("generate", "--check").exit_code == 0
    monkeypatch.setattr(flow360.settings, "ROOT", tmp_path)
    for folder in ("labs", "solutions"):
        (tmp_path / folder).mkdir()
    for name in ("README.md", "solutions/README.md"):
        (tmp_path / name).write_text((ROOT / name).read_text("utf-8"), "utf-8")
    (tmp_path / "labs" / "01_sources.ipynb").write_text("mine", "utf-8")
    result = flow360_("generate")
    assert result.exit_code == Exit.FAILED
    assert result.stderr.startswith("labs/01_sources.ipynb was left alone")
    assert (tmp_path / "labs" / "01_sources.ipynb").read_text("utf-8") == "mine"


@pytest.fixture
def desk(monkeypatch):
    """No copies for a learner are made in the checkout under test."""
    monkeypatch.setattr("flow360.course.desk.lay_out", lambda _root: ["work/labs/x.ipynb stays"])


def started(names, progress, _asked):
    """As Stack.up with services that start at once."""
    for name in names:
        progress(Event(name, "running"))


@pytest.mark.usefixtures("desk")
@pytest.mark.parametrize("name", ["00", "00_welcome", "0", "notebooks/00_welcome.ipynb", "00_WELCOME"])
def test_up_of_a_chapter_brings_the_desk_and_prints_its_address(monkeypatch, name):
    monkeypatch.setattr(flow360.stack, "open_stack", lambda _engine=None: SimpleNamespace(up=started))
    result = flow360_("up", name)
    assert result.stdout.splitlines()[0] == "work/labs/x.ipynb stays"
    assert result.stdout.splitlines()[1].split() == ["jupyterlab", "running"]
    assert f"The course is open: {settings().jupyter_url}/tree/work/notebooks/00_welcome.ipynb" in result.stdout


@pytest.mark.usefixtures("desk")
def test_the_address_is_there_as_soon_as_the_desk_answers(monkeypatch):
    monkeypatch.setattr(flow360.stack, "open_stack", lambda _engine=None: SimpleNamespace(up=started))
    said = flow360_("up", "02").stdout
    assert said.index(settings().jupyter_url) < said.index("kafka "), "what is long to start is not waited for"
    assert said.count(settings().jupyter_url) == 2, "and at the end again, below all that was said meanwhile"
    assert flow360_("up", "jupyterlab").stdout.count(settings().jupyter_url) == 1


@pytest.mark.usefixtures("desk")
def test_up_of_a_chapter_opens_its_lesson(monkeypatch):
    monkeypatch.setattr(flow360.stack, "open_stack", lambda _engine=None: SimpleNamespace(up=started))
    assert f"{settings().jupyter_url}/tree/work/notebooks/02_ingestion.ipynb" in flow360_("up", "02").stdout


@pytest.mark.usefixtures("desk")
@pytest.mark.parametrize("names", [(), ("02",)])
def test_at_the_hub_no_second_jupyterlab_is_started(monkeypatch, names):
    asked = []
    monkeypatch.setenv("JUPYTERHUB_SERVICE_PREFIX", "/user/ada/")
    stack = SimpleNamespace(up=lambda *given: asked.extend(given[0]) or started(*given), fetch=lambda *_: None)
    monkeypatch.setattr(flow360.stack, "open_stack", lambda _engine=None: stack)
    said = flow360_("up", *names).stdout
    assert "primeur-load" in asked
    assert "jupyterlab" not in asked
    assert said.startswith("work/labs/x.ipynb stays\n"), "the copies are brought up to date all the same"
    assert settings().jupyter_url not in said
    if names:
        assert "The course is open in this JupyterLab: work/notebooks/02_ingestion.ipynb" in said


def test_up_of_services_alone_says_nothing_of_the_desk(monkeypatch):
    monkeypatch.setattr(flow360.stack, "open_stack", lambda _engine=None: SimpleNamespace(up=started))
    assert flow360_("up", "KAFKA", "minimal").stdout.split()[:2] == ["kafka", "running"]
    assert "The course is open" not in flow360_("up", "kafka").stdout


@pytest.mark.usefixtures("desk")
def test_a_desk_that_came_up_is_told_although_something_else_did_not(monkeypatch):
    def held(names, progress, asked):
        started(names, progress, asked)
        raise FlowError("port 1 of kafka is taken by java (pid 2)", Exit.PORT)

    monkeypatch.setattr(flow360.stack, "open_stack", lambda _engine=None: SimpleNamespace(up=held))
    result = flow360_("up", "02")
    assert settings().jupyter_url in result.stdout
    one_line(result, Exit.PORT)


def test_down_hears_no_hangup_while_it_works(monkeypatch):
    """A terminal that closes, as JupyterLab's does when that is stopped, leaves no down half-done."""
    seen = []

    def down(_names, _progress):
        os.kill(os.getpid(), signal.SIGHUP)
        seen.append("still here")

    monkeypatch.setattr(flow360.stack, "open_stack", lambda _engine=None: SimpleNamespace(down=down))
    before = signal.getsignal(signal.SIGHUP)
    assert flow360_("down").exit_code == 0
    assert seen == ["still here"]
    assert signal.getsignal(signal.SIGHUP) == before


@pytest.mark.usefixtures("desk")
def test_the_token_is_printed_for_a_terminal_only(monkeypatch):
    """A pipe may be a log file: it gets the address alone."""
    stack = SimpleNamespace(up=started, fetch=lambda *_: None)
    monkeypatch.setattr(flow360.stack, "open_stack", lambda _engine=None: stack)
    monkeypatch.setenv("JUPYTER_TOKEN", "SecretOfThisTest")
    settings.cache_clear()
    result = flow360_("up")
    assert result.exit_code == 0
    assert settings().jupyter_url in result.stdout
    assert "SecretOfThisTest" not in result.output


def test_it_starts_quickly():
    """`--help` must not import the engines, pandas or Kafka."""
    code = (
        "import sys; from typer.testing import CliRunner; from flow360.cli import app; "
        "assert CliRunner().invoke(app, ['--help']).exit_code == 0; "
        "print(*[m for m in ('pandas', 'kafka', 'psycopg', 'jgo', 'papermill', 'flow360.stack.native.engine') "
        "if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.stdout.strip(), done.returncode) == ("", 0), done.stderr


@pytest.mark.parametrize(
    ("command", "code"),
    [(["true"], 0), (["sh", "-c", "exit 3"], 3), (["sh", "-c", "kill -TERM $$"], 143), (["docker"], Exit.DOCKER)],
)
def test_a_followed_log_leaves_with_its_program_s_code(monkeypatch, tmp_path, command, code):
    stack = SimpleNamespace(follow_command=lambda _name: command)
    monkeypatch.setattr(flow360.stack, "open_stack", lambda _engine=None: stack)
    if command == ["docker"]:
        monkeypatch.setenv("PATH", str(tmp_path))
    result = CliRunner().invoke(app, ["logs", "-f", "kafka"])
    assert result.exit_code == code
    assert result.stderr == ("flow360: docker is not installed: take another --engine\n" if code == Exit.DOCKER else "")


@pytest.mark.parametrize(
    ("name", "tip"),
    [("kafkaa", "did you mean kafka,"), ("minimall", "mean minimal?"), ("04", "mean 04"), ("zzz", "status --all")],
)
def test_a_name_that_nothing_has_gets_one_line_with_what_may_have_been_meant(name, tip):
    line = one_line(flow360_("up", name), Exit.USAGE)
    assert tip in line and len(line) < 160
