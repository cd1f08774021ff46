"""Checks of 04b_big_data: each asks Spark for its plan or its figures, Kafka, or the files, read by another engine."""

from __future__ import annotations

import contextlib
import functools
import io
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flow360 import clients, lesson
from flow360.checks.verdict import NotYet, exercise, expect, expect_equal, expect_type, limited
from flow360.processing.spark import configured, plan, run, shuffles, watch
from flow360.settings import GENERATED
from flow360.waiting import rounds

LAKE = GENERATED / "04b-lab"
GUEST = 1001
TEST_DAY = "2026-05-09"
TABLES = ("orders", "order_lines", "customers", "products", "deliveries", "weather")
CATEGORIES = f"""
    select category, sum(line_total_eur)::double as euros
    from '{LAKE}/order_lines/*.parquet' join '{LAKE}/products/*.parquet' using (product_id) group by category
"""
LATE = f"""
    select delivery_id, (delivered_at > promised_to)::int as late from '{LAKE}/deliveries/*.parquet'
    where (promised_from at time zone 'Europe/Paris')::date >= date '{TEST_DAY}'
"""
DAYS = f"""
    select (ordered_at at time zone 'Europe/Paris')::date::text as day, count(*) as orders
    from '{LAKE}/orders/*.parquet' group by day
"""
BEST = 0.75  # what is known beforehand does not separate late and punctual better than 0.67


# --- The data of the lab ----------------------------------------------------------------------------------------------


def lake() -> Path:
    """The folder of the lab's tables (40,000 orders; a folder of Parquet files each), written at the first call."""
    import pyarrow.parquet as pq

    from flow360.primeur import generate
    from flow360.primeur.plan import Plan

    for name in TABLES:
        folder = LAKE / name
        if folder.exists():
            continue
        part = LAKE / f".{name}"
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        for number, chunk in enumerate(generate.chunks(name, Plan(scale=0.05))):
            pq.write_table(chunk, part / f"part-{number:02}.parquet")
        part.rename(folder)
    return LAKE


def read(name: str) -> Any:
    """One of the lab's tables as a Spark DataFrame."""
    return clients.spark().read.parquet(str(lake() / name))


def guest_orders() -> Any:
    """The orders with 60 % of them under one customer number (1001), as a shop with guest orders has them."""
    from pyspark.sql import functions as F

    guest = F.when(F.col("order_id") % 10 < 6, GUEST).otherwise(F.col("customer_id"))
    return read("orders").withColumn("customer_id", guest)


def duck(query: str) -> Any:
    """The rows of a query over files, by DuckDB: an engine that shares nothing with Spark."""
    import duckdb

    lake()
    with duckdb.connect() as db:
        db.execute("set timezone = 'UTC'")
        return db.execute(query).df()


# --- The checks -------------------------------------------------------------------------------------------------------


@exercise
def fewer_shuffles(fast: Any) -> None:
    """A DataFrame (category, euros) with the same rows as `slow` and a single shuffle in its plan."""
    _is_dataframe("fast", fast)
    expect_equal("fast.columns", found=sorted(fast.columns), expected=["category", "euros"])
    steps = plan(fast)
    if "Coalesce 1" in steps or "SinglePartition" in steps:
        raise NotYet("fast: all rows go through one task now: that is not a shuffle, but no other core can help either")
    found = shuffles(fast)
    kinds = ", ".join(re.sub(r"\(.*", "", step.removeprefix("Exchange ")) for step in found)
    expect(len(found) <= 1, f"fast: expected one shuffle in the plan, found {len(found)}: {kinds}")
    truth = duck(CATEGORIES).set_index("category")["euros"]
    mine = fast.toPandas().set_index("category")["euros"].astype(float)
    expect_equal("fast", found=sorted(mine.index), expected=sorted(truth.index), why="one row for each category")
    worst = (mine - truth).abs().idxmax()
    expect(
        abs(mine[worst] - truth[worst]) < 0.01,
        f"fast: {worst}: expected {truth[worst]:,.2f} euros, found {mine[worst]:,.2f}",
    )


def skew_settings() -> contextlib.AbstractContextManager[None]:
    """As in the lab: no broadcast, eight partitions, no help from AQE."""
    return configured(clients.spark(), autoBroadcastJoinThreshold=-1, shuffle_partitions=8, adaptive_enabled="false")


@exercise
def cured_join(cured: Any) -> None:
    """The same rows as the skewed join; the largest task at most twice the median; at most 1.5 times the rows moved."""
    from pyspark.sql import functions as F

    _is_dataframe("cured", cured)
    missing = {"order_id", "customer_id", "loyalty"} - set(cured.columns)
    expect(not missing, f"cured: expected the columns order_id, customer_id and loyalty, {sorted(missing)} is missing")
    spark = clients.spark()
    skewed = guest_orders().join(read("customers").select("customer_id", "loyalty"), "customer_id")
    count = (F.count("*"), F.countDistinct("order_id"), F.sum(F.hash("order_id", "customer_id", "loyalty")))
    rows, orders, content = skewed.agg(*count).first()
    mine = cured.agg(*count).first()
    why = "does each salt find its copy of the customer?" if mine[0] < rows else "does a row find more than one copy?"
    expect_equal("cured: rows", found=mine[0], expected=rows, why=why)
    expect_equal("cured: orders", found=mine[1], expected=orders)
    expect(mine[2] == content, "cured: some orders have another customer_id or loyalty than in the skewed join")
    with skew_settings():
        expect(
            "BroadcastHashJoin" not in plan(cured), "cured: expected a join by shuffle, found a broadcast of one side"
        )
        with watch(spark) as before:
            run(skewed)
        with watch(spark) as after:
            run(cured)
    last = after.stages.iloc[-1]
    ratio = last["max_records"] / max(last["median_records"], 1)
    expect(
        ratio <= 2,
        f"cured: the largest task reads {int(last['max_records']):,} rows, the median {int(last['median_records']):,}: "
        f"expected at most twice the median, found {ratio:.1f} times",
    )
    moved = after.stages["shuffle_write"].sum() / before.stages["shuffle_write"].sum()
    expect(
        moved <= 1.5,
        f"cured: {moved:.1f} times as many rows are shuffled as before, expected at most 1.5: "
        "only one customer needs copies",
    )


ROWS = 1_200


@exercise
def exact_stream(copy: Callable[..., Any]) -> None:
    """copy(spark, topic, target, checkpoint) starts a query; the driver is killed, and every row is there once."""
    expect(callable(copy), f"copy: expected a function, found {type(copy).__name__}")
    topic = f"lab-04b-{time.time_ns()}"
    base = LAKE / topic
    target, checkpoint = base / "rows", base / "checkpoint"
    query = None
    try:
        with clients.kafka_admin() as admin:
            admin.create_topics({topic: {"num_partitions": 2, "replication_factor": 1}})
        _send(topic, range(ROWS // 2))
        query = _start(copy, topic, target, checkpoint)
        any(_commits(checkpoint) > 0 or not query.isActive for _ in rounds(90, every=0.3))
        if not _commits(checkpoint):
            told = _failure(query)
            raise NotYet(f"copy: no batch was noted below {checkpoint.name!r} ({told}): does it use the checkpoint?")
        expect(_rows(target)[0], "copy: the first batch holds no row: where does a query that never ran begin to read?")
        with contextlib.redirect_stdout(io.StringIO()):
            lesson.kill("spark-connect")
            lesson.start("spark-connect")
        _send(topic, range(ROWS // 2, ROWS))
        query = _start(copy, topic, target, checkpoint)
        any(_rows(target)[1] >= ROWS or not query.isActive for _ in rounds(90, every=0.3))
        rows, different = _rows(target)
        if different < ROWS:
            raise NotYet(
                f"copy: expected {ROWS:,} different rows after the kill, found {different:,} ({_failure(query)})"
            )
        expect_equal("copy: rows after the kill", found=rows, expected=ROWS, why="some rows are there twice")
    finally:
        with contextlib.suppress(Exception):  # the query may have ended, or its driver
            query.stop()
        _forget(topic)
        shutil.rmtree(base, ignore_errors=True)


def _start(copy: Callable[..., Any], topic: str, target: Path, checkpoint: Path) -> Any:
    query = limited(copy, 90)(clients.spark(), topic, str(target), str(checkpoint))
    if not hasattr(query, "isActive"):
        raise NotYet(f"copy: expected the running query (what .start() returns), found {type(query).__name__}")
    return query


def _commits(checkpoint: Path) -> int:
    return len(list((checkpoint / "commits").glob("[0-9]*")))


def _failure(query: Any) -> str:
    error = query.exception() if query is not None else None
    return f"the query failed: {str(error).splitlines()[0][:160]}" if error else "the query itself did not fail"


def _rows(target: Path) -> tuple[int, int]:
    """Rows, and different ids, that Spark's file sink vouches for."""
    from pyspark.errors import AnalysisException
    from pyspark.sql import functions as F

    if not (target / "_spark_metadata").exists():
        return 0, 0
    try:
        found = clients.spark().read.schema("id long").parquet(str(target))
        return tuple(found.agg(F.count("*"), F.countDistinct("id")).first())  # type: ignore[return-value]
    except AnalysisException:
        return 0, 0


def _send(topic: str, numbers: range) -> None:
    producer = clients.producer(linger_ms=20)
    for number in numbers:
        producer.send(topic, f'{{"id": {number}}}'.encode())
    producer.flush(30)
    producer.close(10)


def _forget(topic: str) -> None:
    with clients.kafka_admin() as admin:
        if topic in admin.list_topics():
            admin.delete_topics([topic])


@exercise
def late_model(predictions: Any, auc: Any) -> None:
    """(delivery_id, probability) of every delivery from 9 May on, and the AUC that they have."""
    _is_dataframe("predictions", predictions)
    expect_type("auc", auc, float)
    missing = {"delivery_id", "probability"} - set(predictions.columns)
    expect(not missing, f"predictions: expected the columns delivery_id and probability, {sorted(missing)} is missing")
    kind = dict(predictions.dtypes)["probability"]
    expect(kind in ("double", "float"), f"predictions.probability: expected a number (of being late), found {kind}")
    mine = predictions.select("delivery_id", "probability").toPandas()
    truth = duck(LATE)
    expect(mine["delivery_id"].is_unique, "predictions: a delivery_id appears twice: does a join duplicate rows?")
    both = truth.merge(mine, on="delivery_id")
    if not len(both) == len(truth) == len(mine):
        raise NotYet(
            f"predictions: expected the {len(truth):,} deliveries from {TEST_DAY} on, "
            f"found {len(mine):,} rows of which {len(both):,} are among them"
        )
    real = area(both["probability"], both["late"])
    expect(
        real <= BEST,
        f"predictions: an AUC of {real:.3f} is too good: which column is known only after the delivery?",
    )
    expect(
        real >= 0.64, f"predictions: expected an AUC of at least 0.64, found {real:.3f}: what else is known beforehand?"
    )
    expect(abs(real - auc) < 0.005, f"auc: the predictions have an AUC of {real:.3f}, found {auc:.3f}")


def area(score: Any, label: Any) -> float:
    """The AUC by ranks (Mann and Whitney), ties counted half."""
    ranks = score.rank()
    late, punctual = int(label.sum()), int((1 - label).sum())
    return float((ranks[label == 1].sum() - late * (late + 1) / 2) / (late * punctual))


@exercise
def right_files(folder: Any) -> None:
    """A folder with one `day=…` folder for each day in Paris, one Parquet file in each, and all orders."""
    expect_type("folder", folder, (str, Path))
    place = Path(folder)
    expect(place.is_dir(), f"folder: {str(folder)!r} is not a folder: has the table been written?")
    expect((place / "_SUCCESS").exists(), "folder: no _SUCCESS in it: the write did not end well")
    loose = list(place.glob("*.parquet"))
    expect(not loose, f"folder: expected folders day=…, found {len(loose)} Parquet files beside them")
    truth = duck(DAYS).set_index("day")["orders"].to_dict()
    days = {path.name.removeprefix("day="): path for path in sorted(place.glob("day=*"))}
    expect(days, f"folder: expected folders called day=2026-05-04 and so on, found {_names(place)}")
    expect_equal("folder: days", found=sorted(days), expected=sorted(truth), why="a day is a day in Paris")
    for day, path in days.items():
        files = list(path.glob("*.parquet"))
        expect_equal(f"folder: files in day={day}", found=len(files), expected=1, why="how many tasks wrote there?")
    rows = _count(place)
    for day, orders in truth.items():
        expect_equal(
            f"folder: orders of {day}", found=rows[day], expected=orders, why="each once, the days cut in Paris"
        )


def _names(place: Path) -> str:
    return (
        ", ".join(sorted(path.name for path in place.iterdir() if not path.name.startswith(("_", "."))))[:80]
        or "nothing"
    )


def _count(place: Path) -> dict[str, int]:
    query = f"""
        select day::text as day, count(*) as n
        from read_parquet('{place}/*/*.parquet', hive_partitioning = true) group by all
    """
    return duck(query).set_index("day")["n"].to_dict()


@functools.cache
def _dataframe_types() -> tuple[type, ...]:
    from pyspark.sql import DataFrame
    from pyspark.sql.connect.dataframe import DataFrame as Remote

    return DataFrame, Remote


def _is_dataframe(name: str, value: Any) -> None:
    if not isinstance(value, _dataframe_types()):
        raise NotYet(f"{name}: expected a Spark DataFrame, found {type(value).__name__}")
