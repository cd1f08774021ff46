"""Home: what it shows in each state of the stack and of the learner's record, and whom it answers."""

from __future__ import annotations

import asyncio
import http.client
import json
import logging
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from flow360.course import progress
from flow360.course.registry import course
from flow360.course.timetable import duration
from flow360.errors import FlowError
from flow360.home import facts as home
from flow360.home.handlers import drawn
from flow360.home.work import Work
from flow360.monitoring.lineage.graph import Arrow, Edge
from flow360.settings import ROOT, SECRETS, in_force, settings
from flow360.stack.doctor import Finding
from flow360.stack.facade import Stack
from flow360.stack.model import model, read_model
from flow360.stack.native.program import inherited
from flow360.stack.native.programs import Programs
from flow360.stack.status import ServiceStatus
from flow360.waiting import wait_for
from tests.environment import ports

CHAPTERS = [chapter for chapter in course().chapters if chapter.written]
FIRST = CHAPTERS[0]


@pytest.fixture(autouse=True)
def record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A learner's record of this test alone."""
    path = tmp_path / "progress.json"
    monkeypatch.setattr(settings(), "flow360_progress", path)
    return path


def row(name: str, state: str = "stopped", **more: Any) -> ServiceStatus:
    values = {"layer": 1, "runs": "real", "what": "it", "port": 1, "pss_mb": 0.0, "link": None, "title": name.title()}
    return ServiceStatus(name=name, state=state, **(values | more))


def shown(rows: list[ServiceStatus] | None, busy: str = "", number: str = "", work: Work | None = None) -> str:
    """The page with services in these states (None: they were not asked yet)."""
    facts = home.Facts(logging.getLogger())
    if rows is not None:
        facts.running.value = home.Running("native", rows, busy)
        facts.findings.value = [Finding("python", "ok", "fine"), Finding("memory", "blocker", "too little", "buy some")]
        facts.flow.value = [
            Edge(Arrow("a", "b", "c"), datetime(2026, 5, 7, 12, tzinfo=UTC), 1234),
            Edge(Arrow("d", "e", "f")),
        ]
    return drawn("page.html", facts.shown(number), work or Work(lambda: None))


def test_before_anything_is_known_the_page_is_there() -> None:
    text = shown(None)
    assert f"Begin with chapter {FIRST.number}, exercise 1 of {len(FIRST.exercises)}" in text
    assert all(chapter.title in text for chapter in CHAPTERS if "'" not in chapter.title)
    assert text.count(" …") == 3, "services, doctor and flow are being asked"


def test_nothing_is_up() -> None:
    text = shown([row(name) for name in FIRST.services])
    assert f'id="up-{FIRST.services[0]}"' in text
    assert f'id="down-{FIRST.services[0]}"' not in text
    assert "<strong>memory</strong>: too little" in text
    assert "buy some" in text
    assert "1,234" in text
    assert "07 May 12:00:00" in text
    assert "1 of 2 findings" in text
    assert "1 of 2 hops" in text


def test_a_chapter_runs_and_others_are_named() -> None:
    rows = [row(name, "running", pss_mb=100.4) for name in FIRST.services]
    page = row("airflow-webserver", "running", link="http://127.0.0.1:1/")
    text = shown([*rows, page, row("grafana", runs="compose only", link="http://127.0.0.1:2/")])
    assert f'id="down-{FIRST.services[0]}"' in text
    assert f"{100.4 * len(rows):,.0f} MB</span>" not in text
    assert f"{100.4 * len(rows):,.0f} MB of memory in all" in text
    assert "1 more runs: airflow-webserver" in text
    assert "user <code>primeur</code>" in text
    assert 'data-copy="airflow-webserver"' in text
    assert 'data-copy="grafana"' not in text, "it does not run"


def test_a_stand_in_and_what_only_docker_runs_are_called_so() -> None:
    text = shown(
        [row("elasticsearch", runs="stand-in", what="OpenSearch 2"), row("kibana", runs="compose only")], number="08"
    )
    assert "stand-in: OpenSearch 2" in text


def test_jupyterlab_has_no_button() -> None:
    text = shown([row("jupyterlab", "running")])
    assert "down-jupyterlab" not in text
    assert "you are here" in text


def test_a_down_in_a_terminal_is_said() -> None:
    assert "<code>flow360 down kafka</code>" in shown([], busy="down kafka")


def test_done_begun_next_and_what_is_left() -> None:
    for exercise in FIRST.exercises:
        progress.record(FIRST.stem, exercise.name, True)
    second, third = CHAPTERS[1:3]
    progress.record(third.stem, third.exercises[0].name, True)
    text = shown([])
    assert f"Go on with chapter {second.number}, exercise 1 of" in text
    marks = re.findall(r'class="mark">(\w*)<', text)
    assert marks[:3] == ["done", "next", "begun"]
    left = sum(one["minutes_left"] for one in progress.lab_rows())
    whole = sum(chapter.minutes for chapter in CHAPTERS)
    assert left == whole - FIRST.minutes - third.minutes + round(third.minutes * (1 - 1 / len(third.exercises)))
    assert f"about {duration(left)} left" in text
    assert progress.next_line().startswith(f"{second.number}, exercise 1 of"), "the command says the same"


def test_all_is_done() -> None:
    for chapter in CHAPTERS:
        for exercise in chapter.exercises:
            progress.record(chapter.stem, exercise.name, True)
    assert "You have done the whole course" in shown([])
    assert progress.next_line() == f"All {sum(len(one.exercises) for one in CHAPTERS)} exercises are passed."


def test_a_record_that_cannot_be_read_is_said_and_the_chapters_stay(record: Path) -> None:
    record.write_text("not a record", "utf-8")
    text = shown([])
    assert f"{record} cannot be read as a progress record" in text
    assert FIRST.title in text
    assert record.read_text("utf-8") == "not a record"


def test_what_services_are_called_is_text_and_not_html() -> None:
    text = shown([row(FIRST.services[0], "failed", what="<script>alert(1)</script>")])
    assert "<script>alert" not in text
    assert "&lt;script&gt;" in text


def test_durations() -> None:
    assert [duration(minutes) for minutes in (0, 59, 60, 125)] == ["0 min", "59 min", "1 h 00", "2 h 05"]


def test_an_unknown_chapter_is_refused() -> None:
    with pytest.raises(FlowError, match="no chapter 'nope'"):
        shown([], number="nope")


# --- facts are asked in a thread


def test_an_old_answer_holds_until_there_is_a_new_one() -> None:
    answers: list[Any] = ["first", FlowError("no engine"), ValueError("odd"), "last"]

    def ask() -> str:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    with ThreadPoolExecutor(1) as threads:
        kept = home.Kept(ask, 3600, threads, logging.getLogger())
        seen = []
        for _ in range(4):
            kept.asking().result(60)
            assert kept.asking() is None, "it is new enough"
            seen.append((kept.value, kept.problem.partition(" (")[0]))
            kept.forget()
    assert seen == [("first", ""), ("first", "no engine"), ("first", "ValueError: odd"), ("last", "")]


def test_the_page_waits_for_no_slow_answer_and_what_changed_meanwhile_is_asked_again() -> None:
    go, asked = threading.Event(), []

    def ask() -> int:
        asked.append("once more")
        assert go.wait(60)
        return len(asked)

    async def look(facts: home.Facts, kept: home.Kept[int]) -> None:
        facts.running = facts.findings = facts.flow = kept
        await facts.settle()
        assert kept.value is None, "the page is there before the answer"
        under_way = kept.asking()
        kept.forget()  # a service was started after that question
        go.set()
        await asyncio.wrap_future(under_way)
        assert kept.value == 1
        await asyncio.wrap_future(kept.asking())
        assert kept.value == 2
        assert kept.asking() is None

    with ThreadPoolExecutor(1) as threads:
        log = logging.getLogger()
        asyncio.run(look(home.Facts(log), home.Kept(ask, 3600, threads, log)))


def test_the_flow_has_what_moved_and_what_has_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(home.journal, "read", lambda: SimpleNamespace(events=[]))
    assert {edge.arrow for edge in home.flow()} == home.graph.recorded()
    assert not any(edge.last for edge in home.flow())


def test_what_another_flow360_does_is_known_while_it_does_it(tmp_path: Path) -> None:
    stack = Stack("native", model(), tmp_path)
    assert stack.busy() == ""
    with stack._lock("down kafka"):
        assert stack.busy() == "down kafka"
    assert stack.busy() == ""


def test_every_login_is_one_that_can_be_copied() -> None:
    logins = {service.name: service.login for service in model().services.values() if service.login}
    assert {"jupyterlab", "airflow-webserver", "grafana", "kibana"} == logins.keys()
    assert {login.variable for login in logins.values()} <= set(SECRETS)
    assert all(model()[name].link for name in logins)


# --- start and stop


def finished(work: Work) -> None:
    wait_for(lambda: not work.busy, 60, "the end of the command")


def test_one_command_at_a_time_and_its_lines_and_code_are_kept() -> None:
    code = "import sys; print('one'); print('two', sys.argv[1:]); sys.stdout.flush(); sys.stdin.read(); sys.exit(3)"
    ended: list[int] = []
    work = Work(lambda: ended.append(1), (sys.executable, "-c", code))
    work.begin("up", "mosquitto")
    finished(work)
    assert work.lines == ["one", "two ['up', 'mosquitto']"]
    assert (work.code, work.title, ended) == (3, "flow360 up mosquitto", [1])


def test_of_a_long_story_the_end_is_shown() -> None:
    work = Work(lambda: None, (sys.executable, "-c", "for n in range(10_000): print('line', n)"))
    work.begin("up", "mosquitto")
    finished(work)
    assert work.lines[-1] == "line 9999"
    assert 1000 < len(work.lines) < 2500
    assert all(re.fullmatch("line [0-9]+", line) for line in work.lines), "and none of it is cut"


def test_a_second_command_waits() -> None:
    code = "import time; time.sleep(60)"
    processes = []
    work = Work(lambda: None, (sys.executable, "-c", code))
    real = subprocess.Popen
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subprocess, "Popen", lambda *a, **k: processes.append(real(*a, **k)) or processes[-1])
        work.begin("up", FIRST.number)
    try:
        with pytest.raises(FlowError, match="still under way"):
            work.begin("down", "mosquitto")
    finally:
        processes[0].kill()
    finished(work)


@pytest.mark.parametrize(
    ("verb", "name", "said"),
    [
        ("reset", "kafka", "does not know 'reset'"),
        ("up", "--help", "not a service"),
        ("up", "nope", "not a service"),
        ("down", "jupyterlab", "from a terminal"),
    ],
)
def test_home_begins_nothing_else(verb: str, name: str, said: str) -> None:
    work = Work(lambda: None, ("false",))
    with pytest.raises(FlowError, match=said):
        work.begin(verb, name)
    assert work.title == ""


# --- whom it answers: JupyterLab as the stack starts it


Ask = Callable[..., tuple[int, http.client.HTTPMessage, str]]


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ask]:
    """One request to a JupyterLab with the course's configuration: status, headers, body."""
    (port,) = ports("home", 1)
    state = tmp_path_factory.mktemp("state")
    services = read_model(env=in_force() | {"JUPYTER_PORT": str(port)})
    kept = Programs(services, state).kept(services["jupyterlab"])
    with (state / "log").open("w") as log:
        server = subprocess.Popen(
            kept.command,
            cwd=kept.directory,
            env={**inherited(), **kept.environment, "FLOW360_STATE": str(state)},
            stdout=log,
            stderr=subprocess.STDOUT,
        )

    def one(method: str, path: str, body: Any = None, **headers: str) -> tuple[int, http.client.HTTPMessage, str]:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        try:
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read().decode()
        finally:
            connection.close()

    def up() -> bool:
        assert server.poll() is None, (state / "log").read_text()[-2000:]
        try:
            return one("GET", "/api")[0] == 200
        except OSError:
            return False

    try:
        wait_for(up, 100, "JupyterLab")
        yield one
    finally:
        server.terminate()
        server.wait(60)


@pytest.fixture
def mine() -> dict[str, str]:
    return {"Authorization": f"token {settings().jupyter_token}"}


PATHS = ("/flow360/home", "/flow360/home/now", "/flow360/home/static/home.js")


@pytest.mark.parametrize("token", ["", "token wrong"])
def test_without_the_token_nothing_is_said(ask: Ask, token: str) -> None:
    theirs = {"Authorization": token} if token else {}
    status, headers, text = ask("GET", "/flow360/home", **theirs)
    assert (status, headers["Location"].partition("?")[0], text) == (302, "/login", "")
    assert ask("GET", "/flow360/home/now", **theirs)[0] == 403
    for path in ("run", "password"):
        body = {"verb": "up", "name": "airflow-webserver"}
        assert ask("POST", f"/flow360/home/{path}", body, **theirs)[0] == 403


def test_the_page_has_no_secret_in_it_and_lets_nothing_else_in(ask: Ask, mine: dict[str, str]) -> None:
    secrets = [value for name in SECRETS if (value := getattr(settings(), name.lower()))]
    assert len(secrets) > 10
    for path in PATHS:
        status, headers, text = ask("GET", path, **mine)
        assert status == 200
        assert not [secret for secret in secrets if secret in text or secret in str(headers)]
    _, headers, _ = ask("GET", "/flow360/home", **mine)
    assert headers["Cache-Control"] == "no-store"
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert "frame-ancestors 'self'" in headers["Content-Security-Policy"]


def test_a_password_comes_for_a_click_alone(ask: Ask, mine: dict[str, str]) -> None:
    status, headers, text = ask("POST", "/flow360/home/password", {"name": "airflow-webserver"}, **mine)
    assert (status, json.loads(text)) == (200, {"password": settings().airflow_password})
    assert headers["Cache-Control"] == "no-store"
    assert ask("POST", "/flow360/home/password", {"name": "kafka"}, **mine)[0] == 404
    assert ask("POST", "/flow360/home/password", ["airflow-webserver"], **mine)[0] == 400
    assert ask("GET", "/flow360/home/password?name=airflow-webserver", **mine)[0] == 405


def test_another_sites_page_can_do_nothing_with_the_learners_cookie(ask: Ask, mine: dict[str, str]) -> None:
    _, headers, _ = ask("GET", f"/flow360/home?token={settings().jupyter_token}")
    cookies = [one.partition(";")[0] for one in headers.get_all("Set-Cookie")]
    (xsrf,) = [one.partition("=")[2] for one in cookies if one.startswith("_xsrf=")]
    learner = {"Cookie": "; ".join(cookies)}
    body = {"verb": "down", "name": "jupyterlab"}
    refused = "JupyterLab is stopped from a terminal: flow360 down"
    assert ask("POST", "/flow360/home/run", body, **learner, **{"X-XSRFToken": xsrf})[2] == refused, (
        "home itself may ask"
    )
    for path in ("run", "password"):
        assert ask("POST", f"/flow360/home/{path}", body, **learner)[0] == 403, "without the page's own mark"
        theirs = {**learner, "Origin": "http://evil.example", "X-XSRFToken": xsrf}
        assert ask("POST", f"/flow360/home/{path}", body, **theirs)[0] == 404
    assert ask("GET", "/flow360/home", **mine, Host="evil.example")[0] == 403


def test_what_it_cannot_do_is_a_line(ask: Ask, mine: dict[str, str]) -> None:
    for verb, name, line in (("up", "kafak", "did you mean kafka"), ("down", "jupyterlab", "from a terminal")):
        status, _, text = ask("POST", "/flow360/home/run", {"verb": verb, "name": name}, **mine)
        assert status == 409
        assert line in text
        assert "\n" not in text
    status, _, text = ask("GET", "/flow360/home?chapter=%25s", **mine)
    assert (status, text.partition(":")[0]) == (404, "there is no chapter '%s'")


def test_jupyterlab_opens_at_its_own_address_and_knows_the_tab(ask: Ask, mine: dict[str, str]) -> None:
    assert ask("GET", "/", **mine)[1]["Location"].rstrip("?") == "/lab"
    page = ask("GET", "/lab", **mine)[2]
    assert '"flow360-home"' in page
    status, _, script = ask("GET", "/lab/extensions/flow360-home/static/remoteEntry.js", **mine)
    assert status == 200
    assert script == (ROOT / "flow360/home/labextensions/flow360-home/static/remoteEntry.js").read_text("utf-8")


def test_the_file_browser_leaves_out_the_machinery(ask: Ask, mine: dict[str, str]) -> None:
    names = {one["name"] for one in json.loads(ask("GET", "/api/contents?content=1", **mine)[2])["content"]}
    assert {"README.md", "data", "dags", "dbt"} <= names
    assert not names & {"flow360", "stack", "tests", "scripts", "solutions", "labs", "notebooks", "course.toml"}
    inside = {one["name"] for one in json.loads(ask("GET", "/api/contents/dbt", **mine)[2])["content"]}
    assert "tests" in inside, "only the checkout itself is tidied"
    assert ask("GET", "/api/contents/course.toml", **mine)[0] == 200


def test_an_answer_waits_for_what_the_start_has_begun_and_not_in_the_servers_own_thread() -> None:
    gate = threading.Event()
    facts = home.Facts(logging.getLogger(), lambda: gate.wait(30))

    async def ask() -> tuple[bool, bool]:
        settling = asyncio.ensure_future(facts.settle())
        await asyncio.sleep(home.PATIENCE * 2)  # the server goes on answering others
        before = settling.done()
        gate.set()
        await settling
        return before, settling.done()

    assert asyncio.run(ask()) == (False, True)
