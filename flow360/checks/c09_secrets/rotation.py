"""Exercise 4: a password that changes, and nobody notices."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import sql

from flow360 import clients
from flow360.checks import liberal
from flow360.checks.c09_secrets.setting import at, forgotten, refusals
from flow360.checks.compare import expect_untouched, fingerprint
from flow360.checks.draw import a_word, draw
from flow360.checks.verdict import NotYet, exercise, expect, expect_equal, limited
from flow360.clients.secrets import Denied
from flow360.errors import FlowError


@exercise
def no_downtime(rotate: Any) -> None:
    """Check that after each rotation, and at each moment of it, the secret's user and the one before can sign in."""
    change = limited(liberal.function("rotate", rotate), 10, "rotate")
    vault, chance = clients.vault(), draw()
    kv, path = vault.secrets.kv.v2, f"lab/report-{a_word(chance, 8)}"
    users = [f'lab_Report-"{a_word(chance, 4)}"_{n}' for n in ("a", "b", "c")]
    with forgotten(vault, path), _pg_users(users):
        note = a_word(chance, 6)
        secret = {"user": users[0], "password": _set(users[0]), "users": users[:2], "host": "127.0.0.1", "note": note}
        _set(users[1]), _set(users[2])
        kv.create_or_update_secret(path, secret)
        # PostgreSQL refuses, or Vault does: the rotation fails, and nobody notices.
        with psycopg.connect(**at(), user=users[2], password=_set(users[2])) as weak:
            _fails(change, "PostgreSQL refuses the change", weak, kv, path)
        _expect_secret(kv, path, secret, "PostgreSQL had refused the change, and the secret")
        with clients.postgres() as db:
            _fails(change, "Vault refuses the write", db, _Refusing(kv), path)
        _expect_secret(kv, path, secret, "Vault had refused the write, and the secret")
        _can("the secret's user, after a rotation that failed halfway,", secret)
        now, seen = secret, {secret["password"]}
        for _ in range(3):
            expected = users[1] if now["user"] == users[0] else users[0]
            hashes = _hashes([users[2], now["user"]])
            watching = _Watching(kv)
            with clients.postgres() as db, refusals("rotate", "Vault refuses"):
                change(db, watching, path)
            then = kv.read_secret(path)["data"]["data"]
            expect(watching.writes, "rotate: it returned, and has written nothing by the kv that it is given")
            expect_equal("rotate: user in the secret", found=then.get("user"), expected=expected, why="they take turns")
            same = {k: v for k, v in then.items() if k not in ("user", "password")}
            kept = {k: v for k, v in now.items() if k not in ("user", "password")}
            expect_equal("rotate", found=same, expected=kept, why="what else stands in the secret")
            word = then["password"]
            expect(isinstance(word, str) and len(word) >= 16, "rotate: the new password has fewer than 16 characters")
            expect(word not in seen, "rotate: a password was used twice")
            seen.add(word)
            _can("the secret's user", then)
            _can("a program that still has what the secret said before", now)
            expect_untouched("rotate", "the password of another user", hashes, _hashes([users[2], now["user"]]))
            now = then
        expect(
            len({w[:6] for w in seen}) == len(seen),
            "rotate: the passwords begin alike: can one be guessed from another?",
        )


class _Kv:
    """The key-value engine, with a hand on its writes."""

    def __init__(self, kv: Any) -> None:
        self.kv, self.writes = kv, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.kv, name)

    def create_or_update_secret(self, path: str, secret: dict[str, Any], *args: Any, **kw: Any) -> Any:
        self.writes += 1
        self.before(path, secret)
        return self.kv.create_or_update_secret(path, secret, *args, **kw)

    def patch(self, path: str, secret: dict[str, Any], *args: Any, **kw: Any) -> Any:
        self.writes += 1
        self.before(path, self.kv.read_secret(path)["data"]["data"] | secret)
        return self.kv.patch(path, secret, *args, **kw)

    def before(self, path: str, secret: Any) -> None:
        raise NotImplementedError


class _Watching(_Kv):
    def before(self, path: str, secret: Any) -> None:
        if isinstance(secret, Mapping) and {"user", "password"} <= set(secret):
            _can("at the moment at which the secret is written, the user in it", secret)


class _Refusing(_Kv):
    def before(self, path: str, secret: Any) -> None:
        raise Denied(f"vault: post secret/data/{path}: the policies of this token do not allow it")


def _fails(change: Callable[..., Any], what: str, *args: Any) -> None:
    try:
        change(*args)
    except (FlowError, psycopg.Error) as error:
        if isinstance(error, Denied | psycopg.errors.InsufficientPrivilege):
            return
        raise NotYet(f"rotate: {what}: expected that to come through, found {type(error).__name__}") from None
    raise NotYet(f"rotate: {what}, and rotate returned as if all were well")


def _expect_secret(kv: Any, path: str, secret: Any, what: str) -> None:
    expect(kv.read_secret(path)["data"]["data"] == secret, f"rotate: {what} changed all the same")


def _can(who: str, secret: Mapping[str, Any]) -> None:
    try:
        psycopg.connect(**at(), user=secret["user"], password=secret["password"]).close()
    except psycopg.OperationalError:
        raise NotYet(f"rotate: {who} cannot sign in to PostgreSQL") from None


def _hashes(users: list[str]) -> Any:
    return fingerprint("select rolname, rolpassword from pg_authid where rolname = any(%s)", [users])


def _set(user: str) -> str:
    word = secrets.token_urlsafe(16)
    with clients.postgres() as db:
        db.execute(sql.SQL("alter role {} password {}").format(sql.Identifier(user), sql.Literal(word)))
    return word


@contextmanager
def _pg_users(names: list[str]) -> Iterator[None]:
    def drop(db: Any) -> None:
        for name in names:
            db.execute(sql.SQL("drop owned by {0}; drop role {0}").format(sql.Identifier(name)))

    with clients.postgres() as db:
        for name in names:
            db.execute(sql.SQL("create role {} login").format(sql.Identifier(name)))
            db.execute(sql.SQL("grant connect on database datawarehouse to {}").format(sql.Identifier(name)))
    try:
        yield
    finally:
        with clients.postgres() as db:
            drop(db)
