"""The figures about what the course adds to a layer: one shared Spark server, Airflow around a task, `flow360 goto`."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from flow360.bench.measure import Round, run, timer
from flow360.bench.sandbox import engine_of_its_own
from flow360.course.registry import course
from flow360.settings import ROOT
from flow360.stack.facade import silent

_ATTACH = "from flow360 import clients; print(clients.spark().range(1000).count())"
_PRIVATE = """
from pyspark.sql import SparkSession
spark = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false").getOrCreate()
print(spark.range(1000).count())
spark.stop()
"""
_TASK = "from airflow.sdk import dag, task"
GOTO = "05a"


def _program(code: str, **more: str) -> float:
    """Measure the seconds that a fresh Python takes for it."""
    return run("python", [sys.executable, "-c", code], 180, cwd=ROOT, env={**os.environ, **more})


@contextmanager
def attach_over_private() -> Iterator[Round]:
    """Compare the seconds to count 1000 rows on the shared Connect server with a `local[2]` of the program's own."""
    with engine_of_its_own() as engine:
        engine.up(["spark-worker", "spark-connect"], silent)  # a server without a worker waits
        yield lambda: (_program(_ATTACH), _program(_PRIVATE, SPARK_LOCAL_IP="127.0.0.1"))


@contextmanager
def task_over_import() -> Iterator[Round]:
    """Compare the seconds of a task of `hourly_ingestion`, run by Airflow, with a program that imports its task SDK."""
    from flow360.orchestration import pipelines

    with engine_of_its_own() as engine:
        engine.up(course().chapter("03").services, silent)
        hours = iter(range(24 * 7))

        def one() -> tuple[float, float]:
            hour = datetime(2026, 5, 4, tzinfo=UTC) + timedelta(hours=next(hours))
            with timer() as took:
                run_id = pipelines.rerun("hourly_ingestion", hour.isoformat())
                pipelines.finish("hourly_ingestion", run_id)
            tasks = len(pipelines.tasks("hourly_ingestion", run_id))
            return took[0] / tasks, _program(_TASK)

        yield one


@contextmanager
def goto_over_solutions() -> Iterator[Round]:
    """Compare the seconds of `flow360 goto 05a` with its snapshot, and without: the solved labs before it run."""
    with engine_of_its_own() as engine:

        def goto() -> float:
            command = [sys.executable, "-m", "flow360.cli", "goto", GOTO, "--yes"]
            return run("goto", command, 3000, cwd=ROOT)

        def one() -> tuple[float, float]:
            shutil.rmtree(engine.state / "snapshots", ignore_errors=True)
            slow = goto()
            return goto(), slow

        yield one
