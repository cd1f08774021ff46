"""What Spark means to do with a query, and what it did: its plan, and its own count of every stage.

    with watch(spark) as work:
        orders.groupBy("store_id").count().collect()
    work.stages  # one row a stage: tasks, seconds, records and megabytes that were shuffled

The figures come from Spark's REST interface (the one behind its web page), so a lesson and a check see the same.
"""

from __future__ import annotations

import contextlib
import io
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from flow360.clients import is_down
from flow360.errors import FlowError
from flow360.settings import settings
from flow360.waiting import rounds

if TYPE_CHECKING:
    import pandas as pd
    from pyspark.sql import DataFrame, SparkSession

COLUMNS = ["stage", "tasks", "seconds", "median_records", "max_records", "shuffle_read", "shuffle_write", "shuffle_mb"]
_SETTLED = 20  # seconds for Spark's page to show what has ended


# --- Plans ------------------------------------------------------------------------------------------------------------


def plan(query: DataFrame, mode: str = "simple") -> str:
    """Return the physical plan as text, as `query.explain(mode=...)` prints it; nothing is run."""
    with contextlib.redirect_stdout(io.StringIO()) as text:
        query.explain(mode=mode)
    return text.getvalue()


def operators(query: DataFrame) -> list[str]:
    """List the operators of the physical plan, last one first: ["HashAggregate", "Exchange hashpartitioning(…", …]."""
    lines = plan(query).splitlines()
    found = [re.sub(r"^[\s:+*\-]*(\(\d+\) )?", "", line) for line in lines if not line.startswith("==")]
    return [line for line in found if line and not line.startswith("AdaptiveSparkPlan")]


def shuffles(query: DataFrame) -> list[str]:
    """List the steps of a plan that move rows from every task to every other one; broadcasts are not among them."""
    return [line for line in operators(query) if line.startswith("Exchange ")]


def run(query: DataFrame) -> None:
    """Compute every row of a query and keep none: what is measured is Spark, not the way to this notebook."""
    query.write.format("noop").mode("overwrite").save()


@contextlib.contextmanager
def configured(session: SparkSession, **settings: Any) -> Iterator[None]:
    """Set settings below `spark.sql.` while the block runs: `configured(spark, shuffle_partitions=8)`, `_` for `.`.

    The old values are put back: to unset one would bring Spark's own default, not the server's.
    """
    keys = {"spark.sql." + name.replace("_", "."): value for name, value in settings.items()}
    before = {key: session.conf.get(key) for key in keys}
    try:
        for key, value in keys.items():
            session.conf.set(key, value)
        yield
    finally:
        for key, value in before.items():
            session.conf.set(key, value)


# --- Work -------------------------------------------------------------------------------------------------------------


@dataclass
class Work:
    """What a block of code made Spark do.

    Attributes:
        seconds: of the block, by the clock.
        stages: a DataFrame, one row a stage that ran, with `COLUMNS`. Records are those that a task read (from files or
            from a shuffle); `shuffle_read` and `shuffle_write` are records, `shuffle_mb` what was written for the next
            stage, in MB.
        tasks_failed: how many attempts of tasks failed and were tried again.
        jobs: the numbers of the jobs.
    """

    seconds: float = 0.0
    stages: pd.DataFrame = field(default=None)  # type: ignore[assignment]
    tasks_failed: int = 0
    jobs: list[int] = field(default_factory=list)

    @property
    def shuffled_mb(self) -> float:
        return round(float(self.stages["shuffle_mb"].sum()), 2)


@contextlib.contextmanager
def watch(session: SparkSession) -> Iterator[Work]:
    """Measure what this session's jobs do inside the block; other notebooks on the same server do not disturb.

    Raises:
        FlowError: Spark's REST interface does not answer, or what the block began goes on after its end.
    """
    before = {job["jobId"] for job in _jobs(session)}
    work, start = Work(), time.monotonic()
    yield work
    work.seconds = time.monotonic() - start
    jobs = _settled(session, before)
    work.jobs = [job["jobId"] for job in jobs]
    work.tasks_failed = sum(job["numFailedTasks"] for job in jobs)
    work.stages = _stages(session, {stage for job in jobs for stage in job["stageIds"]})


def _settled(session: SparkSession, before: set[int]) -> list[dict[str, Any]]:
    """Wait until none of the block's jobs is shown as running, and return them.

    Raises:
        FlowError: some still run after `_SETTLED` seconds, so their figures are not what they did.
    """
    for _ in rounds(_SETTLED, every=0.1):
        jobs = [job for job in _jobs(session) if job["jobId"] not in before]
        running = [str(job["jobId"]) for job in jobs if job["status"] == "RUNNING"]
        if not running:
            return jobs
    raise FlowError(
        f"Spark still works at job {', '.join(running)} of the block, {_SETTLED} s after its end: "
        f"stop what it started (query.stop(), spark.interruptAll()), then measure again"
    )


def _jobs(session: SparkSession) -> list[dict[str, Any]]:
    mark = f"_Session_{session.session_id}_"
    return [job for job in rest(session, "jobs") if any(mark in tag for tag in job.get("jobTags", ()))]


def _stages(session: SparkSession, ids: set[int]) -> pd.DataFrame:
    import pandas as pd

    rows = []
    for stage in rest(session, "stages"):
        if stage["stageId"] not in ids or stage["status"] != "COMPLETE":
            continue
        spread = rest(session, f"stages/{stage['stageId']}/{stage['attemptId']}/taskSummary?quantiles=0.5,1.0")
        records = [sum(pair) for pair in zip(*_records(spread), strict=True)]
        rows.append(
            {
                "stage": stage["stageId"],
                "tasks": stage["numCompleteTasks"],
                "seconds": stage["executorRunTime"] / 1000,
                "median_records": int(records[0]),
                "max_records": int(records[1]),
                "shuffle_read": stage["shuffleReadRecords"],
                "shuffle_write": stage["shuffleWriteRecords"],
                "shuffle_mb": round(stage["shuffleWriteBytes"] / 1e6, 2),
            }
        )
    return pd.DataFrame(rows, columns=COLUMNS).sort_values("stage", ignore_index=True)


def _records(spread: dict[str, Any]) -> tuple[list[float], list[float]]:
    return spread["inputMetrics"]["recordsRead"], spread["shuffleReadMetrics"]["readRecords"]


def rest(session: SparkSession, path: str) -> Any:
    """Send GET below `/api/v1/applications/ID/` of the server's web page, e.g. "executors"."""
    import requests

    from flow360.clients.direct import Session

    address = f"http://127.0.0.1:{settings().spark_ui_port}/api/v1/applications/{session.conf.get('spark.app.id')}"
    with Session() as http:
        try:
            answer = http.get(f"{address}/{path}", timeout=10)
        except requests.RequestException as error:
            raise is_down("spark-connect", f"its page gives no answer ({type(error).__name__})") from None
    if answer.status_code != 200:
        raise FlowError(f"Spark's page answers {answer.status_code} for {path}")
    return answer.json()
