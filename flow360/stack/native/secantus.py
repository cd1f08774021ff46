"""SecantusDB as a plain process, in MongoDB's place: how its data folder is made, with its accounts."""

from __future__ import annotations

import shutil
from pathlib import Path

from flow360.errors import ServiceError
from flow360.settings import settings
from flow360.stack.model import Service

OWNED = ("catalogue", "workshop")
"""The databases of the course's own user, as stack/mongodb/accounts.js has them: the catalogue's, and one in which
lessons and labs try things."""


def make(service: Service, data: Path, _command: list[str]) -> None:
    """Make a folder for the documents that is this user's alone, and the accounts in it, all or nothing.

    Without the server: it could make accounts only while it lets everybody in.
    """
    if data.exists():
        return
    try:
        from secantus.storage import Storage
    except ImportError:
        raise ServiceError(f"{service.name}: secantusdb is not installed: run ./scripts/setup") from None
    part = data.with_name(f"{data.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True, mode=0o700)
    s, name = settings(), service.native.database
    rights = [{"role": role, "db": db} for db in OWNED for role in ("readWrite", "dbAdmin")]
    accounts = {
        "root": (getattr(s, f"{name}_root_password"), [{"role": "root", "db": "admin"}]),
        getattr(s, f"{name}_user"): (getattr(s, f"{name}_password"), rights),
    }
    storage = Storage(str(part), ttl_sweep_seconds=0, cache_size="16M")
    try:
        for user, (password, roles) in accounts.items():
            _add(storage, user, password, roles)
    finally:
        storage.close()
    part.replace(data)


def _add(storage, user: str, password: str, roles: list[dict[str, str]]) -> None:  # noqa: ANN001 - secantus's Storage
    """Add an account, in the shape in which the command `createUser` keeps it."""
    from secantus.auth import SCRAM_SHA_256, derive_credentials

    record = {
        "_id": f"admin.{user}",
        "user": user,
        "db": "admin",
        "credentials": derive_credentials(password, mechanism=SCRAM_SHA_256, username=user).to_doc(),
        "roles": roles,
        "mechanisms": [SCRAM_SHA_256],
    }
    storage.add_user("admin", user, record)
