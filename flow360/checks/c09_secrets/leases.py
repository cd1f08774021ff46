"""Exercise 3: a user of the warehouse that ends with its lease."""

from __future__ import annotations

from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from typing import Any

import psycopg
from psycopg import sql

from flow360 import clients
from flow360.checks import liberal
from flow360.checks.c09_secrets.setting import at, refusals
from flow360.checks.compare import expect_untouched, fingerprint, rows
from flow360.checks.verdict import NotYet, exercise, expect, expect_equal
from flow360.clients.secrets import Missing
from flow360.errors import FlowError
from flow360.waiting import wait_for


@exercise
def short_lease(role: Any) -> None:
    """Check the role by borrowing two users: they are tried in PostgreSQL, and one is revoked while it works."""
    name = liberal.text("role", role, "lab-auditor")
    vault = clients.vault()
    with refusals("role", "Vault's database engine does not know it"):
        said = vault.secrets.database.read_role(name)["data"]
    for key, seconds in {"default_ttl": 300, "max_ttl": 900}.items():
        expect_equal(f"role: {key}", found=int(said[key]), expected=seconds, why="in seconds")
    before = _others()
    with ExitStack() as end:
        first, second = _borrow(vault, name, end), _borrow(vault, name, end)
        expect(first["password"] != second["password"], "role: two users got the same password")
        _may_audit(first)
        _ends_by_itself(first, 300)
        vault.sys.renew_lease(first["lease"], increment=3600)
        _ends_by_itself(first, 900)
        with _session(first) as mine, _session(second) as other:
            mine.execute("select count(*) from lab.invoices")
            with refusals("role", "revoking a lease fails"):
                vault.sys.revoke_lease(first["lease"])
            with suppress(FlowError):
                wait_for(lambda: not _there(first), 3, "the user to be gone")
            expect(not _there(first), "role: its lease is revoked, and the user is still among PostgreSQL's roles")
            try:
                mine.execute("select 1")
            except psycopg.OperationalError:
                pass
            else:
                raise NotYet("role: its lease is revoked, and an open session of the user still gets answers")
            try:
                other.execute("select count(*) from lab.invoices")
            except psycopg.Error:
                raise NotYet(
                    "role: one lease is revoked, and the user of the other one was thrown out with it"
                ) from None
    expect_untouched("role", "what other roles may do, or who is a member of lab_auditor,", before, _others())


def _others() -> Any:
    members = """select r.rolname, m.rolname as member, r.rolsuper, m.rolcanlogin from pg_roles r
        left join pg_auth_members a on a.roleid = r.oid left join pg_roles m on m.oid = a.member
        where r.rolname not like 'v-%' and coalesce(m.rolname, '') not like 'v-%'"""
    return fingerprint(members), fingerprint("select relacl::text from pg_class where oid = 'lab.invoices'::regclass")


def _borrow(vault: Any, role: str, end: ExitStack) -> dict[str, str]:
    with refusals("role", "Vault cannot make a user of it"):
        lent = vault.secrets.database.generate_credentials(role)
    user = {"user": lent["data"]["username"], "password": lent["data"]["password"], "lease": lent["lease_id"]}
    end.callback(_give_back, vault, user)
    expect(_there(user), f"role: Vault lent out {user['user']}, and PostgreSQL has no role of that name")
    return user


def _give_back(vault: Any, user: dict[str, str]) -> None:
    """Give the user back, whatever the role's statements do or do not: nothing of it stays."""
    with suppress(Missing):
        vault.sys.revoke_force(user["lease"])
    with clients.postgres(autocommit=True) as db:
        db.execute("select pg_terminate_backend(pid, 2000) from pg_stat_activity where usename = %s", [user["user"]])
        if _there(user):
            who = sql.Identifier(user["user"])
            db.execute(sql.SQL("drop owned by {}").format(who))
            db.execute(sql.SQL("drop role {}").format(who))


def _there(user: dict[str, str]) -> bool:
    return bool(rows("select 1 as there from pg_roles where rolname = %s", [user["user"]]))


def _session(user: dict[str, str]) -> psycopg.Connection:
    try:
        return psycopg.connect(**at(), user=user["user"], password=user["password"], autocommit=True)
    except psycopg.OperationalError as error:
        why = str(error).splitlines()[0].rpartition("FATAL:")[2].strip()
        raise NotYet(f"role: the user that Vault made cannot sign in to PostgreSQL: {why}") from None


def _may_audit(user: dict[str, str]) -> None:
    member = rows(
        """select g.rolname, admin_option from pg_auth_members
           join pg_roles g on g.oid = roleid join pg_roles m on m.oid = member where m.rolname = %s""",
        [user["user"]],
    )
    expect_equal(
        "role", found=sorted(r["rolname"] for r in member), expected=["lab_auditor"], why="what its user is a member of"
    )
    expect(not member[0]["admin_option"], "role: its user may make others members of lab_auditor: only Vault may")
    with _session(user) as db:
        try:
            found = db.execute("select count(*) from lab.invoices").fetchone()
        except psycopg.Error as error:
            raise NotYet(f"role: its user cannot read lab.invoices: {str(error).splitlines()[0]}") from None
        expect(found, "role: its user cannot read lab.invoices")
        for statement in (
            "delete from lab.invoices",
            "select * from lab.salaries",
            "create table lab.theirs (n int)",
        ):
            try:
                with db.transaction(force_rollback=True):
                    db.execute(statement)
            except psycopg.errors.InsufficientPrivilege:
                continue
            raise NotYet(f"role: its user may do more than read the invoices: {statement}")


def _ends_by_itself(user: dict[str, str], seconds: int) -> None:
    until = rows("select rolvaliduntil as until from pg_roles where rolname = %s", [user["user"]])[0]["until"]
    expect(
        isinstance(until, datetime),
        "role: PostgreSQL knows no end of its user: if Vault burned down, who would stop it?",
    )
    left = (until - datetime.now(UTC)).total_seconds()
    expect(
        seconds - 30 <= left <= seconds + 30,
        f"role: by PostgreSQL its user ends in {left:,.0f} s, its lease in {seconds}: should they not end together?",
    )
