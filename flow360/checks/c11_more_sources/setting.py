"""What the checks of 11_more_sources share: a database in MySQL, a schema in PostgreSQL, collections in MongoDB."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from flow360 import clients
from flow360.checks.compare import Row
from flow360.ingestion import binlog

if TYPE_CHECKING:
    import pymysql
    from psycopg import Connection
    from pymongo.collection import Collection

NAME = "lab11"
"""MySQL's database and PostgreSQL's schema; the collections of `workshop` begin with it."""


@contextmanager
def in_mysql(*tables: str) -> Iterator[pymysql.Connection]:
    """Make the database with these tables (`create table` commands); it is gone afterwards.

    Sessions that were left open in it are ended first: one that has not committed would keep the tables locked.
    """
    with binlog.root(autocommit=True) as db, db.cursor() as cursor:
        _end_others(db)
        cursor.execute("set lock_wait_timeout = 5")
        cursor.execute(f"drop database if exists {NAME}")
        cursor.execute(f"create database {NAME}")
        db.select_db(NAME)
        for table in tables:
            cursor.execute(table)
        try:
            yield db
        finally:
            _end_others(db)
            cursor.execute(f"drop database if exists {NAME}")


def _end_others(db: pymysql.Connection) -> None:
    import pymysql

    with db.cursor() as cursor:
        cursor.execute("select id from information_schema.processlist where db = %s and id <> connection_id()", [NAME])
        for (number,) in cursor.fetchall():
            try:
                cursor.execute("kill connection %s", [number])
            except pymysql.OperationalError:
                continue  # it has ended by itself


def fleet(**kw: Any) -> pymysql.Connection:
    """Open a session in the database, as a learner's function gets it: with little patience for locks."""
    db = binlog.root(database=NAME, **kw)
    with db.cursor() as cursor:
        cursor.execute("set innodb_lock_wait_timeout = 4")
    return db


@contextmanager
def in_postgres(which: str, *commands: str) -> Iterator[Connection]:
    """Make the schema in "source" or "warehouse" by these commands, in a transaction that is rolled back."""
    with clients.postgres(which) as db:
        db.execute("set local lock_timeout = '5s'")
        db.execute("set local statement_timeout = '8s'")
        db.execute(f"drop schema if exists {NAME} cascade")
        db.execute(f"create schema {NAME}")
        db.execute(f"set local search_path = {NAME}")
        for command in commands:
            db.execute(command)
        try:
            yield db
        finally:
            db.rollback()


def rows_of(db: Any, query: str) -> list[Row]:
    """Read rows as dicts, by either driver."""
    with db.cursor() as cursor:
        cursor.execute(query)
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def insert(db: Any, table: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Put rows into a table, by either driver."""
    if rows:
        holes = ", ".join(["%s"] * len(rows[0]))
        with db.cursor() as cursor:
            cursor.executemany(
                f"insert into {table} ({', '.join(rows[0])}) values ({holes})", [tuple(row.values()) for row in rows]
            )


@contextmanager
def collections(*names: str) -> Iterator[list[Collection]]:
    """Make empty collections of `workshop` whose names begin with `lab11_`; they are gone afterwards."""
    with clients.mongodb() as client:
        found = [client.workshop[f"{NAME}_{name}"] for name in names]
        for one in found:
            one.drop()
            client.workshop.create_collection(one.name)
        try:
            yield found
        finally:
            for one in found:
                one.drop()
