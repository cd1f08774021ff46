"""MySQL's log of changes, the binlog: where it ends, and what has been written to it since a place.

since = binlog.place()
...
for event in binlog.events(since, "fleet"):
    print(event.place, event.kind, event.table, event.rows)  # each row (before, after)
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from flow360 import clients
from flow360.settings import settings

Place = tuple[str, int]
"""A file of the log, and the byte in it from which on to read."""

Row = dict[str, Any]
_MYSQL, _MARIADB = "show binary log status", "show binlog status"


@dataclass(frozen=True)
class Event:
    """One event.

    Attributes:
        place: where to go on after it; inside a transaction that of its beginning, to which a reader must go back.
        kind: "begin", "write", "update", "delete", "commit", or "statement" (a `create table`, say).
        table: of which the rows are, or "".
        rows: each as it was and as it is: (None, row) of a write, (row, None) of a delete.
        text: the statement, or the transaction's number (its GTID), or "".
    """

    place: Place
    kind: str
    table: str = ""
    rows: tuple[tuple[Row | None, Row | None], ...] = ()
    text: str = ""


def root(**kw: Any) -> Any:
    """Connect as the server's root, who may make databases and read the log; `kw` as of `clients.mysql`."""
    defaults = {"user": "root", "password": settings().fleet_root_password, "database": None}
    return clients.mysql(**{**defaults, **kw})


def is_mariadb(cursor: Any) -> bool:
    """Say whether MariaDB answers in MySQL's place."""
    cursor.execute("select version()")
    return "MariaDB" in cursor.fetchone()[0]


def place() -> Place:
    """Return where the log ends at this moment."""
    with root() as db, db.cursor() as cursor:
        cursor.execute(_MARIADB if is_mariadb(cursor) else _MYSQL)
        file, position, *_ = cursor.fetchone()
        return file, position


def events(since: Place, *schemas: str) -> Iterator[Event]:
    """Read what stands in the log from a place on until its present end, in its order.

    Args:
        since: a place at which a transaction ends, as `place()` gives it and an event of kind "commit".
        schemas: the databases whose rows and statements are wanted.

    Raises:
        pymysql.err.OperationalError: 1236, the server no longer has the file.
    """
    from pymysqlreplication import BinLogStreamReader
    from pymysqlreplication.row_event import RowsEvent

    server = {"host": "127.0.0.1", "port": settings().fleet_port, "connect_timeout": 5, "read_timeout": 60}
    stream = BinLogStreamReader(
        connection_settings={**server, "user": "root", "passwd": settings().fleet_root_password},
        server_id=random.SystemRandom().randrange(10_000, 2**31),  # each reader needs one of its own
        log_file=since[0],
        log_pos=since[1],
        resume_stream=True,
        blocking=False,
        only_schemas=list(schemas),
    )
    end = since
    try:
        for event in stream:
            name = type(event).__name__
            if name in ("RotateEvent", "FormatDescriptionEvent"):
                continue
            if isinstance(event, RowsEvent):
                if event.schema in schemas:
                    kind = name.removesuffix("RowsEvent").lower()
                    yield Event(end, kind, event.table, tuple(_before_and_after(kind, row) for row in event.rows))
            elif name in ("GtidEvent", "MariadbGtidEvent"):
                yield Event(end, "begin", text=event.gtid)
            elif name == "XidEvent":
                end = (stream.log_file, stream.log_pos)
                yield Event(end, "commit")
            elif name == "QueryEvent" and event.query.upper() != "BEGIN":
                end = (stream.log_file, stream.log_pos)
                if event.schema.decode() in schemas:
                    yield Event(end, "statement", text=event.query)
    finally:
        stream.close()


def _before_and_after(kind: str, row: Row) -> tuple[Row | None, Row | None]:
    if kind == "update":
        return row["before_values"], row["after_values"]
    return (row["values"], None) if kind == "delete" else (None, row["values"])
