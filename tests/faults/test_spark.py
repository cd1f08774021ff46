"""Spark's driver, worker and executors die at work; rows come too late; files are corrupt."""

from __future__ import annotations

import itertools
import json
import os
import random
import threading
import time
from collections import Counter
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.errors import PySparkException
from pyspark.sql import functions as F

from flow360 import clients
from flow360.checks.verdict import NotYet
from flow360.course.notebooks import read
from flow360.processing.spark import configured, rest, watch
from flow360.settings import ROOT
from tests.environment import FULL, left_to_full
from tests.faults.support import SEED, child, kill, line, recovered, report, until

SERVICES = ("spark-connect", "spark-worker", "kafka")
POINTS = 10 if FULL else 3  # a driver takes some 15 to 25 seconds to be back at work on two slow cores
ROWS = 12_000


def again(stack: Any) -> Any:
    """A session on the driver that was started in place of the killed one."""
    stack.up(["spark-connect"])
    return clients.spark()


# --- 13: executor and worker ------------------------------------------------------------------------------------------


def executors(stack: Any) -> list[psutil.Process]:
    worker = psutil.Process(stack.host.pids()["spark-worker"])
    return [child for child in worker.children() if "CoarseGrainedExecutorBackend" in " ".join(child.cmdline())]


def long_sum(session: Any) -> Any:
    """24 tasks, which keep both cores busy for some seconds."""
    return session.range(0, 600_000_000, 1, 24).select(F.sum(F.pmod(F.xxhash64("id"), F.lit(1000))).alias("x"))


@cache
def undisturbed(session: Any) -> int:
    """What comes out when nobody is killed; the same for each victim."""
    return long_sum(session).first()[0]


@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    "victim",
    [pytest.param("executor", marks=left_to_full("an executor alone: a worker takes its own with it")), "spark-worker"],
)
def test_killed_in_the_middle_of_a_job(stack, spark, victim):
    """Fault 13: the lost tasks are computed again from their lineage; the result is exact."""
    work = long_sum(spark)
    expected = undisturbed(spark)
    result: list[int] = []

    def busy() -> bool:
        jobs = [job for job in rest(spark, "jobs?status=running") if spark.session_id in str(job["jobTags"])]
        return any(2 <= job["numCompletedTasks"] <= 16 for job in jobs)

    with watch(spark) as told:
        thread = threading.Thread(target=lambda: result.append(work.first()[0]), daemon=True)
        thread.start()
        until(busy, "a job that has done two of its tasks", 90, pause=0.02)
        if victim == "executor":
            (target,) = executors(stack)
            target.kill()
            at = time.monotonic()
        else:
            at = kill(stack, victim)
            recovered(stack, victim, at)
        thread.join(240)
        seconds = time.monotonic() - at
    report(
        f"13 {victim} killed in a job",
        tasks_tried_again=told.tasks_failed,
        difference=(result[0] - expected) if result else "no result",
        until_the_result=seconds,
    )
    assert result == [expected]
    assert told.tasks_failed > 0, "the kill was to fall into running tasks"


# --- 11: the driver of a streaming query ------------------------------------------------------------------------------


def produce(topic: str, values: list[str]) -> None:
    producer = clients.producer(acks="all", linger_ms=20)
    for value in values:
        producer.send(topic, value.encode())
    producer.flush(60)
    producer.close(10)


def numbers(session: Any, topic: str, batch: int) -> Any:
    source = session.readStream.format("kafka").option(
        "kafka.bootstrap.servers", session.conf.get("spark.flow360.kafka")
    )
    source = (
        source.option("subscribe", topic).option("startingOffsets", "earliest").option("maxOffsetsPerTrigger", batch)
    )
    return source.load().select(F.col("value").cast("string").cast("long").alias("id"))


def commits(checkpoint: Path) -> int:
    return len(list((checkpoint / "commits").glob("[0-9]*")))


@pytest.mark.timeout(900)
def test_driver_of_a_stream_killed_at_random_points(stack, spark, topics, folder):
    """Fault 11: Kafka, a checkpoint and the file sink; every row once, whenever the driver dies."""
    topic, draw = topics("spark"), random.Random(SEED)
    produce(topic, [str(number) for number in range(ROWS)])
    target, checkpoint = folder / "rows", folder / "checkpoint"

    def start(session: Any, batch: int) -> Any:
        sink = numbers(session, topic, batch).writeStream.format("parquet").option("path", str(target))
        return sink.option("checkpointLocation", str(checkpoint)).trigger(availableNow=True).start()

    session, killed_after, slowest = spark, [], 0.0
    for _ in range(POINTS):
        start(session, 100)
        wanted = commits(checkpoint) + draw.randint(1, 4)
        until(lambda wanted=wanted: commits(checkpoint) >= wanted, f"{wanted} batches", 120, pause=0.01)
        time.sleep(draw.uniform(0, 0.5))  # somewhere in a batch
        at = time.monotonic()
        stack.kill("spark-connect")
        killed_after.append(commits(checkpoint))
        session = again(stack)
        slowest = max(slowest, time.monotonic() - at)
    start(session, 4000).awaitTermination(120)
    rows, different = session.read.parquet(str(target)).agg(F.count("*"), F.countDistinct("id")).first()
    all_files = sum(pq.read_metadata(path).num_rows for path in target.glob("*.parquet"))
    report(
        "11 driver of a stream killed",
        points=POINTS,
        batches_done_at_each=",".join(map(str, killed_after)),
        sent=ROWS,
        rows=rows,
        lost=ROWS - different,
        doubled=rows - different,
        rows_in_files_that_do_not_count=all_files - rows,
        slowest_recovery=slowest,
    )
    assert max(killed_after) < ROWS // 100, "the kills were to fall before the end"
    assert (rows, different) == (ROWS, ROWS)


def in_time(sink: Any) -> Any:
    """Start a query whose sink is a Python function: Spark grants its process ten seconds, few on a busy machine."""
    for attempt in range(4):
        try:
            return sink.start()
        except PySparkException as error:
            if attempt == 3 or "failed to connect back" not in str(error):
                raise
    return None


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "idempotent",
    [
        pytest.param(False, id="plain_append"),
        pytest.param(True, id="by_batch_id"),
    ],
)
@left_to_full("a driver that dies between write and commit, as 04b's answers to exact_stream live through it")
def test_driver_killed_between_write_and_commit(stack, spark, topics, folder, idempotent):
    """Fault 11, where it hurts: foreachBatch is at least once, and the batch's number makes it exactly once."""
    topic = topics("spark-foreach", partitions=1)
    produce(topic, [str(number) for number in range(900)])
    target, checkpoint, mark = folder / "rows", folder / "checkpoint", folder / "died"
    driver = stack.host.pids()["spark-connect"]

    def write(rows: Any, number: int) -> None:
        if idempotent:
            rows.write.mode("overwrite").parquet(f"{target}/batch={number}")
        else:
            rows.write.mode("append").parquet(str(target))
        if number == 1 and not mark.exists():
            mark.touch()
            os.kill(driver, 9)

    def start(session: Any) -> Any:
        sink = numbers(session, topic, 300).writeStream.foreachBatch(write)
        return in_time(sink.option("checkpointLocation", str(checkpoint)).trigger(availableNow=True))

    start(spark)
    until(mark.exists, "the driver to die", 120)
    session = again(stack)
    assert start(session).awaitTermination(120)
    rows, different = session.read.parquet(str(target)).agg(F.count("*"), F.countDistinct("id")).first()
    report(
        f"11 killed between write and commit, {'by batch id' if idempotent else 'plain append'}",
        sent=900,
        rows=rows,
        lost=900 - different,
        doubled=rows - different,
    )
    assert different == 900
    assert rows == (900 if idempotent else 1200)


# --- 12: the watermark ------------------------------------------------------------------------------------------------


@pytest.mark.timeout(400)
def test_late_rows_are_dropped_and_counted_exactly(spark, topics):
    """Fault 12: what the watermark drops is what the rule says, and the sums are those of the rows that were kept."""
    topic, draw, begin = topics("spark-late", partitions=1), random.Random(SEED), datetime(2026, 5, 7, 8)
    patience, width = timedelta(minutes=10), timedelta(minutes=10)
    batches = [
        [
            begin + timedelta(minutes=15 * n + draw.randint(0, 15) - draw.choice([0, 0, 0, 5, 30, 90]))
            for _ in range(100)
        ]
        for n in range(8)
    ]
    batches.append([begin + timedelta(days=1)])  # closes every window but its own
    kept, groups, late, newest = Counter(), 0, 0, datetime.min
    for batch in batches:
        line = newest - patience if newest > datetime.min else newest
        windows = [at - timedelta(minutes=at.minute % 10, seconds=at.second) for at in batch]
        gone = [window for window in windows if window + width <= line]
        late, groups = late + len(gone), groups + len(set(gone))
        kept.update(window for window in windows if window + width > line)
        newest = max(newest, *batch)
    source = spark.readStream.format("kafka").option("kafka.bootstrap.servers", spark.conf.get("spark.flow360.kafka"))
    rows = source.option("subscribe", topic).option("startingOffsets", "earliest").load()
    rows = rows.select(F.col("value").cast("string").cast("timestamp").alias("at")).withWatermark("at", "10 minutes")
    name = f"late_{time.time_ns()}"
    counted = rows.groupBy(F.window("at", "10 minutes")).count().select(F.col("window.start").cast("string"), "count")
    with configured(spark, shuffle_partitions=1):  # each partition has a state store, and each batch writes them all
        query = counted.writeStream.format("memory").queryName(name).outputMode("append").start()
    dropped = 0
    seen: set[int] = set()
    try:
        for batch in batches:
            produce(topic, [f"{at:%Y-%m-%d %H:%M:%S}" for at in batch])
            query.processAllAvailable()
            for progress in query.recentProgress:
                if progress["batchId"] not in seen:
                    seen.add(progress["batchId"])
                    dropped += sum(state["numRowsDroppedByWatermark"] for state in progress["stateOperators"])
        found = {datetime.fromisoformat(start): count for start, count in spark.table(name).collect()}
    finally:
        query.stop()
    del kept[max(kept)]  # the last window is still open
    sent = sum(map(len, batches)) - 1
    report(
        "12 late rows",
        sent=sent,
        late_by_the_rule=late,
        missing=sent - sum(found.values()),
        dropped_groups_by_the_rule=groups,
        dropped_groups_counted_by_spark=dropped,
        wrong_windows=sum(found.get(window) != count for window, count in kept.items()),
    )
    assert late > 0
    assert found == dict(kept)
    assert dropped == groups, "Spark counts after the partial sum: one for each window of a batch"


# --- 14: corrupt files ------------------------------------------------------------------------------------------------


@pytest.mark.timeout(300)
def test_corrupt_parquet_is_named_and_nothing_is_half_written(spark, folder):
    """Fault 14: a cut file and one with zeros inside stop the query with their name; what it writes is not there."""
    source = folder / "in"
    source.mkdir()
    for number in range(6):
        pq.write_table(pa.table({"id": range(number * 1000, number * 1000 + 1000)}), source / f"part-{number}.parquet")
    whole = (source / "part-2.parquet").read_bytes()
    outcomes, half_written = {}, 0
    for name, content in {
        "truncated": whole[: len(whole) // 2],
        "zeros": whole[:100] + b"\0" * 400 + whole[500:],
    }.items():
        (source / "part-2.parquet").write_bytes(content)
        out = folder / f"out-{name}"
        with pytest.raises(PySparkException) as caught:
            spark.read.schema("id long").parquet(str(source)).write.parquet(str(out))
        outcomes[name] = "part-2.parquet" in str(caught.value)
        half_written += len([*out.glob("_SUCCESS"), *out.glob("*.parquet")])
    (source / "part-2.parquet").write_bytes(whole[: len(whole) // 2])
    spark.conf.set("spark.sql.files.ignoreCorruptFiles", "true")
    try:
        silent = spark.read.schema("id long").parquet(str(source)).count()
    finally:
        spark.conf.set("spark.sql.files.ignoreCorruptFiles", "false")
    report(
        "14 corrupt Parquet among 6 files",
        corrupt=len(outcomes),
        named=sum(outcomes.values()),
        half_written=half_written,
        rows_lost_in_silence_with_ignoreCorruptFiles=6000 - silent,
    )
    assert all(outcomes.values())
    assert half_written == 0, "a failed write left files that count"
    assert silent == 5000


@pytest.mark.timeout(300)
def test_bad_lines_are_kept_apart(spark, folder):
    """Fault 14: bad lines of a JSON file go to quarantine, bytes unchanged; FAILFAST stops; DROPMALFORMED is silent."""
    bad = ['{"id": 1, "total": ', "not json at all", '{"id": "seven", "total": 1.5}', "[1, 2"]
    lines = [json.dumps({"id": number, "total": number / 4}) for number in range(1000)]
    for place, one in enumerate(bad):
        lines.insert(100 * (place + 1), one)
    (folder / "orders.jsonl").write_text("\n".join(lines) + "\n", "utf-8")
    reader = spark.read.schema("id long, total double, _corrupt_record string")
    rows = reader.json(str(folder / "orders.jsonl")).cache()
    quarantine = [row[0] for row in rows.where("_corrupt_record is not null").select("_corrupt_record").collect()]
    good = rows.where("_corrupt_record is null").count()
    rows.unpersist()
    with pytest.raises(PySparkException):
        spark.read.schema("id long, total double").option("mode", "FAILFAST").json(str(folder)).agg(
            F.sum("total")
        ).collect()
    dropping = spark.read.schema("id long, total double").option("mode", "DROPMALFORMED").json(str(folder))
    report(
        "14 bad lines among 1,004",
        planted=len(bad),
        quarantined=len(quarantine),
        bytes_changed=sum(line not in quarantine for line in bad),
        good=good,
        failfast="raised",
        gone_in_silence_with_dropmalformed=1004 - len(dropping.select("id", "total").collect()),
    )
    assert sorted(quarantine) == sorted(bad)
    assert good == 1000


# --- a model that nobody needs any more -------------------------------------------------------------------------------

THROWS_AWAY = """
import gc
from concurrent.futures.thread import _global_shutdown_lock
from flow360 import clients

spark = clients.spark()
from pyspark.ml.feature import MinMaxScaler, VectorAssembler

rows = VectorAssembler(inputCols=["id"], outputCol="x").transform(spark.range(4))
circle = [MinMaxScaler(inputCol="x", outputCol="y").fit(rows)]
circle.append(circle)
print("fitted", flush=True)
del circle
with _global_shutdown_lock:  # held by whoever starts a thread of a pool
    gc.collect()
print("thrown away", spark.range(3).count(), flush=True)
"""


@pytest.mark.timeout(120)
def test_a_model_is_thrown_away_while_a_thread_starts(spark):
    """The garbage collector may come at any moment; what it takes must not ask the server then, and wait for ever."""
    with child(THROWS_AWAY) as process:
        line(process, "fitted")
        watcher = threading.Timer(40, process.kill)
        watcher.start()
        try:
            assert line(process, "thrown away") == "thrown away 3"
        finally:
            watcher.cancel()


# --- a refusal --------------------------------------------------------------------------------------------------------


@pytest.mark.timeout(300)
def test_a_refused_stream_can_be_repaired_in_the_same_notebook(spark, topics, folder):
    """Lab 04b's check kills the driver: the lab's own cells, run again, find a session though it has refused.

    That the check takes an answer that was repaired is proved among the chapter's answers.
    """
    cells = [cell.source for cell in read(ROOT / "solutions" / "04b_big_data.ipynb").cells if cell.cell_type == "code"]
    answer, check = (next(cell for cell in cells if mark in cell) for mark in ("def copy(", "check.exact_stream("))
    names: dict[str, Any] = {"calls": itertools.count()}
    begin, start = cells[0], 'lesson.start("04b_big_data")'
    assert start in begin
    exec(begin.replace(start, ""), names)  # what this exercise needs runs; the chapter needs twice as much
    # After the kill it forgets where it was: refused, but only then. And it ends by itself, so that nobody waits.
    wrong = answer.replace('checkpointLocation", checkpoint', "checkpointLocation\", checkpoint + 'x' * next(calls)")
    exec(wrong.replace("sink.start()", "sink.trigger(availableNow=True).start()"), names)
    with pytest.raises(NotYet, match="after the kill"):
        exec(check, names)
    exec(answer, names)
    topic, target = topics("spark-repaired", partitions=1), folder / "rows"
    produce(topic, [json.dumps({"id": number}) for number in range(20)])
    query = names["copy"](names["spark"], topic, str(target), str(folder / "checkpoint"))
    try:
        until(lambda: commits(folder / "checkpoint"), "the repaired copy to note a batch", 120)
    finally:
        query.stop()
    assert sorted(row["id"] for row in names["spark"].read.parquet(str(target)).collect()) == list(range(20))
