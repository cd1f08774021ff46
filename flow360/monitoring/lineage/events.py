"""The events themselves: a run that ends, a carrier that stays, each as OpenLineage's RunEvent."""

from __future__ import annotations

import os
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from flow360.monitoring.lineage import journal
from flow360.monitoring.lineage.names import Dataset

NAMESPACE = "flow360"
PRODUCER = "urn:flow360"
SPEC = "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent"
EVERY = 30.0
"""Seconds between two events of a carrier."""
FIRST = 0.5
"""Seconds from what a carrier moves first to the event that says so."""
_FACETS = {
    "inputStatistics": ("1-0-0", "InputStatisticsInputDatasetFacet"),
    "outputStatistics": ("1-0-2", "OutputStatisticsOutputDatasetFacet"),
    "errorMessage": ("1-0-1", "ErrorMessageRunFacet"),
    "parent": ("1-2-0", "ParentRunFacet"),
}

Datasets = Dataset | Iterable[Dataset]
Moved = Mapping[Dataset, Mapping[str, int]]
"""Dataset -> `rowCount`, `size` (bytes) or both; empty where nobody has counted."""


def emit(
    kind: str,
    job: str,
    run_id: str,
    inputs: Moved,
    outputs: Moved,
    error: str = "",
    at: datetime | None = None,
) -> bool:
    """Write one event down; False where it could not be written.

    Args:
        kind: START, RUNNING, COMPLETE or FAIL.
        job: the program, or PROGRAM.PART.
        at: when it happened; None is now.
    """
    facets = _parent()
    if error:
        facets["errorMessage"] = _facet("errorMessage", message=error, programmingLanguage="python")
    event = {
        "eventTime": (at or datetime.now(UTC)).isoformat(),
        "eventType": kind,
        "inputs": [_dataset(one, "input", counts) for one, counts in inputs.items()],
        "job": {"facets": {}, "name": job, "namespace": NAMESPACE},
        "outputs": [_dataset(one, "output", counts) for one, counts in outputs.items()],
        "producer": PRODUCER,
        "run": {"facets": facets, "runId": run_id},
        "schemaURL": SPEC,
    }
    return journal.append(event)


def _dataset(one: Dataset, way: str, counts: Mapping[str, int]) -> dict[str, Any]:
    facets = {f"{way}Statistics": _facet(f"{way}Statistics", **counts)} if counts else {}
    return {"facets": {}, f"{way}Facets": facets, "name": one.name, "namespace": one.namespace}


def _facet(name: str, **values: Any) -> dict[str, Any]:
    version, title = _FACETS[name]
    url = f"https://openlineage.io/spec/facets/{version}/{title}.json#/$defs/{title}"
    return {"_producer": PRODUCER, "_schemaURL": url, **values}


def _parent() -> dict[str, Any]:
    """Name the task of Airflow in which this process works, if it is one."""
    dag, task, run = (os.environ.get(f"AIRFLOW_CTX_{name}") for name in ("DAG_ID", "TASK_ID", "DAG_RUN_ID"))
    if not (dag and task and run):
        return {}
    attempt = os.environ.get("AIRFLOW_CTX_TRY_NUMBER", "1")
    its_id = str(uuid.uuid5(uuid.NAMESPACE_URL, f"airflow/{dag}/{task}/{run}/{attempt}"))
    about = {"job": {"facets": {}, "name": f"{dag}.{task}", "namespace": "airflow"}}
    return {"parent": _facet("parent", **about, run={"facets": {}, "runId": its_id})}


def _each(datasets: Datasets) -> list[Dataset]:
    return [datasets] if isinstance(datasets, Dataset) else list(datasets)


class Run:
    """A run of a job: what it reads and writes, and how much of it so far.

    Args:
        job: the program, or PROGRAM.PART.
        inputs: what it reads.
        to: what it writes.
    """

    def __init__(self, job: str, inputs: Datasets = (), to: Datasets = ()) -> None:
        self.job, self.id = job, str(uuid.uuid4())
        self._read: dict[Dataset, Counter[str]] = {one: Counter() for one in _each(inputs)}
        self._written: dict[Dataset, Counter[str]] = {one: Counter() for one in _each(to)}

    def read(self, dataset: Dataset, rows: int | None = None, size: int | None = None) -> None:
        """Count what was read."""
        _count(self._read, dataset, rows, size)

    def wrote(self, dataset: Dataset, rows: int | None = None, size: int | None = None) -> None:
        """Count what was written: rows, or bytes where nobody has counted rows."""
        _count(self._written, dataset, rows, size)

    def say(self, kind: str, error: str = "", at: datetime | None = None) -> bool:
        """Emit an event with all that was counted."""
        return emit(kind, self.job, self.id, self._read, self._written, error, at)


def _count(into: dict[Dataset, Counter[str]], dataset: Dataset, rows: int | None, size: int | None) -> None:
    counted = into.setdefault(dataset, Counter())
    for name, value in (("rowCount", rows), ("size", size)):
        if value is not None:
            counted[name] = counted[name] + value  # 0, too: it was counted


@contextmanager
def run(job: str, inputs: Datasets = (), to: Datasets = ()) -> Iterator[Run]:
    """Let a run last as long as the block: START, then COMPLETE, or FAIL when the block raises."""
    one = Run(job, inputs, to)
    one.say("START")
    try:
        yield one
    except BaseException as error:
        one.say("FAIL", f"{type(error).__name__}: {error}".splitlines()[0][:300])
        raise
    one.say("COMPLETE")


class Carrier:
    """A program that stays: it counts what it moves, and says so in one RUNNING event a while.

    Counting is a lock and an addition; a thread of its own writes. From any thread.

    Args:
        job: the program.
        inputs: what it reads.
        to: what it writes.
        every: seconds between two events.
    """

    def __init__(self, job: str, inputs: Datasets = (), to: Datasets = (), every: float = EVERY) -> None:
        self._names = job, _each(inputs), _each(to)
        self._every, self._said = every, 0.0
        self._lock = threading.Lock()
        self._timer: threading.Timer | None = None
        self._id = str(uuid.uuid4())
        self._now = self._fresh()

    def _fresh(self) -> Run:
        job, inputs, outputs = self._names
        one = Run(job, inputs, outputs)
        one.id = self._id
        for count, datasets in ((one.read, inputs), (one.wrote, outputs)):
            for dataset in datasets:
                count(dataset, 0)  # it is one who counts: what is not counted did not move
        return one

    def read(self, dataset: Dataset, rows: int = 1) -> None:
        """Count rows that were read."""
        self._moved(dataset, rows, read=True)

    def wrote(self, dataset: Dataset, rows: int = 1) -> None:
        """Count rows that were written."""
        self._moved(dataset, rows, read=False)

    def _moved(self, dataset: Dataset, rows: int, read: bool) -> None:
        with self._lock:
            (self._now.read if read else self._now.wrote)(dataset, rows)
            if self._timer is None:
                wait = max(FIRST, self._said + self._every - time.monotonic()) if self._said else FIRST
                self._timer = threading.Timer(wait, self._say)
                self._timer.daemon = True
                self._timer.start()

    def _say(self, kind: str = "RUNNING") -> None:
        with self._lock:
            first, self._timer, self._said = not self._said, None, time.monotonic()
            found, self._now = self._now, self._fresh()
        if first:
            self._fresh().say("START")
        found.say(kind)

    def close(self) -> None:
        """Say what is left, and that the program ends. Nothing is said of one that has moved nothing."""
        with self._lock:
            begun = bool(self._said or self._timer)
            if self._timer:
                self._timer.cancel()
        if begun:
            self._say("COMPLETE")
