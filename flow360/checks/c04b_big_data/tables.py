"""The tables of the lab: Parquet files that Spark and the check both read, and rows that a check adds for a while."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from flow360 import clients
from flow360.checks.compare import Row, expect_rows, fingerprint_files
from flow360.checks.verdict import NotYet, limited
from flow360.files import write
from flow360.primeur.schema import TABLES as SCHEMA
from flow360.settings import GENERATED

LAKE = GENERATED / "04b-lab"
GUEST = 1001
TABLES = ("orders", "order_lines", "customers", "products", "deliveries", "weather")
_HIDDEN = "hidden.parquet"
_GIVEN = "given.json"
_PLANS = "spark.connect.session.planCache.enabled"  # a plan that is remembered remembers its files


def lake() -> Path:
    """Return the folder of the lab's tables (40,000 orders; Parquet files), written at the first call."""
    for name in TABLES:
        if not _is_given(name):
            _write(name)
    return LAKE


def _is_given(name: str) -> bool:
    """Say whether a table's files are those that were given; what a check that was cut off left is taken away first."""
    folder, record = LAKE / name, LAKE / f".{name}.{_GIVEN}"
    (folder / _HIDDEN).unlink(missing_ok=True)
    if not folder.is_dir() or not record.exists():
        return False
    files = (path for path in folder.rglob("*") if path.is_file())
    return fingerprint_files(files) == json.loads(record.read_text("utf-8"))


def _write(name: str) -> None:
    import pyarrow.parquet as pq

    from flow360.primeur import generate
    from flow360.primeur.plan import Plan

    folder, part = LAKE / name, LAKE / f".{name}"
    for old in (folder, part):
        shutil.rmtree(old, ignore_errors=True)
    part.mkdir(parents=True)
    for number, chunk in enumerate(generate.chunks(name, Plan(scale=0.05))):
        pq.write_table(chunk, part / f"part-{number:02}.parquet")
    write(LAKE / f".{name}.{_GIVEN}", json.dumps(fingerprint_files(part.iterdir())))
    part.rename(folder)


def expect_given(answer: str, *names: str) -> None:
    """Raise NotYet when the files of one of these tables are not those that were given; they are written again."""
    if changed := [name for name in names if not _is_given(name)]:
        lake()
        raise NotYet(
            f"{answer}: the files of {' and '.join(changed)} were changed: the tables of the lab are to be read. "
            "They are as they were now: run your cells again"
        )


def read(name: str) -> Any:
    """Read one of the lab's tables as a Spark DataFrame."""
    return clients.spark().read.parquet(str(lake() / name))


def guest_orders() -> Any:
    """Read the orders with 60 % of them under one customer number (1001), as a shop with guest orders has them."""
    from pyspark.sql import functions as F

    guest = F.when(F.col("order_id") % 10 < 6, GUEST).otherwise(F.col("customer_id"))
    return read("orders").withColumn("customer_id", guest)


@contextlib.contextmanager
def more_rows(tables: Mapping[str, Sequence[Row]]) -> Iterator[None]:
    """Add rows to some tables while the block runs; a DataFrame that asks these tables has them in its next answer.

    Args:
        tables: name -> rows; a column that a row does not name is null.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    spark = clients.spark()
    remembered = spark.conf.get(_PLANS, "true")
    added = [LAKE / name / _HIDDEN for name in tables]
    try:
        for name, path in zip(tables, added, strict=True):
            schema = pa.schema([field.with_nullable(True) for field in SCHEMA[name].arrow])
            pq.write_table(pa.Table.from_pylist(list(tables[name]), schema), path)
        spark.conf.set(_PLANS, "false")
        _refresh(spark, tables)
        yield
    finally:
        for path in added:
            path.unlink(missing_ok=True)
        _refresh(spark, tables)
        spark.conf.set(_PLANS, remembered)


def _refresh(spark: Any, names: Mapping[str, Any]) -> None:
    """Forget what is cached of the tables: it is computed again when it is asked for."""
    for name in names:
        spark.catalog.refreshByPath(str(LAKE / name))


def limited_on_spark(seconds: float, name: str, call: Callable[[], Any]) -> Any:
    """Limit a call that asks Spark by the session that lives; NotYet when it takes longer than `seconds`."""
    from pyspark.sql.connect.session import SparkSession

    session = clients.spark()

    def run() -> Any:
        SparkSession._set_default_and_active_session(session)  # the thread of `limited` has none of its own
        return call()

    return limited(run, seconds, name)()


def frame(name: str, value: Any) -> Any:
    """Take a Spark DataFrame of the session that lives."""
    from pyspark.sql import DataFrame
    from pyspark.sql.connect.dataframe import DataFrame as Remote

    if not isinstance(value, DataFrame | Remote):
        kind = f"one of {type(value).__module__.partition('.')[0]}" if hasattr(value, "columns") else repr(type(value))
        kind = type(value).__name__ if kind.startswith("<") else kind
        raise NotYet(f"{name}: expected a Spark DataFrame, found {kind}")
    if value.sparkSession.session_id != clients.spark().session_id:
        raise NotYet(
            f"{name}: it was made in a session that has ended (the driver was started again since): run its cells again"
        )
    return value


def expect_columns(name: str, found: Any, wanted: Mapping[str, tuple[str, ...]], only: bool = False) -> None:
    """Raise NotYet unless a Spark DataFrame has these columns, each of one of these kinds.

    Args:
        wanted: column -> the beginnings of the types that will do; the first one is named in the message.
        only: whether further columns are one too many.
    """
    kinds = dict(found.dtypes)
    missing = [column for column in wanted if column not in kinds]
    more = [column for column in kinds if column not in wanted] if only else []
    if missing or more:
        said = f"{missing[0]} is missing" if missing else f"{more[0]} is one too many"
        raise NotYet(f"{name}: expected the columns {', '.join(wanted)}; {said}")
    for column, types in wanted.items():
        if not kinds[column].startswith(types):
            raise NotYet(f"{name}: expected {types[0]} as the type of {column}, found {kinds[column]}")


WHOLE = ("bigint", "int", "smallint")
NUMBER = ("double", "decimal", "float", *WHOLE)
TEXT = ("string", "varchar", "char")


def duck(query: str, **tables: Any) -> list[Row]:
    """Query files or Arrow tables (by name) by DuckDB, an engine that shares nothing with Spark: the rows."""
    with ducks(**tables) as db:
        return db.sql(query).to_arrow_table().to_pylist()


@contextlib.contextmanager
def ducks(**tables: Any) -> Iterator[Any]:
    """Open a DuckDB in UTC that knows these Arrow tables."""
    import duckdb

    with duckdb.connect() as db:
        db.execute("set timezone = 'UTC'")
        for name, table in tables.items():
            db.register(name, table)
        yield db


def expect_same(name: str, *, found: str, expected: str, key: Sequence[str], why: str = "", **tables: Any) -> None:
    """Raise NotYet unless two queries of DuckDB give the same rows, each as often; both name the same columns."""
    with ducks(**tables) as db:
        ((differ,),) = db.execute(f"""
            with mine as ({found}), truth as ({expected})
            select (select count(*) from (from mine except all from truth))
                 + (select count(*) from (from truth except all from mine))
        """).fetchall()
        if differ:
            mine, truth = (db.sql(query).to_arrow_table().to_pylist() for query in (found, expected))
            expect_rows(name, found=mine, expected=truth, key=key, why=why)
            raise NotYet(f"{name}: {differ:,} rows differ" + (f": {why}" if why else ""))
