"""logstash-exporter: how much waits in the shipper's queue on the disk, for Prometheus.

`python -m flow360.monitoring.logs.exporter --port 19198 --queue FOLDER --conf stack/logstash/rsyslog.conf`
`python -m flow360.monitoring.logs.exporter --port 9198 --logstash http://logstash:9600`

What a shipper counts of itself goes into the index, and that is away when the queue grows. Logstash also tells whoever
asks it; rsyslog keeps a note of its queue beside the queue's files, for its own next start.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import requests
import typer
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from flow360.monitoring.exposition import expose

SECONDS = 1.5
"""How long Logstash may take; a scrape has two seconds."""
_UNITS = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3}


class Queue(NamedTuple):
    """What waits: lines, the bytes that they take on the disk, and the bytes that they may take."""

    lines: int
    used: int
    room: int


def of_rsyslog(folder: Path, conf: Path, name: str = "lines") -> Queue:
    """Read rsyslog's note of its queue `name`; there is none before the first line.

    Raises:
        ValueError: the note cannot be read, or the configuration says nothing of this queue's room.
    """
    found = re.search(rf'queue\.filename="{name}" queue\.maxDiskSpace="(\d+)([kmg]?)"', conf.read_text("utf-8"))
    if not found:
        raise ValueError(f"{conf}: no queue.maxDiskSpace beside {name}")
    room = int(found[1]) * _UNITS[found[2]]
    note = folder / f"{name}.qi"
    for _ in range(5):  # it may be in the middle of being written
        text = note.read_text("utf-8") if note.exists() else ""
        lines, used = (
            re.search(rf"^\+{key}:2:\d+:(\d+):$", text, re.MULTILINE)
            for key in ("iQueueSize", r"tVars\.disk\.sizeOnDisk")
        )
        if lines and used:
            return Queue(int(lines[1]), int(used[1]), room)
        time.sleep(0.02)
    if folder.exists() and not any(folder.glob(f"{name}.[0-9]*")):
        return Queue(0, 0, room)
    raise ValueError(f"{note}: no note of a queue")


def of_logstash(url: str) -> Queue:
    """Ask Logstash for the queue of its pipeline `main`.

    Raises:
        ValueError: it does not answer, or not as Logstash does.
    """
    try:
        answer = requests.get(f"{url}/_node/stats/pipelines/main", timeout=SECONDS)
        queue = answer.json()["pipelines"]["main"]["queue"]
        return Queue(*(int(queue[key]) for key in ("events_count", "queue_size_in_bytes", "max_queue_size_in_bytes")))
    except (requests.RequestException, KeyError, TypeError) as error:
        raise ValueError(f"{url}: {type(error).__name__}") from None


class ShipperCollector(Collector):
    """Asks for the queue whenever it is scraped.

    Args:
        ask: returns what waits, or raises ValueError.
    """

    def __init__(self, ask: Callable[[], Queue]) -> None:
        self._ask = ask
        self._trouble = ""

    def describe(self) -> Iterable[Metric]:
        """Describe nothing, and so ask nothing while the collector is registered: the shipper may be away."""
        return []

    def collect(self) -> Iterable[Metric]:
        known = GaugeMetricFamily("log_shipper_queue_known", "1 when the shipper's queue could be looked at")
        try:
            queue, trouble = self._ask(), ""
        except ValueError as error:
            queue, trouble = None, str(error)
        if trouble and trouble != self._trouble:
            logging.getLogger("logstash-exporter").warning("%s", trouble)
        self._trouble = trouble
        known.add_metric([], float(queue is not None))
        yield known
        if queue is not None:
            yield GaugeMetricFamily("log_shipper_queue_lines", "lines that wait for the index", queue.lines)
            yield GaugeMetricFamily("log_shipper_queue_bytes", "what the queue takes on the disk", queue.used)
            yield GaugeMetricFamily("log_shipper_queue_max_bytes", "what it may take", queue.room)


def main(
    host: str = "127.0.0.1",
    port: int = 19198,
    logstash: str = "",
    queue: Path = Path(),
    conf: Path = Path("stack/logstash/rsyslog.conf"),
) -> None:
    """Answer /metrics until SIGTERM: of Logstash at the address `logstash`, else of rsyslog and its folder `queue`."""
    collector = ShipperCollector(lambda: of_logstash(logstash) if logstash else of_rsyslog(queue, conf))
    expose(collector, host, port, "logstash-exporter", {"of": logstash or str(queue)})


if __name__ == "__main__":
    typer.run(main)
