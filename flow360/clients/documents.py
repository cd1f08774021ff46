"""MongoDB by PyMongo."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flow360.clients import reach
from flow360.clients.databases import refused
from flow360.errors import ServiceError
from flow360.settings import settings

if TYPE_CHECKING:
    from pymongo import MongoClient

DENIED = 18
"""The number of MongoDB's error for a name or a password that is not right."""


def mongodb(**kw: Any) -> MongoClient:
    """Open a client of MongoDB, as the course's own user, who owns `catalogue` and `workshop`.

    Used as `with mongodb() as client: client.catalogue.sheets.find_one()` it closes at the end of the block. A write
    returns when it is on the disk (w=majority, j=true), and moments come back with their zone, UTC.

    Args:
        kw: anything that `MongoClient` takes, e.g. username="root", w=1, journal=False; it wins over the defaults
            (5 s to connect, 120 s for an answer).

    Raises:
        FlowError: the server is down, is still starting, or refuses the password of `.env`.
    """
    from pymongo import MongoClient, errors

    s = settings()
    wait = reach.CONNECT_SECONDS * 1000
    defaults: dict[str, Any] = {
        "host": "127.0.0.1",
        "port": s.catalogue_port,
        "username": s.catalogue_user,
        "password": s.catalogue_password,
        "directConnection": True,
        "serverSelectionTimeoutMS": wait,
        "connectTimeoutMS": wait,
        "socketTimeoutMS": 120_000,
        "w": "majority",
        "journal": True,
        "tz_aware": True,
        "appname": "flow360",
    }
    if kw.get("host", "127.0.0.1") == "127.0.0.1":
        reach.require("mongodb")  # the driver would go on trying
    client: MongoClient = MongoClient(**{**defaults, **kw})
    try:
        client.admin.command("ping")
    except errors.PyMongoError as error:
        client.close()
        if isinstance(error, errors.OperationFailure):
            raise refused("mongodb") if error.code == DENIED else ServiceError(f"mongodb: {error}") from None
        raise reach.is_down("mongodb", str(error).partition(",")[0]) from None
    return client
