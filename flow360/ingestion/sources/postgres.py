"""PostgreSQL: a role that may read the log, a publication that names the tables, and a slot.

The slot is the database's own note of how far the log was read, and keeps what comes after. The connector makes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

import psycopg
from psycopg import sql

from flow360.primeur import load
from flow360.waiting import wait_for

SECONDS = 60


def connect() -> AbstractContextManager[psycopg.Connection]:
    """Open the shop's database as its owner; the block's end commits."""
    return load.connect("source")


def fitting(_db: psycopg.Connection, config: Mapping[str, str]) -> dict[str, str]:
    """Return the configuration as it is."""
    return dict(config)


def prepare(db: psycopg.Connection, config: Mapping[str, str], password: str) -> None:
    """Make the role, give it its password and the captured tables of `public`, and name these in the publication."""
    name = config["database.user"]
    role = sql.Identifier(name)
    verifier = db.pgconn.encrypt_password(password.encode(), name.encode(), b"scram-sha-256").decode()
    if not db.execute("select 1 from pg_roles where rolname = %s", [name]).fetchone():
        db.execute(sql.SQL("create role {} login replication").format(role))
    db.execute(sql.SQL("alter role {} password {}").format(role, sql.Literal(verifier)))
    db.execute(sql.SQL("revoke all on all tables in schema public from {}").format(role))
    publish(db, config)


# [START publish]
def publish(db: psycopg.Connection, config: Mapping[str, str]) -> None:
    """Let the connector's role read the captured tables, and name them, and no others, in its publication."""
    tables = [name.split(".") for name in config["table.include.list"].split(",")]
    role, publication = sql.Identifier(config["database.user"]), sql.Identifier(config["publication.name"])
    listed = sql.SQL(", ").join(sql.Identifier(*table) for table in tables)
    for schema in sorted({schema for schema, _ in tables}):
        db.execute(sql.SQL("grant usage on schema {} to {}").format(sql.Identifier(schema), role))
    db.execute(sql.SQL("grant select on {} to {}").format(listed, role))
    known = db.execute("select 1 from pg_publication where pubname = %s", [config["publication.name"]]).fetchone()
    command = "alter publication {} set table {}" if known else "create publication {} for table {}"
    db.execute(sql.SQL(command).format(publication, listed))


# [END publish]


def is_read(db: psycopg.Connection, config: Mapping[str, str]) -> bool:
    """Say whether somebody reads the slot."""
    query = "select active from pg_replication_slots where slot_name = %s"
    found = db.execute(query, [config["slot.name"]]).fetchone()
    return bool(found and found[0])


def lost(db: psycopg.Connection, config: Mapping[str, str], place: Mapping[str, Any] | None) -> str:
    """Say why the slot does not hold what comes after a place; it is dropped then, as a new one begins with all rows.

    It may be gone, have lost what was not read yet, or be younger than the place; after a reset of Kafka there is none.
    """
    name = config["slot.name"]
    _left(db, config)
    query = "select wal_status = 'lost', restart_lsn - '0/0' > %s from pg_replication_slots where slot_name = %s"
    found = db.execute(query, [place and place.get("lsn"), name]).fetchone()
    if not found:
        return f"there is no slot {name}"
    if found == (False, False):
        return ""
    _drop(db, name)
    has_lost, is_younger = found
    if has_lost:
        return f"the slot {name} has lost what was not read yet"
    return f"the slot {name} begins too late" if is_younger else "there is no note of what was read"


def keeps(config: Mapping[str, str]) -> str:
    """Name the slot, which goes with the publication."""
    return f"the slot {config['slot.name']}"


def forget(config: Mapping[str, str]) -> bool:
    """Drop the slot as soon as nobody reads it, and the publication; whether there was a slot."""
    with connect() as db:
        _left(db, config)
        dropped = _drop(db, config["slot.name"])
        db.execute(sql.SQL("drop publication if exists {}").format(sql.Identifier(config["publication.name"])))
    return dropped


def _left(db: psycopg.Connection, config: Mapping[str, str]) -> None:
    """Wait until nobody reads the slot."""
    wait_for(lambda: not is_read(db, config), SECONDS, f"the slot {config['slot.name']} to be left")


def _drop(db: psycopg.Connection, slot: str) -> bool:
    query = "select pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name = %s"
    return bool(db.execute(query, [slot]).rowcount)
