"""What a connector needs of the database whose changes it reads: a module for each kind of database.

A connector's class says which kind it is. `flow360.ingestion.connect`, which knows nothing of databases, takes the
module from `of` and uses what a `Source` has.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol

import psycopg
import pymysql
from pymongo.errors import PyMongoError

from flow360.errors import Exit, FlowError
from flow360.ingestion.sources import mongodb, mysql, postgres
from flow360.settings import settings

ERRORS = (psycopg.Error, pymysql.Error, PyMongoError)
"""What the databases' drivers raise."""
_KINDS = {
    "io.debezium.connector.postgresql.PostgresConnector": postgres,
    "io.debezium.connector.mysql.MySqlConnector": mysql,
    mysql.MARIADB: mysql,
    "io.debezium.connector.mongodb.MongoDbConnector": mongodb,
}


class Source(Protocol):
    """A kind of database. `config` is a connector's configuration, `place` how far it had come, as Connect noted it."""

    def connect(self) -> AbstractContextManager[Any]:
        """Open the database as somebody who may prepare it; what was done is kept at the end of the block."""

    def fitting(self, db: Any, config: Mapping[str, str]) -> dict[str, str]:
        """Return the configuration as the server that answers needs it."""

    def prepare(self, db: Any, config: Mapping[str, str], password: str) -> None:
        """Let the connector's user read the log and the captured tables, and nothing else. It can be repeated."""

    def is_read(self, db: Any, config: Mapping[str, str]) -> bool:
        """Say whether the connector reads the log at this moment."""

    def lost(self, db: Any, config: Mapping[str, str], place: Mapping[str, Any] | None) -> str:
        """Say why a connector at rest cannot go on from its place, and clear the way to begin again; "" if it can."""

    def keeps(self, config: Mapping[str, str]) -> str:
        """Name what the database keeps for the connector, "" if that is nothing."""

    def forget(self, config: Mapping[str, str]) -> bool:
        """Remove what the database keeps for a connector that is gone; whether there was something."""


def of(config: Mapping[str, str]) -> Source:
    """Return the kind of database that a connector reads.

    Raises:
        FlowError: there is no module for it.
    """
    kind = config.get("connector.class", "")
    if kind not in _KINDS:
        raise FlowError(f"connector.class {kind!r}: known are {', '.join(_KINDS)}", Exit.USAGE)
    return _KINDS[kind]


def password_of(config: Mapping[str, str]) -> str:
    """Look up the password that a connector's configuration names: `${env:SHOP_CAPTURE_PASSWORD}`.

    Raises:
        FlowError: it names none that is generated.
    """
    key = next((key for key in ("database.password", "mongodb.password") if key in config), "a password")
    named = re.fullmatch(r"\$\{env:([A-Z]+_CAPTURE_PASSWORD)\}", config.get(key, ""))
    found = getattr(settings(), named[1].lower(), "") if named else ""
    if not found:
        raise FlowError(f"{key}: it is to be ${{env:NAME_CAPTURE_PASSWORD}}, a generated one", Exit.USAGE)
    return found
