"""The vans' readings out of Kafka into the lake's raw zone, each once: the way back to history.

    take_readings(spark)     what has come since the last time, and ends
    landed(spark, lake)      all that has been landed
    of_day(lake, day)        a day of it, without Spark

    /raw/readings/log=<topic's id>/day=2026-05-07/part-….parquet    Kafka's key, value, partition, offset, timestamp
    /raw/readings/_checkpoints/<topic's id>                         how far it is

Spark Structured Streaming keeps both in step: it writes down which offsets a batch has before it works on it, and which
files count after it has written them (`_spark_metadata` in the log's folder). Killed at any moment, it repeats the
batch, and the files of the first attempt do not count; so a log is to be read by that list, as Spark does in `landed`.

Offsets only mean something within one topic. One that was deleted and made again, after `flow360 reset kafka`, has
another id, and so a log of its own here. Nothing is judged: a reading lies under the day of its timestamp, in Paris.

It is not a query that runs on. That would hold an executor (some 300 MB) and a core for every batch, day and night, to
bring history to a lake that is read once a night.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import date
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from flow360.errors import FlowError
from flow360.ingestion.topics import identity
from flow360.monitoring import lineage
from flow360.primeur.vans import READINGS
from flow360.storage.hdfs import root
from flow360.storage.raw import ZONE
from flow360.waiting import patient

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import DataFrame, SparkSession

    from flow360.clients.webhdfs import Lake

FOLDER = f"{ZONE}/readings"
AT_ONCE = 500_000
"""Records of one batch: some 100 MB in an executor."""
SECONDS = 900
"""How long what has come may take, on an idle machine."""
_DAY = "to_date(convert_timezone('UTC', 'Europe/Paris', cast(timestamp as timestamp_ntz)))"


# [START take_readings]
def take_readings(
    spark: SparkSession, topic: str = READINGS, folder: str = FOLDER, bootstrap: str = "", at_once: int = AT_ONCE
) -> int:
    """Land what has come since the last time; two at once are one: the second ends the first.

    Args:
        bootstrap: host:port of Kafka for this process; if nothing is said, the one that Spark's executors reach.
        at_once: records of one batch, at most.

    Returns:
        The records that it has landed.

    Raises:
        NoSuchTopic: nobody has written a reading yet.
        FlowError: Kafka is down, or it took too long.
        PySparkException: Spark or the lake broke off. The next call goes on from there.
    """
    log = identity(topic, bootstrap or spark.conf.get("spark.flow360.kafka"))
    with lineage.run("night.readings", lineage.topic(topic), to=lineage.raw("readings")) as job:
        count = take(spark, {"subscribe": topic}, folder, log, at_once=at_once)
        job.wrote(lineage.raw("readings"), rows=count)
    return count


def take(
    spark: SparkSession, topics: dict[str, str], folder: str, log: str, more: Sequence[str] = (), at_once: int = AT_ONCE
) -> int:
    """Land what topics have and a folder of the lake has not, with Kafka's columns; returns how many records.

    Args:
        topics: which, in the words of Spark's Kafka source.
        more: columns of that source beside those that each record has.

    Raises:
        FlowError: it took too long.
    """
    records = (
        spark.readStream.format("kafka")
        .options(**topics)
        .option("kafka.bootstrap.servers", spark.conf.get("spark.flow360.kafka"))
        .option("startingOffsets", "earliest")
        .option("maxOffsetsPerTrigger", at_once)
        .load()
    )
    query = (
        records.selectExpr("key", "value", "partition", "offset", "timestamp", *more, f"{_DAY} as day")
        .writeStream.format("parquet")
        .partitionBy("day")
        .option("checkpointLocation", f"{root(spark)}{folder}/_checkpoints/{log}")
        .trigger(availableNow=True)
        .start(f"{root(spark)}{folder}/log={log}")
    )
    if not query.awaitTermination(int(patient(SECONDS))):
        query.stop()
        raise FlowError(f"{folder}: not landed in {patient(SECONDS):.0f} s: the next night goes on from there")
    return sum(source.numInputRows for progress in query.recentProgress for source in progress.sources)


# [END take_readings]


def landed(spark: SparkSession, lake: Lake, folder: str = FOLDER) -> DataFrame:
    """Read all readings that have been landed: Kafka's columns, `day` in Paris, and `log`, the id of their topic.

    Raises:
        FlowError: none has been.
    """
    from pyspark.sql import functions as F

    found = None
    for name in _logs(lake, folder):
        part = spark.read.parquet(f"{root(spark)}{folder}/{name}").withColumn("log", F.lit(name.removeprefix("log=")))
        found = part if found is None else found.unionByName(part)
    if found is None:
        raise FlowError(f"no reading has been landed in {folder}: run nightly_lake")
    return found


def of_day(lake: Lake, day: date, folder: str = FOLDER, **options: Any) -> Iterator[tuple[str, pa.Table]]:
    """Yield the readings that have been landed under a day in Paris: each file that counts, and its rows.

    Args:
        options: `columns` and `filters`, as pyarrow takes them.
    """
    import pyarrow.parquet as pq

    for name in _logs(lake, folder):
        for path in _counted(lake, f"{folder}/{name}"):
            if f"/day={day}/" in path:
                yield path, pq.read_table(path, filesystem=lake, partitioning=None, **options)


def _logs(lake: Lake, folder: str) -> list[str]:
    """Name the logs' folders that Spark has finished a batch in."""
    names = (
        [path.rstrip("/").rpartition("/")[2] for path in lake.ls(folder, detail=False)] if lake.exists(folder) else []
    )
    return [name for name in names if name.startswith("log=") and lake.exists(f"{folder}/{name}/_spark_metadata")]


def _counted(lake: Lake, log: str) -> list[str]:
    """List the files that count, by Spark's list: one entry a batch; every tenth holds all the ones before it."""
    listed = [path.rpartition("/")[2] for path in lake.ls(f"{log}/_spark_metadata", detail=False)]
    batches = {name.removesuffix(".compact"): name for name in sorted(listed) if name[:1].isdigit()}
    since = max((int(number) for number, name in batches.items() if name.endswith(".compact")), default=0)
    found = []
    for number in sorted(map(int, batches)):
        if number >= since:
            _, *files = lake.cat_file(f"{log}/_spark_metadata/{batches[str(number)]}").decode().splitlines()
            found += [unquote(urlsplit(json.loads(one)["path"]).path) for one in files]
    return found
