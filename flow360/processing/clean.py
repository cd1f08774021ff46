"""Raw to clean: what the sources gave for a day becomes typed rows, each thing once; what is not right is set aside.

    clean_day(spark(), lake(), date(2026, 5, 7))

Spark reads the files of the newest run of each source, judges each row by the contract of its channel (the same judge
as everywhere, flow360/primeur/intake.py, in the executors' Python), and then compares: the shop, the API and the files
report the same orders. What the shop says is right. Each row that was delivered has one outcome:

    clean         it is in /clean/<table>/business_day=…, typed
    doubled       the same thing came before, with the same values
    quarantined   it is in /clean/quarantine/business_day=…, with the reason, its bytes, and where it stood
    other_day     its file holds many days, and the row is left to the night of its own

so for each file: delivered = clean + doubled + quarantined + other_day, and /clean/ledger/business_day=… says so. A day
is replaced whole, so the same day can be cleaned again; what it says follows from the raw zone alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, date, datetime
from decimal import Decimal
from fnmatch import fnmatch
from functools import cache
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from pydantic_core import PydanticCustomError

from flow360.errors import FlowError
from flow360.primeur.clock import PARIS
from flow360.primeur.contract import NAMES, Contract, contract
from flow360.primeur.intake import Record, rows
from flow360.primeur.schema import MONEY, TABLES, WAREHOUSE
from flow360.primeur.schema import UTC as MOMENT
from flow360.primeur.shop import shop_contract
from flow360.storage.clean_zone import KEY, ZONE, partition
from flow360.storage.hdfs import root
from flow360.storage.ledger import Entry, Ledger
from flow360.storage.raw import SOURCES, File, Manifest
from flow360.storage.raw import ZONE as RAW

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame, SparkSession

    from flow360.clients.webhdfs import Lake

MOVES_ON = {"orders": ("status",)}
"""Columns whose value goes on changing: two sources that were asked at two moments may differ in them."""
EUROS = {"orders": "total_eur", "order_lines": "line_total_eur", "payments": "amount_eur"}
"""What a table's rows are worth, for the ledger."""
AT_ONCE = 4
"""Tables that are written side by side: they are small, and each waits for the lake more than it computes."""
HIVE = {pa.int32(): "int", pa.int64(): "bigint", pa.string(): "string", pa.float64(): "double", pa.bool_(): "boolean"}
HIVE |= {MONEY: "decimal(10,2)", MOMENT: "timestamp", pa.date32(): "date"}
CAME_FROM = {"_source": "string", "_file": "string", "_line": "int"}
"""Columns that each clean table has beside its own: where the row stood in the raw zone."""

JUDGED = pa.schema(
    [
        ("table", pa.string()),
        ("source", pa.string()),
        ("file", pa.string()),
        ("line", pa.int32()),
        ("reason", pa.string()),
        ("key", pa.string()),
        ("values", pa.list_(pa.string())),
        ("original", pa.binary()),
        ("other_day", pa.bool_()),
    ]
)
"""What is known of a delivered row after the judge has seen it: `reason` is null for a right one, which has a key and
its canonical texts in the order of its table's columns. Of a row that is left to another day only its place is."""


# --- The judge --------------------------------------------------------------------------------------------------------


@cache
def promise(source: str, name: str) -> Contract | None:
    """Return the contract that a file of the raw zone is held against, or None if nothing is known of such a file."""
    stem = name.partition(".")[0]
    if source == "shop":
        return shop_contract(stem) if stem in WAREHOUSE else None
    if source == "api":
        known = f"{stem.rpartition('-')[0]}_api"
        return contract(known) if known in NAMES else None
    return next((one for one in map(contract, NAMES) if one.is_file and fnmatch(name, one.path)), None)


def judged(source: str, day: date, file: File, data: bytes) -> Iterator[dict[str, Any]]:
    """Yield the rows of one file of the raw zone, as `JUDGED` has them; whatever stands in it, it does not raise."""
    promised = promise(source, file.name)
    known = {"table": promised.table if promised else "", "source": source, "file": file.name, "other_day": False}
    refused = file.defect(data) or ("" if promised else "no contract for a file of this name")
    if refused:
        yield {**known, "line": 1, "reason": f"file: {refused}", "key": None, "values": None, "original": b""}
        return
    for record in rows(promised, data):
        its = _day_of(promised, source, record)
        strays = its not in (None, day)
        if strays and promised.is_file and not promised.is_daily:
            yield {**known, "line": record.line, "other_day": True}
            continue
        reason = record.defect or (f"of another day: {its}" if strays else "")
        row = {**known, "line": record.line, "reason": reason or None, "original": record.original}
        if reason:
            yield {**row, "key": None, "values": None}
        else:
            texts = canonical(promised, record.right)
            key = json.dumps([texts[name] for name in TABLES[promised.table].key])
            yield {**row, "key": key, "values": [texts.get(name) for name in TABLES[promised.table].names]}


def _day_of(promised: Contract, source: str, record: Record) -> date | None:
    """Read the day in Paris that a row is about, right or not. None: it cannot be read, or the row is about none.

    The shop gives a day's orders whole, with rows of theirs that are of other days.
    """
    moment = TABLES[promised.table].moment
    if source == "shop" or not moment:
        return None
    try:
        return promised.columns[moment].convert(record.values.get(moment)).astimezone(PARIS).date()
    except (PydanticCustomError, OverflowError):  # it is not a moment, or one beyond the calendar's end
        return None


def canonical(promised: Contract, right: Mapping[str, Any]) -> dict[str, str | None]:
    """Write a right row's values as texts that are equal where the values are, whichever source they come from."""
    same = {name: value.astimezone(UTC) if isinstance(value, datetime) else value for name, value in right.items()}
    texts = promised.texts(same)
    for name, value in right.items():
        if isinstance(value, Decimal) and promised.columns[name].places is None:
            texts[name] = f"{value.normalize():f}"
    return texts


def judge_files(
    day: date, landed: Mapping[str, tuple[str, File]], batches: Iterable[pa.RecordBatch]
) -> Iterator[pa.RecordBatch]:
    """Judge an executor's files: (path, content) in, `JUDGED` out, some thousands of rows at a time.

    Args:
        landed: path below the raw zone -> source and file, as the manifests have them.
    """
    for batch in batches:
        for path, content in zip(batch["path"].to_pylist(), batch["content"].to_pylist(), strict=True):
            source, file = landed[path.partition(f"{RAW}/")[2]]
            many: list[dict[str, Any]] = []
            for one in judged(source, day, file, content):
                many.append(one)
                if len(many) == 5000:
                    yield pa.RecordBatch.from_pylist(many, JUDGED)
                    many = []
            if many:
                yield pa.RecordBatch.from_pylist(many, JUDGED)


# --- Spark ------------------------------------------------------------------------------------------------------------


def read(spark: SparkSession, manifests: Iterable[Manifest]) -> DataFrame:
    """Read the delivered rows of these runs, judged one by one.

    Raises:
        FlowError: no file at all was landed.
    """
    (day,) = {one.day for one in manifests}
    found = {one.path(file): (one.source, file) for one in manifests for file in one.files}
    if not found:
        raise FlowError(f"clean: the runs of {day} hold no file")
    landed = {path.removeprefix(f"{RAW}/"): known for path, known in found.items()}
    files = spark.read.format("binaryFile").load([f"{root(spark)}{path}" for path in sorted(found)])
    kinds = {pa.string(): "string", pa.int32(): "int", pa.binary(): "binary", pa.list_(pa.string()): "array<string>"}
    kinds[pa.bool_()] = "boolean"
    shape = ", ".join(f"`{field.name}` {kinds[field.type]}" for field in JUDGED)

    def judge(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        return judge_files(day, landed, batches)

    return files.select("path", "content").mapInArrow(judge, shape)


def sort(delivered: DataFrame) -> DataFrame:
    """Compare the rows of one thing: adds `outcome`, and the reason to what is right by itself but not beside others.

    Of rows with the same key, the shop's first one is the thing. What the shop does not know is set aside: it has given
    all that happened on the day, so nobody knows whether such a row is right.
    """
    from pyspark.sql import Window
    from pyspark.sql import functions as F

    # What has no key is not right by itself, and compared with nothing.
    thing = F.coalesce("key", F.concat_ws(":", "source", "file", "line"))
    rank = F.array_position(F.array(*map(F.lit, SOURCES)), F.col("source"))
    ordered = Window.partitionBy("table", thing).orderBy(rank, F.col("file"), F.col("line"))
    whole = ordered.rowsBetween(Window.unboundedPreceding, Window.unboundedFollowing)
    compared = (
        delivered.withColumn("place", F.row_number().over(ordered))
        .withColumn("first", F.first("values").over(whole))
        .withColumn("known", F.first("source").over(whole) == SOURCES[0])
        .withColumn("differs", _first_difference())
    )
    contradicted = F.when(~F.col("known"), F.lit("the shop has none of this key")).when(
        F.col("differs").isNotNull(), F.concat(F.lit("not as the shop has it: "), F.col("differs"))
    )
    reason = F.when(~F.col("other_day"), F.coalesce("reason", contradicted))
    outcome = F.when(F.col("other_day"), "other_day").when(F.col("reason").isNotNull(), "quarantined")
    outcome = outcome.when(F.col("place") == 1, "clean").otherwise("doubled")
    found = compared.withColumn("reason", reason).withColumn("outcome", outcome)
    return found.select(*JUDGED.names, "outcome")


def _first_difference() -> Column:
    """Find the first column in which a row differs from the first one of its key, if it is one that stays."""
    from pyspark.sql import functions as F

    names = F.lit(None).cast("array<string>")
    for table in WAREHOUSE:
        mine = [None if name in MOVES_ON.get(table, ()) else name for name in TABLES[table].names]
        names = F.when(F.col("table") == table, F.array(*map(F.lit, mine))).otherwise(names)

    def different(name: Column, n: Column) -> Column:
        return F.when(~F.get(F.col("values"), n).eqNullSafe(F.get(F.col("first"), n)), name)

    return F.get(F.filter(F.transform(names, different), lambda name: name.isNotNull()), F.lit(0))


def typed(table: str) -> list[Column]:
    """Make the columns of a clean table out of a sorted row: the canonical texts cast to the types of the schema."""
    from pyspark.sql import functions as F

    own = [
        F.col("values")[n].cast(HIVE[column.type]).alias(column.name) for n, column in enumerate(TABLES[table].columns)
    ]
    return [*own, *(F.col(name.removeprefix("_")).alias(name) for name in CAME_FROM)]


def clean_day(spark: SparkSession, lake: Lake, manifests: Iterable[Manifest]) -> Ledger:
    """Make a day of the clean zone out of a run of each source; what the day held before goes.

    Returns:
        What became of each delivered row, by file.

    Raises:
        FlowError: a run has no file, or a service is down; the day is as it was, or has not been replaced in all tables
            yet, and the same call makes it whole.
    """
    from flow360.monitoring import lineage  # not at the top: the executors import this module, and have not all of it

    # OpenLineage's listener for Spark (1.53, 43 MB) works with Spark 4.2 and Connect, but it names the folder to which
    # Spark writes, /clean/_aside, and cannot know that we move it from there.
    with ExitStack() as all_of_them:
        jobs = {one: all_of_them.enter_context(lineage.run(f"clean.{one}", lineage.raw(one))) for one in SOURCES}
        ledger = _clean_day(spark, lake, list(manifests))
        for source, job in jobs.items():
            job.read(lineage.raw(source), ledger.count(source=source))
            for table in WAREHOUSE:
                job.wrote(lineage.clean(table), ledger.count(source=source, table=table, outcome="clean"))
            job.wrote(lineage.clean("quarantine"), ledger.count(source=source, outcome="quarantined"))
    return ledger


def _clean_day(spark: SparkSession, lake: Lake, manifests: list[Manifest]) -> Ledger:
    from pyspark.sql import functions as F

    day = manifests[0].day
    # What Hive, Spark, DuckDB and pyarrow all read as the same moment.
    spark.conf.set("spark.sql.parquet.outputTimestampType", "TIMESTAMP_MICROS")
    found = sort(read(spark, manifests)).persist()
    try:
        names = {table: list(TABLES[table].names) for table in EUROS}
        worth = F.lit(None).cast("decimal(12,2)")
        for table, column in EUROS.items():
            value = F.get(F.col("values"), F.lit(names[table].index(column))).cast("decimal(12,2)")
            worth = F.when(F.col("table") == table, value).otherwise(worth)
        counted = found.groupBy("table", "source", "file", "outcome", "reason").agg(
            F.count("*").cast("int").alias("rows"), F.sum(worth).cast("decimal(14,2)").alias("euros")
        )
        ledger = Ledger(day, tuple(Entry(*row) for row in counted.collect()))
        parts = {
            table: found.where((F.col("table") == table) & (F.col("outcome") == "clean")).select(*typed(table))
            for table in WAREHOUSE
        }
        parts["quarantine"] = found.where("outcome = 'quarantined'").select(*QUARANTINE)
        parts["ledger"] = counted.select(*LEDGER)
        aside = f"{ZONE}/_aside/day={day}"
        lake.rm(aside, recursive=True, missing_ok=True)
        with ThreadPoolExecutor(AT_ONCE) as pool:
            writes = [pool.submit(part.write.parquet, f"{root(spark)}{aside}/{name}") for name, part in parts.items()]
        for write in writes:
            write.result()
    finally:
        found.unpersist()
    for name in parts:
        target = partition(name, day)
        lake.makedirs(f"{ZONE}/{name}", exist_ok=True)
        lake.rm(target, recursive=True, missing_ok=True)
        lake.mv(f"{aside}/{name}", target)
    lake.rm(aside, recursive=True)
    for statement in statements(day, root(spark)):
        spark.sql(statement)
    return ledger


QUARANTINE = {
    "table": "string",
    "source": "string",
    "file": "string",
    "line": "int",
    "reason": "string",
    "original": "binary",
}
LEDGER = {
    "table": "string",
    "source": "string",
    "file": "string",
    "outcome": "string",
    "reason": "string",
    "rows": "int",
    "euros": "decimal(14,2)",
}


def shapes() -> dict[str, dict[str, str]]:
    """Describe the tables of the clean zone: name -> column -> type."""
    own = {t: {c.name: HIVE[c.type] for c in TABLES[t].columns} | CAME_FROM for t in WAREHOUSE}
    return own | {"quarantine": QUARANTINE, "ledger": LEDGER}


def statements(day: date, at: str) -> list[str]:
    """Write Spark's statements that make a day known to Hive's metastore, in database `clean`; they may be run twice.

    Args:
        at: HDFS, as hdfs://host:port.
    """
    found = [f"create database if not exists clean location '{at}{ZONE}/_managed'"]
    for name, shape in shapes().items():
        columns = ", ".join(f"`{column}` {kind}" for column, kind in shape.items())
        folder = f"{at}{ZONE}/{name}"
        found += [
            f"create external table if not exists clean.{name} ({columns}) partitioned by (`{KEY}` string) "
            f"stored as parquet location '{folder}'",
            f"alter table clean.{name} add if not exists partition ({KEY}='{day}') "
            f"location '{at}{partition(name, day)}'",
            f"refresh table clean.{name}",  # the session may remember the files that were there before
        ]
    return found
