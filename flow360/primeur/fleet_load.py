"""The fleet's tables into MySQL: `python -m flow360.primeur.fleet_load`.

MySQL ends a transaction at each `create table`, so the tables are made first, empty, and all rows come in one
transaction with the note of what they are (table `loaded`). A load that was killed leaves no note, and the next one
begins again; with the same note there, it does nothing, and changes stay.
"""

from __future__ import annotations

import hashlib
import os
from functools import partial
from typing import Any

import pyarrow as pa
import pymysql
import typer
from pymysql.converters import escape_str
from pymysql.cursors import Cursor

from flow360.clients import mysql
from flow360.errors import ServiceError
from flow360.primeur.generate import table
from flow360.primeur.load import Force, Scale, say, stamp_of
from flow360.primeur.plan import Plan
from flow360.primeur.schema import FLEET, Table
from flow360.primeur.snapshot import seed_table

_LOCK = "flow360.fleet"  # two loads at a time wait for each other
_SECONDS = 60


def connect(**kw: Any) -> pymysql.Connection:
    """Open a connection to the fleet's database, as `clients.mysql`; FLEET_HOST names another host than 127.0.0.1."""
    return mysql(host=os.environ.get("FLEET_HOST", "127.0.0.1"), **kw)


def create(of: Table) -> str:
    """Write CREATE TABLE with types, keys, checks and what each column means."""
    lines = []
    for c in of.columns:
        null = "null default null" if c.nullable else "not null"
        unique, check = " unique" if c.unique else "", f" check ({c.name} {c.check})" if c.check else ""
        text = escape_str(c.text + (f" [{c.unit}]" if c.unit else ""))
        lines.append(f"{c.name} {c.mysql_type} {null}{unique} comment {text}{check}")
    lines.append(f"primary key ({', '.join(of.key)})")
    for c in of.columns:
        if c.references:
            parent, column = c.references.split(".")
            lines.append(f"foreign key ({c.name}) references {parent} ({column})")
    grain = escape_str(f"One row is {of.grain}.")
    return f"create table {of.name} (\n  " + ",\n  ".join(lines) + f"\n) comment {grain}"


SHAPE = hashlib.sha256("\n".join(map(create, FLEET.values())).encode()).hexdigest()[:12]
"""A short mark of the tables: it changes when one of their columns or keys does."""


def load(plan: Plan | None = None, force: bool = False) -> int:
    """Load the fleet.

    Args:
        plan: None loads the committed week, another plan is generated.
        force: load even when the same rows are there.

    Returns:
        The rows loaded; 0 when they were there.

    Raises:
        ServiceError: the server does not answer, or refused something; the tables hold all rows of before, or none.
    """
    stamp = stamp_of(plan, FLEET)
    try:
        with connect() as db, db.cursor() as cursor:
            cursor.execute("select get_lock(%s, %s)", (_LOCK, _SECONDS))
            if cursor.fetchone() != (1,):
                raise ServiceError(f"mysql: another load has been at work for {_SECONDS} s: try again")
            cursor.execute("create table if not exists loaded (stamp varchar(200), shape char(12))")
            cursor.execute("select stamp, shape from loaded")
            found = cursor.fetchone() or ("", "")
            if found == (stamp, SHAPE) and not force:
                return 0
            if found[1] != SHAPE:
                _make_tables(db, cursor)
            cursor.execute("delete from loaded")
            for name in reversed(FLEET):
                cursor.execute(f"delete from {name}")
            rows = sum(insert(cursor, name, seed_table(name) if plan is None else table(name, plan)) for name in FLEET)
            cursor.execute("insert into loaded values (%s, %s)", (stamp, SHAPE))
            db.commit()
            return rows
    except pymysql.Error as error:
        raise ServiceError(f"mysql could not be loaded: {error.args[-1]}") from None


def _make_tables(db: pymysql.Connection, cursor: Cursor) -> None:
    """Make new, empty tables; the note goes first, so that a load which is killed among them is begun again."""
    cursor.execute("delete from loaded")
    db.commit()
    for name in reversed(FLEET):
        cursor.execute(f"drop table if exists {name}")
    for one in FLEET.values():
        cursor.execute(create(one))


def insert(cursor: Cursor, name: str, data: pa.Table) -> int:
    """Insert rows into a table of the fleet; how many they are. The transaction is the caller's."""
    holes = ", ".join(["%s"] * len(data.column_names))
    command = f"insert into {name} ({', '.join(data.column_names)}) values ({holes})"
    cursor.executemany(command, [tuple(row.values()) for row in data.to_pylist()])
    return len(data)


def main(scale: Scale = None, force: Force = False) -> None:
    """Load the fleet's tables into MySQL."""
    say("mysql", partial(load, None if scale is None else Plan(scale=scale), force))


if __name__ == "__main__":
    typer.run(main)
