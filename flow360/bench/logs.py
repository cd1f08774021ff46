"""The figures about the logs: lines a second into the index, and how soon a line is found."""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flow360 import clients
from flow360.bench.measure import Round, percentile, timer
from flow360.bench.sandbox import engine_of_its_own
from flow360.monitoring.logs import LOGS
from flow360.stack.facade import silent
from flow360.stack.native.engine import NativeEngine
from flow360.waiting import wait_for

if TYPE_CHECKING:
    import requests

LINES = 50_000
BATCH = 1_000
RATE = 100
SECONDS = 20
REFRESH = 1.0
"""Seconds after which the index shows what came: `refresh_interval` of its template. The floor of every delay."""


@contextmanager
def shipped_over_bulk() -> Iterator[Round]:
    """Compare lines a second, from a file to documents that are found, with one client's `_bulk` of the same ones."""
    with _running() as engine:
        numbers = itertools.count()

        def one() -> tuple[float, float]:
            name = f"bench-{next(numbers)}"
            lines = [_line(number) for number in range(LINES)]
            file = _log(engine, name)
            with timer() as shipped:
                file.write_text("".join(lines), "utf-8")
                wait_for(lambda: _count(name) >= LINES, 300, f"{LINES} lines in the index", every=0.2)
            documents = [_document(f"{name}-bulk", number, line) for number, line in enumerate(lines)]
            with timer() as sent:
                _bulk(clients.search(), documents)
                wait_for(lambda: _count(f"{name}-bulk") >= LINES, 300, f"{LINES} documents", every=0.2)
            return LINES / shipped[0], LINES / sent[0]

        yield one


@contextmanager
def found_over_refresh() -> Iterator[Round]:
    """Measure the 95th percentile of the seconds from a line's writing to a query that finds it, 100 lines a second."""
    with _running() as engine:
        numbers = itertools.count()

        def one() -> tuple[float, float]:
            name = f"delay-{next(numbers)}"
            delays = _delays(_log(engine, name), name)
            p50, p95 = percentile(delays, 50), percentile(delays, 95)
            print(f"{RATE} lines/s, refreshed every {REFRESH:g} s: p50 {p50:.2f} s, p95 {p95:.2f} s")
            return p95, REFRESH

        yield one


@contextmanager
def _running() -> Iterator[NativeEngine]:
    with engine_of_its_own() as engine:
        engine.up(["logstash"], silent)
        yield engine


def _log(engine: NativeEngine, name: str) -> Path:
    return engine.state / "logs" / f"{name}.log"


def _line(number: int) -> str:
    at = datetime.now(UTC).isoformat(timespec="milliseconds")
    line = {
        "@timestamp": at,
        "level": "INFO",
        "logger": "bench",
        "message": "order packed",
        "order_id": number,
    }
    return json.dumps(line) + "\n"


def _document(service: str, number: int, line: str) -> dict[str, Any]:
    """Write what the shipper sends of a line."""
    return {
        "@timestamp": datetime.now(UTC).isoformat(),
        "message": line.rstrip("\n"),
        "service": {"name": service},
        "log": {"offset": number, "file": {"path": f"/{service}.log"}},
        "event": {"timezone": "+00:00"},
    }


def _bulk(engine: requests.Session, documents: list[dict[str, Any]]) -> None:
    headers = {"Content-Type": "application/x-ndjson"}
    for first in range(0, len(documents), BATCH):
        body = "".join(
            f'{{"index": {{"_id": "{one["service"]["name"]}-{one["log"]["offset"]}"}}}}\n{json.dumps(one)}\n'
            for one in documents[first : first + BATCH]
        )
        engine.post(f"/{LOGS}/_bulk?pipeline={LOGS}", data=body.encode(), headers=headers)


def _count(service: str) -> int:
    found = clients.search().get(f"/{LOGS}/_count", json={"query": {"term": {"service.name": service}}})
    return found.json()["count"]


def _delays(file: Path, service: str) -> list[float]:
    """Measure the seconds of each line from its writing to the first query that finds it, asked again and again."""
    written: dict[int, float] = {}
    done = threading.Event()

    def write() -> None:
        start = time.perf_counter()
        with file.open("a", encoding="utf-8") as out:
            for number in range(RATE * SECONDS):
                time.sleep(max(0.0, start + number / RATE - time.perf_counter()))
                out.write(_line(number))
                out.flush()
                written[number] = time.perf_counter()
        done.set()

    writer = threading.Thread(target=write, name="bench-writer", daemon=True)
    writer.start()
    engine, delays = clients.search(), {}
    query = {"size": 10_000, "_source": ["order_id"], "query": {"term": {"service.name": service}}}

    def all_found() -> bool:
        first = next(number for number in itertools.count() if number not in delays)
        known = {"range": {"order_id": {"gte": first}}}  # what was found before stays found
        asked = {**query, "query": {"bool": {"filter": [query["query"], known]}}}
        hits = engine.get(f"/{LOGS}/_search", json=asked).json()["hits"]["hits"]
        now = time.perf_counter()
        for hit in hits:
            number = hit["_source"]["order_id"]
            delays.setdefault(number, now - written[number])
        return done.is_set() and len(delays) == RATE * SECONDS

    wait_for(all_found, SECONDS + 60, "every line to be found", every=0.02)
    writer.join()
    return list(delays.values())
