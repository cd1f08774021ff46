"""What is delivered to the warehouse: schema `lake`, the tables that dbt reads when it is built with channel "lake".

    lake.orders_by_day    each order as each day brought it: `_day`, and `_source`, which had it
    lake.orders           a view: each order once, as it was brought last

`from_lake` brings a day out of the clean zone. `from_shop` brings the same rows where there is no lake: out of the shop
itself, by the same extracts, held against the same contracts. Both replace a day whole, in one transaction. `fill`
brings all days of the shop, for a chapter that begins without the layers before it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from psycopg import sql

from flow360 import clients
from flow360.errors import FlowError
from flow360.monitoring import lineage
from flow360.primeur.copying import copy_table
from flow360.primeur.intake import rows
from flow360.primeur.schema import TABLES, WAREHOUSE, Table
from flow360.primeur.shop import HAPPENED, OF_THE_DAY, extracts, shop_contract

if TYPE_CHECKING:
    import pandas as pd
    import psycopg
    import pyarrow as pa
    from pyspark.sql import SparkSession

SCHEMA = "lake"
DAYS = f"""
    select (min(moment) at time zone 'Europe/Paris')::date, (max(moment) at time zone 'Europe/Paris')::date
    from ({HAPPENED}) as happened
"""
"""The first and the last day on which something happened in the shop."""
_LOCK = 360_002
"""Two days that come in at the same moment wait for each other."""


def create(db: psycopg.Connection) -> None:
    """Make the schema, its tables and its views, where they are not there yet. The caller commits."""
    db.execute("select pg_advisory_xact_lock(%s)", [_LOCK])
    db.execute(f"create schema if not exists {SCHEMA}")
    db.execute(f"comment on schema {SCHEMA} is 'What the lake delivered, day by day: flow360/processing/feed.py.'")
    for name in WAREHOUSE:
        for command in _definition(TABLES[name]):
            db.execute(command)


def _definition(table: Table) -> list[str]:
    name, keys = f"{SCHEMA}.{table.name}", ", ".join(table.key)
    columns = [f"{c.name} {c.sql_type}" + ("" if c.nullable else " not null") for c in table.columns]
    columns += ["_day date not null", "_source text not null", f"primary key ({keys}, _day)"]
    # What the shop says is right, whenever it said so; of what it said, the last word.
    last = f"select distinct on ({keys}) * from {name}_by_day order by {keys}, (_source = 'shop') desc, _day desc"
    if table.name not in OF_THE_DAY:  # each day brings all of it: what the last one did not bring is not any more
        last = f"select * from {name}_by_day where _day = (select max(_day) from {name}_by_day)"
    return [
        f"create table if not exists {name}_by_day ({', '.join(columns)})",
        f"create or replace view {name} as select {', '.join(table.names)} from ({last}) as latest",
    ]


def demand(db: psycopg.Connection) -> None:
    """Raise unless something was delivered once.

    Raises:
        FlowError: schema `lake` is not there; the line says who brings it.
    """
    if db.execute(f"select to_regclass('{SCHEMA}.{WAREHOUSE[-1]}')").fetchone()[0] is None:
        fix = "run nightly_lake in Airflow, or flow360.processing.feed.fill() without a lake"
        raise FlowError(f"the warehouse has no schema {SCHEMA}, nothing was delivered yet: {fix}")


def replace_day(db: psycopg.Connection, day: date, found: Mapping[str, pa.Table]) -> dict[str, int]:
    """Put a day's rows of each table in the place of those that were there for it. The caller commits.

    Args:
        found: table -> rows with the table's columns and `_source`.

    Returns:
        Table -> rows.
    """
    import pyarrow as pa

    create(db)
    done = {}
    for name, data in found.items():
        target = f"{SCHEMA}.{name}_by_day"
        db.execute(sql.SQL("delete from {} where _day = %s").format(sql.Identifier(*target.split("."))), [day])
        done[name] = copy_table(db, target, data.append_column("_day", pa.array([day] * len(data), pa.date32())))
    return done


def from_lake(db: psycopg.Connection, spark: SparkSession, day: date) -> dict[str, int]:
    """Bring a day of the clean zone into the warehouse. The caller commits.

    Raises:
        FlowError: the clean zone does not hold this day.
    """
    found = {}
    for name in WAREHOUSE:
        spark.catalog.refreshTable(f"clean.{name}")  # another session may have replaced its files
        frame = spark.table(f"clean.{name}").where(f"business_day = '{day}'")
        data = frame.select(*TABLES[name].names, "_source").toArrow()
        found[name] = data.cast(_shape(TABLES[name]))
    if not any(map(len, found.values())):
        raise FlowError(f"the clean zone holds nothing of {day}: run nightly_lake for it")
    with lineage.run("feed.lake", map(lineage.clean, WAREHOUSE)) as job:
        return _noted(job, replace_day(db, day, found))


def _noted(job: lineage.Run, rows: dict[str, int]) -> dict[str, int]:
    """Count what was brought, under the name by which it is read."""
    for name, count in rows.items():
        job.wrote(lineage.warehouse(f"{SCHEMA}.{name}"), count)
    return rows


def from_shop(db: psycopg.Connection, shop: psycopg.Connection, day: date) -> dict[str, int]:
    """Bring a day of the shop into the warehouse, where no lake has done it. The caller commits.

    Raises:
        FlowError: a row of the shop does not keep its contract; nothing of the day was brought.
    """
    found = {}
    for extract in extracts(shop, day):
        promised = shop_contract(extract.table)
        right: list[dict[str, Any]] = []
        for record in rows(promised, extract.data):
            if record.right is None:
                raise FlowError(f"{extract.table} of the shop, {day}, line {record.line}: {record.defect}")
            right.append(record.right)
        found[extract.table] = table_of(extract.table, right)
    with lineage.run("feed.shop", map(lineage.shop, WAREHOUSE)) as job:
        return _noted(job, replace_day(db, day, found))


def fill() -> pd.DataFrame:
    """Bring all days of the shop into the warehouse: for the chapters that have no lake. It may be repeated.

    Returns:
        One row a table: table, rows (as its view shows them), by_day (as the days brought them).

    Raises:
        FlowError: the shop or the warehouse is down, or a row of the shop does not keep its contract; the days before
            it are there.
    """
    import pandas as pd

    with clients.postgres("source") as shop, clients.postgres() as warehouse:
        first, last = shop.execute(DAYS).fetchone()
        shop.commit()  # `extracts` begins a transaction of its own
        if first is None:
            raise FlowError("the shop has no orders: flow360 up primeur-load loads them")
        for number in range((last - first).days + 1):
            from_shop(warehouse, shop, first + timedelta(days=number))
            shop.commit()
            warehouse.commit()
        query = "select %s, (select count(*) from {0}), (select count(*) from {0}_by_day)"
        rows = [warehouse.execute(query.format(f"{SCHEMA}.{name}"), [name]).fetchone() for name in WAREHOUSE]
    return pd.DataFrame(rows, columns=["table", "rows", "by_day"])


def table_of(name: str, right: list[dict[str, Any]]) -> pa.Table:
    """Make an Arrow table, of the types that the schema says and with `_source`, of right rows of the shop."""
    import pyarrow as pa

    made = {"_source": lambda row: "shop"}
    for column in TABLES[name].columns:
        # The judge reads numbers to the last digit, as Decimal; the shop's own double is the one nearest to it.
        kind = float if column.type == pa.float64() else None
        made[column.name] = partial(_value, column.name, kind)
    shape = _shape(TABLES[name])
    return pa.Table.from_arrays([pa.array(list(map(made[f.name], right)), f.type) for f in shape], schema=shape)


def _value(name: str, kind: Callable[[Any], Any] | None, row: Mapping[str, Any]) -> Any:
    value = row.get(name)
    return value if kind is None or value is None else kind(value)


def _shape(table: Table) -> pa.Schema:
    import pyarrow as pa

    return table.arrow.append(pa.field("_source", pa.string(), False))
