"""What the exercises of 09 begin with, and what their checks share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from flow360 import clients
from flow360.checks import liberal
from flow360.checks.verdict import NotYet
from flow360.clients.secrets import Denied, Expired, Missing, Sealed
from flow360.delivery import vaults
from flow360.errors import ServiceError
from flow360.settings import settings

LOGIN = "auth/approle/login"
ANY = """
path "secret/data/{under}*" {{ capabilities = ["create", "read", "update"] }}
path "secret/metadata/{under}*" {{ capabilities = ["read", "list"] }}
"""
DENIED = 'path "secret/*" { capabilities = ["deny"] }'


def prepare() -> None:
    """Make schema `lab` with the invoices, and PostgreSQL's role `lab_auditor`, who may read them and nothing else."""
    with clients.postgres() as db:
        db.execute("create schema if not exists lab")
        db.execute("create table if not exists lab.invoices (invoice_id int primary key, total_eur numeric(10, 2))")
        db.execute("create table if not exists lab.salaries (name text)")  # which nobody may read
        db.execute(
            "insert into lab.invoices select n, n * 1.15 from generate_series(1, 40) as n on conflict do nothing"
        )
        if not db.execute("select 1 from pg_roles where rolname = 'lab_auditor'").fetchone():
            db.execute("create role lab_auditor")
        db.execute("grant connect on database datawarehouse to lab_auditor")
        db.execute("grant usage on schema lab to lab_auditor")
        db.execute("grant select on lab.invoices to lab_auditor")
        db.execute("grant lab_auditor to vault with admin option")


@contextmanager
def refusals(name: str, what: str) -> Iterator[None]:
    """Take what Vault refuses in here for the answer's mistake, as long as Vault itself is well."""
    try:
        yield
    except (Denied, Missing) as error:
        raise NotYet(f"{name}: {what}: {error}") from None
    except ServiceError as error:
        if isinstance(error, Sealed | Expired) or not clients.answers("vault"):
            raise
        raise NotYet(f"{name}: {what}: {error}") from None


class Role:
    """An AppRole of our own, with its policy; both are gone after the block."""

    def __init__(self, vault: Any, name: str, policy: str, ttl: str = "10m") -> None:
        self.vault, self.name, self.since = vault, name, datetime.now(UTC)
        self._others = self._tokens()
        self.allow(policy)
        vault.auth.approle.create_or_update_approle(name, token_policies=[name], token_ttl=ttl, token_max_ttl=ttl)
        self.role_id = vault.auth.approle.read_role_id(name)["data"]["role_id"]
        self.secret_id = vault.auth.approle.generate_secret_id(name)["data"]["secret_id"]

    def allow(self, policy: str) -> None:
        self.vault.sys.create_or_update_acl_policy(self.name, policy)

    def client(self) -> Any:
        return clients.vault_at(settings().vault_url, self.role_id, self.secret_id)

    def revoke_tokens(self) -> None:
        """Revoke the tokens that were given out since the role was made (its own, where nobody else signs in)."""
        for one in self._tokens() - self._others:
            self.vault.sys.revoke_lease(f"{LOGIN}/{one}")

    def _tokens(self) -> set[str]:
        """List the leases of all tokens that AppRoles have."""
        try:
            return set(self.vault.sys.list_leases(LOGIN)["data"]["keys"])
        except Missing:
            return set()

    def logins(self) -> int:
        """Count how often somebody has tried to sign in as this role, by the audit log."""
        hashed = self.vault.sys.calculate_hash("file", self.role_id)["data"]["hash"]
        return sum(
            one["type"] == "request"
            and one["request"]["path"] == LOGIN
            and one["request"].get("data", {}).get("role_id") == hashed
            for one in vaults.records(self.since)
        )

    def __enter__(self) -> Role:
        return self

    def __exit__(self, *_: Any) -> None:
        self.vault.auth.approle.delete_role(self.name)
        self.vault.sys.delete_acl_policy(self.name)


@contextmanager
def forgotten(vault: Any, *paths: str) -> Iterator[None]:
    """Leave nothing under these paths after the block."""
    try:
        yield
    finally:
        for path in paths:
            vault.secrets.kv.v2.delete_metadata_and_all_versions(path)


def at() -> dict[str, Any]:
    """Return where the warehouse is, for somebody else than us: psycopg's keywords without a user."""
    return {
        "host": "127.0.0.1",
        "port": clients.port_of("postgres-dwh"),
        "dbname": settings().postgres_dwh_db,
        "connect_timeout": 5,
    }


def names(name: str, found: Any, never: tuple[type, ...] = (str, bytes)) -> set[str]:
    """Read the names that an answer gives, in any collection but these.

    Raises:
        NotYet: it is not a collection, or holds something else.
    """
    if isinstance(found, never) or not hasattr(found, "__iter__"):
        raise NotYet(f"{name}: expected a set of names, found {type(found).__name__}")
    return {liberal.text(f"{name}: a name", one) for one in found}
