"""MongoDB, and SecantusDB in its place: an account that may read the captured database and its changes.

A connector's place is a token, by which a stream of changes goes on behind the last one that was read. The server
removes old changes whether they were read or not, so it is asked whether it still knows the token. And the account is
the mark that a connector has begun on this very server: one that was made again may take another's token for its own.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import bson
from pymongo import MongoClient, errors

from flow360.primeur import catalogue_load
from flow360.settings import settings

ACCOUNTS = "admin"
"""The database in which the server keeps its accounts."""


@contextmanager
def connect() -> Iterator[MongoClient]:
    """Open the catalogue's server as root; each command is kept at once."""
    with catalogue_load.connect(username="root", password=settings().catalogue_root_password) as client:
        yield client


def fitting(_db: MongoClient, config: Mapping[str, str]) -> dict[str, str]:
    """Return the configuration as it is: the name of the replica set comes with the address."""
    return dict(config)


def prepare(db: MongoClient, config: Mapping[str, str], password: str) -> None:
    """Make the account, or give it its password again: it reads the captured database, and nothing else.

    Debezium also asks which databases there are and how the server is, which is `clusterMonitor`'s to see.
    """
    roles = [{"role": "read", "db": config["capture.target"]}, {"role": "clusterMonitor", "db": ACCOUNTS}]
    command = "updateUser" if _account(db, config) else "createUser"
    db[ACCOUNTS].command(command, config["mongodb.user"], pwd=password, roles=roles)


def is_read(db: MongoClient, config: Mapping[str, str]) -> bool:
    """Say whether the account waits for more of something that it reads."""
    return any(
        one.get("op", "").lower() == "getmore"
        and config["mongodb.user"] in [user["user"] for user in one.get("effectiveUsers", ())]
        for one in db.admin.command("currentOp", True)["inprog"]
    )


def lost(db: MongoClient, config: Mapping[str, str], place: Mapping[str, Any] | None) -> str:
    """Say why the server does not know what comes after a place: it is another one, or it has removed it."""
    if not _account(db, config):
        return "this server was never captured"
    if not place or not (token := place.get("resume_token")):
        return "there is no note of what was read"
    try:
        with db[config["capture.target"]].watch(resume_after=bson.decode(b64decode(token))):
            return ""
    except errors.OperationFailure as error:
        return f"the server does not know what comes after the last change: {str(error).partition(', full error')[0]}"


def keeps(_config: Mapping[str, str]) -> str:
    """Name nothing: the server holds no place, and the account may stay."""
    return ""


def forget(_config: Mapping[str, str]) -> bool:
    """Remove nothing."""
    return False


def _account(db: MongoClient, config: Mapping[str, str]) -> bool:
    """Say whether the connector's account is there."""
    return bool(db[ACCOUNTS].command("usersInfo", config["mongodb.user"])["users"])
