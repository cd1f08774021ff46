"""Loads that can be repeated: the rows of one interval replace the rows of the same interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import psycopg
from psycopg import sql


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
