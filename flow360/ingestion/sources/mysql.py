"""MySQL, and MariaDB in its place: a user who may read the log of changes (the binlog) and the captured tables.

The server keeps nothing for a connector: it removes old files of its log whether they were read or not. So a place is
held against the files that there are, and the user is the mark that a connector has begun on this very server: one that
was made again may number its files and transactions just as the one before did.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from pymysql.cursors import Cursor

from flow360.ingestion.binlog import is_mariadb
from flow360.primeur import fleet_load
from flow360.settings import settings

MARIADB = "io.debezium.connector.mariadb.MariaDbConnector"


@contextmanager
def connect() -> Iterator[Cursor]:
    """Open the fleet's server as root; each statement is kept at once, and none of them stands in the binlog."""
    with fleet_load.connect(user="root", password=settings().fleet_root_password) as db, db.cursor() as cursor:
        cursor.execute("set session sql_log_bin = 0")  # a statement there could quote a password
        yield cursor


def fitting(db: Cursor, config: Mapping[str, str]) -> dict[str, str]:
    """Put in the connector of the server that answers: MariaDB has one of its own."""
    return {**config, "connector.class": MARIADB} if is_mariadb(db) else dict(config)


def prepare(db: Cursor, config: Mapping[str, str], password: str) -> None:
    """Make the user, give it its password, the log and the captured tables, and take back what is no longer listed.

    And `reload`: while it notes where the log stands and begins its copy, nobody may commit. A row that came between
    could be in the log before that place, and in the tables after the copy, and be missed.
    """
    name, tables = config["database.user"], config["table.include.list"].split(",")
    db.execute("create user if not exists %s identified by %s", [name, password])
    db.execute("alter user %s identified by %s", [name, password])
    db.execute(
        "select concat(table_schema, '.', table_name) from information_schema.table_privileges where grantee = %s",
        [f"'{name}'@'%'"],
    )
    for table in {row[0] for row in db.fetchall()} - set(tables):
        db.execute(f"revoke all privileges on {_quoted(table)} from %s", [name])
    db.execute("grant reload, replication slave, replication client on *.* to %s", [name])
    for table in tables:
        db.execute(f"grant select on {_quoted(table)} to %s", [name])


def is_read(db: Cursor, config: Mapping[str, str]) -> bool:
    """Say whether the user reads the binlog."""
    query = "select 1 from information_schema.processlist where user = %s and command like 'Binlog Dump%%'"
    return db.execute(query, [config["database.user"]]) > 0


def lost(db: Cursor, config: Mapping[str, str], place: Mapping[str, Any] | None) -> str:
    """Say why the binlog does not hold what comes after a place: it is another server, or the file is gone."""
    if not db.execute("select 1 from mysql.user where user = %s", [config["database.user"]]):
        return "this server was never captured"
    if not place:
        return "there is no note of what was read"
    db.execute("show binary logs")
    sizes = {name: size for name, size, *_ in db.fetchall()}
    if place["pos"] <= sizes.get(place["file"], -1):
        return ""
    return f"the binlog no longer holds what comes after {place['file']}, {place['pos']}"


def keeps(_config: Mapping[str, str]) -> str:
    """Name nothing: there is no slot, and the user may stay."""
    return ""


def forget(_config: Mapping[str, str]) -> bool:
    """Remove nothing."""
    return False


def _quoted(name: str) -> str:
    return ".".join(f"`{part}`" for part in name.split("."))
