"""Faults 31 and 32: lines that are not right, documents that the index refuses, kills on both ends, a rebuilt index.

Each test writes a log file of its own beside those of the services, and counts what came of it.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from subprocess import STDOUT, Popen
from typing import Any

import pytest

from flow360 import clients
from flow360.monitoring.logs import LOGS, REJECTED, exporter, setup
from flow360.stack.model import STACK
from tests.environment import FULL
from tests.faults.support import kill, recovered, report, until

SERVICES = ("logstash",)
BEGIN = datetime(2026, 5, 7, 8, tzinfo=UTC)
KILLED = 60_000 if FULL else 6_000
TRIES = 500


@pytest.fixture
def log(stack, started, request) -> Iterator[Path]:
    """A log file that the shipper reads, of a service that has the test's name."""
    started("logstash")
    file = stack.host.state / "logs" / f"fault-{request.node.name.removeprefix('test_')[:30]}.log"
    file.unlink(missing_ok=True)
    _forget(file.stem)
    yield file
    file.unlink(missing_ok=True)
    started("logstash")
    _forget(file.stem)


def _of(service: str, *more: dict[str, Any]) -> dict[str, Any]:
    return {"query": {"bool": {"filter": [{"term": {"service.name": service}}, *more]}}}


def _forget(service: str) -> None:
    where = f"/{LOGS}*,{REJECTED}/_delete_by_query?refresh=true&conflicts=proceed&ignore_unavailable=true"
    clients.search().post(where, json=_of(service), timeout=120)


def count(service: str, *more: dict[str, Any], index: str = f"{LOGS}*") -> int:
    """Ask how many documents of a service the index holds now."""
    engine = clients.search()
    engine.post(f"/{index}/_refresh?ignore_unavailable=true")
    return engine.get(f"/{index}/_count?ignore_unavailable=true", json=_of(service, *more)).json()["count"]


def arrived(service: str, expected: int, seconds: float = 90, index: str = f"{LOGS}*") -> int:
    """Wait for so many documents; what is there then."""
    until(lambda: count(service, index=index) >= expected, f"{expected} documents of {service}", seconds, pause=0.5)
    return count(service, index=index)


def good(number: int, **more: Any) -> str:
    """A line as our programs write it."""
    at = (BEGIN + timedelta(milliseconds=number)).isoformat(timespec="milliseconds")
    line = {"@timestamp": at, "level": "INFO", "logger": "test", "message": f"line {number}", **more}
    return json.dumps(line) + "\n"


def test_malformed_lines_are_kept_and_tagged(log):
    """Fault 31: of 10,000 lines 40 are not right and 20 are tracebacks of four lines: none is lost, none is torn."""
    lines = []
    for number in range(10_000):
        if number % 400 == 7:  # 25: JSON that breaks off
            lines.append(good(number)[:60] + "\n")
        elif number % 700 == 9:  # 15: it begins as a line does, and goes on as none
            lines.append(f"2026-05-07 !! {number}\n")
        elif number % 500 == 11:  # 20: a program that died
            trace = 'Traceback (most recent call last):\n  File "a.py", line 245, in ask\nTimeoutError: no answer\n'
            lines.append(f"2026-05-07 10:00:00,{number % 1000:03} ERROR ask: died {number}\n{trace}")
        else:
            lines.append(good(number))
    log.write_text("".join(lines), "utf-8")
    there = arrived(log.stem, len(lines))
    tags = {name: count(log.stem, {"term": {"tags": name}}) for name in ("_jsonparsefailure", "_grokparsefailure")}
    whole = count(
        log.stem, {"term": {"error.type": "TimeoutError"}}, {"match_phrase": {"error.stack_trace": "line 245"}}
    )
    tagged = count(log.stem, {"exists": {"field": "tags"}})
    report("31 malformed lines", lines=len(lines), there=there, tagged=tagged, tracebacks=whole, **tags)
    assert there == len(lines)
    assert tags == {"_jsonparsefailure": 25, "_grokparsefailure": 15}
    assert tagged == 40
    assert whole == 20
    hit = clients.search().get(f"/{LOGS}/_search", json=_of(log.stem, {"term": {"tags": "_grokparsefailure"}})).json()
    assert hit["hits"]["hits"][0]["_source"]["event"]["original"].startswith("2026-05-07 !! ")


def test_documents_that_the_index_refuses_are_kept_and_counted(log):
    """Fault 31: a writer has changed a field's type. Indexed and rejected are what was sent; neither has an address."""
    lines = [
        good(number, order_id=f"A-{number}" if number % 10 == 3 else number, message=f"to a.b{number}@example.com")
        for number in range(500)
    ]
    log.write_text("".join(lines), "utf-8")
    rejected = arrived(log.stem, 50, index=REJECTED)
    indexed = arrived(log.stem, 450)
    engine = clients.search()
    found = [
        hit["_source"]
        for index in (LOGS, REJECTED)
        for hit in engine.get(f"/{index}/_search", json={**_of(log.stem), "size": 500}).json()["hits"]["hits"]
    ]
    addresses = sum("@example.com" in json.dumps(one) for one in found)
    report("31 mapping conflict", sent=500, indexed=indexed, rejected=rejected, addresses=addresses)
    assert (indexed, rejected, addresses) == (450, 50, 0)
    reasons = {one["reason"] for one in found if "reason" in one}
    assert all("order_id" in reason for reason in reasons) and reasons


def test_a_task_more_is_read_however_many_there_were(stack, started):
    """Each try of a task is a file, for which the shipper keeps three open: by habit a program may have 1,024."""
    started("logstash")
    tasks = stack.host.programs.data(stack.model["airflow-scheduler"]) / "logs" / "dag_id=fault_many"
    mine = {"wildcard": {"log.file.path": "*dag_id=fault_many*"}}
    try:
        for number in range(TRIES):
            file = tasks / f"run_id={number}" / "task_id=one" / "attempt=1.log"
            file.parent.mkdir(parents=True)
            file.write_text(good(number))
        until(lambda: count("airflow-task", mine) >= TRIES, f"{TRIES} tries", 60, pause=0.5)
        found = count("airflow-task", mine)
    finally:
        stack.down(["logstash"])  # it would say of each folder that it is gone
        shutil.rmtree(tasks)
        started("logstash")
    report("many tasks", tries=TRIES, indexed=found)
    assert found == TRIES


def test_killed_on_both_ends_nothing_is_lost_and_nothing_doubled(stack, log):
    """Fault 32: kill -9 to the search engine and to the shipper while they carry lines."""
    with log.open("w", encoding="utf-8") as file:
        for number in range(KILLED):
            file.write(good(number))
            if number % 500 == 499:
                file.flush()
            if number == KILLED // 2:
                until(lambda: count(log.stem) > 500, "the first lines to arrive", 60)
                since = kill(stack, "elasticsearch")
                kill(stack, "logstash")
    seconds = recovered(stack, "elasticsearch", since)
    there = arrived(log.stem, KILLED, 180)
    places = {"cardinality": {"field": "log.offset", "precision_threshold": 40_000}}
    unique = {"size": 0, **_of(log.stem), "aggs": {"n": places}}
    different = clients.search().get(f"/{LOGS}/_search", json=unique).json()["aggregations"]["n"]["value"]
    report("32 killed on both ends", sent=KILLED, there=there, offsets=different, back=seconds)
    assert there == KILLED


def test_the_index_can_be_made_again_from_the_files(stack, log):
    """Fault 32: the index is deleted, the shipper has forgotten what it read: from the files comes the same count."""
    log.write_text("".join(good(number) for number in range(3000)), "utf-8")
    before = arrived(log.stem, 3000)
    engine = clients.search()
    stack.host.supervisor.stop("logstash")
    for name in engine.get(f"/_alias/{LOGS}").json():
        engine.delete(f"/{name}")
    setup.put_all(engine)
    for file in stack.host.programs.data(stack.model["logstash"]).glob("imfile-state*"):
        file.unlink()
    stack.up(["logstash"])
    after = arrived(log.stem, 3000)
    report("32 index made again", before=before, after=after)
    assert before == after == 3000


class Index(ThreadingHTTPServer):
    """A search engine that takes every line, and keeps its id. Until `serving` it is away: its port refuses."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Bulk, bind_and_activate=False)
        self.lines: set[str] = set()
        self.server_bind()

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Answer within the block."""
        self.server_activate()
        thread = threading.Thread(target=self.serve_forever, args=(0.1,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            self.shutdown()
            thread.join()


class Bulk(BaseHTTPRequestHandler):
    """What the shipper asks of a search engine."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # an answer is two packets; the second would wait 40 ms for the first
    server: Index

    def do_GET(self) -> None:  # noqa: N802 - the library's name
        self._answer({})

    def do_POST(self) -> None:  # noqa: N802
        actions = self.rfile.read(int(self.headers["Content-Length"])).splitlines()[::2]
        into = [action["index"] for action in map(json.loads, actions)]
        self.server.lines |= {one["_id"] for one in into if one["_index"] == LOGS}
        self._answer({"errors": False, "items": [{"index": {"status": 201}} for _ in into]})

    def _answer(self, said: dict[str, Any]) -> None:
        body = json.dumps(said).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def shipping(stack: Any, folder: Path, index: Index) -> Iterator[Path]:
    """Run another shipper, with room for 1 MB, on a folder of logs, and end it as the stack does; yields its words."""
    service, programs = stack.model["logstash"], stack.host.programs
    conf = (STACK / "logstash" / "rsyslog.conf").read_text("utf-8")
    for was, now in {
        'queue.maxDiskSpace="256m" queue.maxFileSize="8m"': 'queue.maxDiskSpace="1m" queue.maxFileSize="64k"',
        'load="impstats" interval="5"': 'load="impstats" interval="1"',
    }.items():
        assert conf.count(was) == 1
        conf = conf.replace(was, now)
    (folder / "rsyslog.conf").write_text(conf, "utf-8")
    command = programs.command(service)
    command[command.index("-f") + 1] = str(folder / "rsyslog.conf")
    own = dict.fromkeys(["SHIPPER_DATA", "SHIPPER_LOGS", "SHIPPER_TASKS"], str(folder))
    environment = {**os.environ, **programs.environment(service), **own, "SEARCH_PORT": str(index.server_port)}
    words = folder / "words"  # not *.log: it would read them
    with words.open("ab") as out, Popen(command, env=environment, stdout=out, stderr=STDOUT) as shipper:
        try:
            yield words
            shipper.send_signal(signal.Signals[f"SIG{service.native.stop_signal}"])
            shipper.wait(10)
        finally:
            shipper.kill()


@pytest.fixture
def many(started, tmp_path) -> Path:
    """A folder with a log of more lines than the small queue holds."""
    started("logstash")  # its programs are there
    (tmp_path / "a.log").write_text("".join(good(number) for number in range(3000)), "utf-8")
    return tmp_path


def is_full(words: Path) -> bool:
    return b" err rsyslogd: the queue on the disk is full (" in words.read_bytes()


def test_a_full_queue_is_said_and_what_finds_no_room_waits_in_its_file(stack, many):
    """Fault 32: the index is away for longer than the queue lasts."""
    with Index() as index, shipping(stack, many, index) as words:
        until(lambda: is_full(words), "its word about it")
        waiting = sum(file.stat().st_size for file in many.glob("lines.0*"))
        seen = exporter.of_rsyslog(many, many / "rsyslog.conf")
        time.sleep(2.5)  # after two seconds without room rsyslog throws a line away, if it is not told to wait
        with index.serving():
            until(lambda: len(index.lines) >= 3000, "every line")
            until(lambda: exporter.of_rsyslog(many, many / "rsyslog.conf").lines == 0, "nothing to wait any more")
    share = seen.used / seen.room
    report(
        "32 queue full", lines=3000, there=len(index.lines), bytes=waiting, waiting=seen.lines, share=round(share, 3)
    )
    assert len(index.lines) == 3000
    assert 900_000 < waiting < 1_100_000
    assert share > 0.95, "ShipperQueueFull speaks"
    assert 1000 < seen.lines < 3000


def test_a_shipper_that_is_stopped_with_a_full_queue_loses_nothing(stack, many):
    """Fault 32: neither what was in the queue nor what was read and waited for room."""
    with Index() as index:
        with shipping(stack, many, index) as words:
            until(lambda: is_full(words), "its word about it")
        with index.serving(), shipping(stack, many, index):
            until(lambda: len(index.lines) >= 3000, "every line")
    report("32 stopped with a full queue", lines=3000, there=len(index.lines))
    assert len(index.lines) == 3000
