"""Loads that can be repeated: the rows of one interval replace the rows of the same interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import sql

if TYPE_CHECKING:
    from pendulum import DateTime


def interval_of(dag_run: Any, unit: str, zone: str = "UTC") -> tuple[DateTime, DateTime]:
    """Return the data interval [start, end) of a run.

    A run that was started without a logical date, as Airflow's own client starts one, has none. It gets the last whole
    hour or day before it, which is what the schedule would give to a run of that moment.

    Args:
        dag_run: what a task gets under this name.
        unit: "hour" or "day", the schedule's.
        zone: where a day begins at midnight.
    """
    import pendulum

    if dag_run.data_interval_start is None:
        end = pendulum.instance(dag_run.run_after).in_timezone(zone).start_of(unit)
        return end.subtract(**{f"{unit}s": 1}), end
    start, end = dag_run.data_interval_start, dag_run.data_interval_end
    return pendulum.instance(start).in_timezone(zone), pendulum.instance(end).in_timezone(zone)


def day_of(dag_run: Any) -> str:
    """Return the day in Paris that a run is about, as 2026-05-07."""
    return interval_of(dag_run, "day", "Europe/Paris")[0].to_date_string()


def create(db: psycopg.Connection, tables: str) -> None:
    """Run `create table if not exists ...` and commit. Two at the same moment would meet in PostgreSQL's catalogue."""
    db.execute("select pg_advisory_xact_lock(hashtext('staging'))")
    db.execute(tables)
    db.commit()


# [START replace_interval]
def replace_interval(
    source: psycopg.Connection,
    target: psycopg.Connection,
    query: str,
    table: str,
    column: str,
    start: datetime,
    end: datetime,
) -> int:
    """Bring the rows of [start, end) from one database into a table of another, in one transaction of the target.

    Args:
        query: a select over the source with `%(start)s` and `%(end)s`; its columns are the table's.
        table: "schema.table" of the target.
        column: the moment by which a row belongs to an interval. `start` is in, `end` is not, so that intervals tile.

    Returns:
        The rows that the interval has now. The caller commits.
    """
    name = sql.Identifier(*table.split("."))
    within = {"start": start, "end": end}
    # Two runs of the same interval must not both delete first and both insert then.
    target.execute("select pg_advisory_xact_lock(hashtext(%s))", (table,))
    target.execute(
        sql.SQL("delete from {} where {} >= %(start)s and {} < %(end)s").format(name, *[sql.Identifier(column)] * 2),
        within,
    )
    select = sql.SQL("copy ({}) to stdout").format(sql.SQL(query))
    into = sql.SQL("copy {} from stdin").format(name)
    with source.cursor() as read, target.cursor() as write:
        with read.copy(select, within) as rows, write.copy(into) as copy:
            for block in rows:
                copy.write(block)
        return write.rowcount


# [END replace_interval]


def replace_day(db: psycopg.Connection, table: str, day: str, rows: Sequence[Mapping[str, Any]]) -> int:
    """Replace what a table with a column `day` holds for one day. The caller commits.

    Args:
        rows: column -> value without `day`, all with the same columns; none leaves the day empty.
    """
    name = sql.Identifier(*table.split("."))
    db.execute(sql.SQL("delete from {} where day = %s").format(name), (day,))
    if rows:
        columns = ["day", *rows[0]]
        insert = sql.SQL("insert into {} ({}) values ({})").format(
            name, sql.SQL(", ").join(map(sql.Identifier, columns)), sql.SQL(", ").join(sql.Placeholder() * len(columns))
        )
        with db.cursor() as cursor:
            cursor.executemany(insert, [[day, *row.values()] for row in rows])
    return len(rows)
