"""The logs without a server: one grammar for both parsers, our own lines, what the search engine's refusals mean."""

from __future__ import annotations

import io
import json
import logging
import re
import subprocess

import pytest
import requests

from flow360.clients.search import Denied, Refused, _said
from flow360.course.services import resolve
from flow360.errors import ServiceError
from flow360.monitoring.logs import grammar, setup, writing
from flow360.settings import ROOT
from flow360.stack.facade import Stack, silent
from flow360.stack.model import model
from flow360.stack.native import debian

SHIPPERS = ROOT / "stack" / "logstash"


def test_logstash_has_the_filter_that_the_grammar_makes():
    assert (ROOT / grammar.CONF).read_text("utf-8") == grammar.logstash()


def test_both_shippers_know_the_same_start_of_a_line():
    start = grammar.grammar()["start"]
    native = re.findall(r'startmsg\.regex="((?:[^"\\]|\\.)*)"', (SHIPPERS / "rsyslog.conf").read_text("utf-8"))
    assert [one.replace("\\\\", "\\") for one in native] == [start, start]
    docker = re.findall(r"pattern => '(.*)'", (SHIPPERS / "pipeline" / "10-input.conf").read_text("utf-8"))
    assert docker == ['^[{]"log":"' + start.removeprefix("^"), start]


@pytest.mark.parametrize(
    ("line", "starts"),
    [
        ("2026-11-28 22:16:37,326 INFO impl.FsDatasetImpl: Added", True),
        ("2026-11-28T22:15:45,844 WARN exec.FunctionRegistry: UDF", True),
        ("26/11/28 22:15:48 INFO Master: gone", True),
        ("1795903956: New connection", True),
        ("ts=2026-11-28T22:15:03.408Z caller=main.go:241 level=info", True),
        ('{"level": "INFO"}', True),
        ("[I 2026-11-28 19:02:05.268 ServerApp] Use Control-C", True),
        ("INFO:     Uvicorn running", True),
        ("Traceback (most recent call last):", False),
        ('  File "app.py", line 245, in ask', False),
        ("ConnectionTimeout: no answer", False),
        ("\tat org.apache.hadoop.ipc.Client.call(Client.java:1)", False),
        ("Caused by: java.net.ConnectException: refused", False),
    ],
)
def test_a_line_begins_or_belongs_to_the_one_before_it(line, starts):
    # As grep -E reads it, which is how rsyslog does.
    said = subprocess.run(["grep", "-cE", grammar.grammar()["start"]], input=line, capture_output=True, text=True)
    assert (said.stdout.strip() == "1") == starts


def test_every_key_of_ours_and_every_word_of_a_format_is_a_field_of_the_index():
    mapping = json.loads((setup.TEMPLATES / "primeur-logs.json").read_text("utf-8"))["template"]["mappings"]
    lines = grammar.grammar()
    used = {name for one in [*lines["formats"], lines["path"], lines["trace"], lines["error"]] for name in _named(one)}
    for field in {*lines["json"].values(), *used} - {"when", "rest"}:
        here = mapping
        for part in field.split("."):
            here = here["properties"][part]
        assert here["type"]


def _named(pattern: str) -> list[str]:
    return re.findall(r"%\{\w+:([\w.]+)\}", pattern)


def test_a_program_of_ours_logs_json_with_ids_trace_and_a_whole_traceback(monkeypatch):
    out = io.StringIO()
    monkeypatch.setattr("sys.stdout", out)
    root = logging.getLogger()
    before = root.handlers[:], root.level
    try:
        writing.to_stdout()
        with writing.traced("a" * 32):
            logging.getLogger("market-api").info("order placed", extra={"order_id": 7})
        try:
            raise TimeoutError("no answer")
        except TimeoutError:
            logging.getLogger("market-api").exception("it failed")
    finally:
        root.handlers[:], root.level = before
        logging.captureWarnings(False)
    placed, failed = map(json.loads, out.getvalue().splitlines())
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", placed.pop("@timestamp"))
    assert placed == {
        "level": "INFO",
        "logger": "market-api",
        "message": "order placed",
        "order_id": 7,
        "trace_id": "a" * 32,
    }
    assert failed["exception"].splitlines()[-1] == "TimeoutError: no answer"
    assert "trace_id" not in failed


@pytest.mark.parametrize(
    ("header", "kept"),
    [
        ("00-" + "1" * 32 + "-" + "2" * 16 + "-01", True),
        ("00-" + "0" * 32 + "-" + "2" * 16 + "-01", False),
        ("00-" + "x" * 32 + "-" + "2" * 16 + "-01", False),
        ("", False),
        ("nonsense", False),
    ],
)
def test_a_trace_goes_on_where_the_header_is_right(header, kept):
    found = writing.trace_of(header)
    assert (found == "1" * 32) == kept
    assert re.fullmatch("[0-9a-f]{32}", found)


@pytest.mark.parametrize(
    ("status", "body", "kind", "line"),
    [
        (401, "Unauthorized", Denied, "does not know elastic with this password"),
        (403, {"error": {"reason": "no permissions for [search]"}}, Denied, "GET /x: elastic may not do this: no perm"),
        (404, {"error": {"reason": "no such index [x]", "root_cause": []}}, Refused, "GET /x: 404: no such index"),
        (400, {"error": {"reason": "failed to parse", "caused_by": {"reason": "For input"}}}, Refused, "parse: For in"),
        (400, {"error": "plain words"}, Refused, "400: plain words"),
        (503, "OpenSearch Security not initialized.", ServiceError, "503: OpenSearch Security not"),
        (500, "", ServiceError, "500: an empty body"),
    ],
)
def test_each_refusal_of_the_search_engine_is_one_line(status, body, kind, line):
    answer = requests.Response()
    answer.status_code = status
    answer._content = (body if isinstance(body, str) else json.dumps(body)).encode()
    said = _said(answer, "GET", "/x?pretty=true", "elastic")
    assert type(said) is kind
    assert len(said.message.splitlines()) == 1
    assert line in said.message


def test_without_apt_what_comes_as_debian_packages_is_compose_only(tmp_path, monkeypatch):
    monkeypatch.setattr(debian.shutil, "which", lambda _: None)
    monkeypatch.setattr(debian, "root_of", lambda name: tmp_path / name)
    events, stack = [], Stack("native", model(), tmp_path)
    possible = ["elasticsearch", "elasticsearch-setup", "logstash-exporter"]
    assert stack._possible(resolve(["logs"]), events.append, ["logs"]) == possible
    assert {event.service for event in events} == {"logstash", "kibana"}
    runs = {row.name: row.runs for row in stack.status(ask=False)}
    assert runs["logstash"] == runs["mosquitto"] == "compose only"
    assert runs["elasticsearch"] == "stand-in"
    with pytest.raises(ServiceError, match="logstash runs with --engine docker only: it comes as Debian packages"):
        stack.host.up(["logstash"], silent)
    assert stack._left_out("market-sensors").startswith("it needs mosquitto: ")
