"""Checks of 09_secrets: Vault, its audit log, PostgreSQL's roles and git's own memory are asked."""

from __future__ import annotations

import base64
import random
import secrets
import string
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from flow360 import clients
from flow360.checks import liberal
from flow360.checks.compare import expect_untouched, fingerprint, rows
from flow360.checks.draw import draw
from flow360.checks.verdict import NotYet, exercise, expect, expect_equal, expect_type, limited
from flow360.clients.secrets import Denied, Expired, Missing, Sealed
from flow360.delivery import vaults
from flow360.errors import FlowError, ServiceError
from flow360.process import run
from flow360.settings import settings
from flow360.waiting import patient, wait_for

LOGIN = "auth/approle/login"
ANY = """
path "secret/data/{under}*" {{ capabilities = ["create", "read", "update"] }}
path "secret/metadata/{under}*" {{ capabilities = ["read", "list"] }}
"""
DENIED = 'path "secret/*" { capabilities = ["deny"] }'


def prepare() -> None:
    """Schema `lab` with the invoices, and PostgreSQL's role `lab_auditor`, who may read them and nothing else."""
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


def _word(chance: random.Random, length: int = 20) -> str:
    return "".join(chance.choices(string.ascii_letters + string.digits, k=length))


@contextmanager
def _refusals(name: str, what: str) -> Iterator[None]:
    """What Vault refuses in here is the answer's mistake, as long as Vault itself is well."""
    try:
        yield
    except (Denied, Missing) as error:
        raise NotYet(f"{name}: {what}: {error}") from None
    except ServiceError as error:
        if isinstance(error, Sealed | Expired) or not clients.answers("vault"):
            raise
        raise NotYet(f"{name}: {what}: {error}") from None


class _Role:
    """An AppRole of our own, with its policy; both are gone after the block."""

    def __init__(self, vault: Any, name: str, policy: str, ttl: str = "10m") -> None:
        self.vault, self.name, self.since = vault, name, datetime.now(UTC)
        self.allow(policy)
        vault.auth.approle.create_or_update_approle(name, token_policies=[name], token_ttl=ttl, token_max_ttl=ttl)
        self.role_id = vault.auth.approle.read_role_id(name)["data"]["role_id"]
        self.secret_id = vault.auth.approle.generate_secret_id(name)["data"]["secret_id"]

    def allow(self, policy: str) -> None:
        self.vault.sys.create_or_update_acl_policy(self.name, policy)

    def client(self) -> Any:
        return clients.vault_at(settings().vault_url, self.role_id, self.secret_id)

    def logins(self) -> int:
        """How often somebody has tried to sign in as this role, by the audit log."""
        hashed = self.vault.sys.calculate_hash("file", self.role_id)["data"]["hash"]
        return sum(
            one["type"] == "request"
            and one["request"]["path"] == LOGIN
            and one["request"].get("data", {}).get("role_id") == hashed
            for one in vaults.records(self.since)
        )

    def __enter__(self) -> _Role:
        return self

    def __exit__(self, *_: Any) -> None:
        self.vault.auth.approle.delete_role(self.name)
        self.vault.sys.delete_acl_policy(self.name)


@contextmanager
def _kept(vault: Any, *paths: str) -> Iterator[None]:
    """After the block nothing is left under these paths."""
    try:
        yield
    finally:
        for path in paths:
            vault.secrets.kv.v2.delete_metadata_and_all_versions(path)


# --- Who may read what ------------------------------------------------------------------------------------------------


@exercise
def narrow_policy(policy: Any) -> None:
    """A role with this policy can do what the statement says, and nothing beside it: each is tried."""
    text = liberal.text("policy", policy)
    vault, chance = clients.vault(), draw()
    near, far = f"x{_word(chance, 6)}", f"y{_word(chance, 6)}/z{_word(chance, 4)}"
    mine = [near, far, f"banknotes-{near}", f"{near}/bank/{near}", f"inboxes/{near}", f"inbox/{near}", f"inbox/{far}"]
    beside = ["bank/" + near, "bank/" + far]
    market = [f"lab/market/{one}" for one in (*mine, *beside)]
    others = [f"lab/marketing/{near}", f"lab/{near}", f"{near}"]
    new = f"lab/market/inbox/new-{near}"
    kv = vault.secrets.kv.v2
    with _kept(vault, *market, *others, new, f"{new}-too"):
        for path in (*market, *others):
            kv.create_or_update_secret(path, {"word": "one"})
        with _refusals("policy", "Vault does not take it"):
            role = _Role(vault, f"lab-check-{near}".lower(), text)
        with role:
            their = role.client().secrets.kv.v2
            may = _May("policy")
            for one in mine:
                may.do(f"reading lab/market/{one}", lambda p=one: their.read_secret(f"lab/market/{p}"))
            for path in (*(f"lab/market/{one}" for one in beside), *others, "airflow/connections/warehouse"):
                may.not_do(f"reading {path}", lambda p=path: their.read_secret(p))
            deep = far.partition("/")[0]
            for folder in ("lab/market", f"lab/market/{deep}", "lab/market/inbox", f"lab/market/inbox/{deep}"):
                may.do(f"listing {folder}/", lambda p=folder: their.list_secrets(p))
            for folder in ("lab", "lab/marketing", "lab/market/bank", f"lab/market/bank/{deep}"):
                may.not_do(f"listing {folder}/", lambda p=folder: their.list_secrets(p))
            for path in (f"lab/market/inbox/{near}", f"lab/market/inbox/{far}", new):
                may.do(f"writing {path}", lambda p=path: their.create_or_update_secret(p, {"word": "two"}))
            for one in (near, far, f"inboxes/{near}", f"bank/{near}", f"new-{near}"):
                path = f"lab/market/{one}"
                may.not_do(f"writing {path}", lambda p=path: their.create_or_update_secret(p, {"word": "two"}))
            for one in (near, f"inbox/{near}"):
                path = f"lab/market/{one}"
                may.not_do(
                    f"reading what is known about {path} (its metadata)", lambda p=path: their.read_secret_metadata(p)
                )
                may.not_do(
                    f"changing what is known about {path} (its metadata)",
                    lambda p=path: their.update_metadata(p, max_versions=3),
                )
                may.not_do(f"deleting {path}", lambda p=path: their.delete_latest_version_of_secret(p))
                may.not_do(f"destroying version 1 of {path}", lambda p=path: their.destroy_secret_versions(p, [1]))
                may.not_do(
                    f"removing {path} with all versions", lambda p=path: their.delete_metadata_and_all_versions(p)
                )
            may.not_do(
                "making metadata for a secret that is not there",
                lambda: their.update_metadata(f"{new}-too", max_versions=3),
            )
            may.not_do(
                "borrowing a user of the warehouse",
                lambda: role.client().secrets.database.generate_credentials("pipeline"),
            )


class _May:
    """Tries what may be done and what not; the first surprise is the verdict."""

    def __init__(self, name: str) -> None:
        self.name = name

    def do(self, what: str, call: Callable[[], Any]) -> None:
        try:
            call()
        except (Denied, Missing):
            raise NotYet(f"{self.name}: {what} is refused, and should be allowed") from None

    def not_do(self, what: str, call: Callable[[], Any]) -> None:
        try:
            call()
        except Denied:
            return
        except Missing:
            pass
        raise NotYet(f"{self.name}: {what} is allowed, and should be refused")


# --- A token that ends ------------------------------------------------------------------------------------------------


@exercise
def patient_reader(make_reader: Any) -> None:
    """One sign-in for many reads, one more when the token is over, none for what a sign-in cannot mend."""
    make = limited(liberal.function("make_reader", make_reader), 10, "make_reader")
    vault, chance = clients.vault(), draw()
    kv, under = vault.secrets.kv.v2, f"lab/reader-{_word(chance, 8)}/"
    own, foreign, words = f"{under}own", f"{under}foreign", [_word(chance) for _ in range(3)]
    policy = f'path "secret/data/{own}" {{ capabilities = ["read"] }}\n' + (
        f'path "secret/data/{under}none" {{ capabilities = ["read"] }}'
    )
    name, ttl = f"lab-reader-{_word(chance, 8)}".lower(), f"{patient(1):.0f}s"
    with _kept(vault, own, foreign), _Role(vault, name, policy) as role:
        kv.create_or_update_secret(foreign, {"word": words[0]})
        kv.create_or_update_secret(own, {"word": words[0]})
        read = _reader(make, role)
        _expect_word(read, own, words[0])
        kv.create_or_update_secret(own, {"word": words[1]})
        _expect_word(read, own, words[1])
        expect_equal("make_reader", found=role.logins(), expected=1, why="sign-ins for two reads, by Vault's audit log")
        _expect_refused("a path that the policy does not allow", Denied, lambda: read(foreign))
        _expect_refused("a path with nothing in it", Missing, lambda: read(f"{under}none"))
        role.allow(policy.replace("read", "list"))
        _expect_refused("a path that the policy no longer allows", Denied, lambda: read(own))
        role.allow(policy)
        _expect_word(read, own, words[1])
        expect_equal(
            "make_reader", found=role.logins(), expected=1, why="sign-ins, when two reads were denied: does one help?"
        )
    with _kept(vault, own), _Role(vault, f"{name}-short", policy, ttl) as role:
        kv.create_or_update_secret(own, {"word": words[2]})
        read = _reader(make, role)
        _expect_word(read, own, words[2])
        _until_over(role, own)
        before = role.logins()
        try:
            _expect_word(read, own, words[2])
        except Expired:
            raise NotYet(
                "make_reader: the token was over, and the reader gave up: who could give it another?"
            ) from None
        expect_equal("make_reader", found=role.logins() - before, expected=1, why="sign-ins after the token was over")
        _until_over(role, own)
        vault.auth.approle.destroy_secret_id(role_name=f"{name}-short", secret_id=role.secret_id)
        before = role.logins()
        _expect_refused("a role whose secret id was destroyed", ServiceError, lambda: read(own))
        expect(
            role.logins() - before <= 2,
            f"make_reader: its secret id opens nothing any more, and it tried it {role.logins() - before} times",
        )


def _reader(make: Callable[..., Any], role: _Role) -> Callable[[str], Any]:
    with _refusals("make_reader", "with a good role and secret"):
        read = make(role.role_id, role.secret_id)
    expect(callable(read), f"make_reader: expected it to return a function, found {type(read).__name__}")
    return limited(read, 10, "the reader")


def _until_over(role: _Role, path: str) -> None:
    """A token that was given later than the reader's is over."""
    mine = role.client().secrets.kv.v2

    def over() -> bool:
        try:
            mine.read_secret(path)
        except Expired:
            return True
        return False

    wait_for(over, 20, "a token of a second to end")


def _expect_word(read: Callable[[str], Any], path: str, word: str) -> None:
    with _refusals("make_reader", "reading a path that the policy allows"):
        found = read(path)
    expect_type("make_reader", found, Mapping)
    inner = found.get("data", found)  # Vault's whole answer says it, too
    inner = inner.get("data", inner) if isinstance(inner, Mapping) else inner
    expect(
        inner == {"word": word},
        f"make_reader: expected the newest value, its dict, found {list(found)} with another: an old one?",
    )


def _expect_refused(what: str, kind: type[FlowError], call: Callable[[], Any]) -> None:
    try:
        found = call()
    except kind:
        return
    except FlowError as error:
        raise NotYet(
            f"make_reader: {what}: expected {kind.__name__} to come through, found {type(error).__name__}"
        ) from None
    raise NotYet(
        f"make_reader: {what}: expected {kind.__name__} to come through, found an answer, {type(found).__name__}: "
        "where did it come from?"
    )


# --- A user that ends -------------------------------------------------------------------------------------------------


@exercise
def short_lease(role: Any) -> None:
    """Two users are borrowed by the role, tried in PostgreSQL, and one is revoked while it works."""
    name = liberal.text("role", role, "lab-auditor")
    vault = clients.vault()
    with _refusals("role", "Vault's database engine does not know it"):
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
            with _refusals("role", "revoking a lease fails"):
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
    with _refusals("role", "Vault cannot make a user of it"):
        lent = vault.secrets.database.generate_credentials(role)
    user = {"user": lent["data"]["username"], "password": lent["data"]["password"], "lease": lent["lease_id"]}
    end.callback(_give_back, vault, user)
    expect(_there(user), f"role: Vault lent out {user['user']}, and PostgreSQL has no role of that name")
    return user


def _give_back(vault: Any, user: dict[str, str]) -> None:
    """Whatever the role's statements do or do not: nothing of it stays."""
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


def _at() -> dict[str, Any]:
    return {
        "host": "127.0.0.1",
        "port": clients.port_of("postgres-dwh"),
        "dbname": settings().postgres_dwh_db,
        "connect_timeout": 5,
    }


def _session(user: dict[str, str]) -> psycopg.Connection:
    try:
        return psycopg.connect(**_at(), user=user["user"], password=user["password"], autocommit=True)
    except psycopg.OperationalError as error:
        why = str(error).splitlines()[0].rpartition("FATAL:")[2].strip()
        raise NotYet(f"role: the user that Vault made cannot sign in to PostgreSQL: {why}") from None


def _may_audit(user: dict[str, str]) -> None:
    member = rows(
        """select g.rolname from pg_auth_members join pg_roles g on g.oid = roleid join pg_roles m on m.oid = member
           where m.rolname = %s""",
        [user["user"]],
    )
    expect_equal(
        "role", found=sorted(r["rolname"] for r in member), expected=["lab_auditor"], why="what its user is a member of"
    )
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


# --- A rotation -------------------------------------------------------------------------------------------------------


@exercise
def no_downtime(rotate: Any) -> None:
    """After each rotation, and at each moment of it, the secret's user and the one before can sign in."""
    change = limited(liberal.function("rotate", rotate), 10, "rotate")
    vault, chance = clients.vault(), draw()
    kv, path = vault.secrets.kv.v2, f"lab/report-{_word(chance, 8)}"
    users = [f"lab_Report-{_word(chance, 4)}_{n}" for n in ("a", "b", "c")]
    with _kept(vault, path), _pg_users(users):
        note = _word(chance, 6)
        secret = {"user": users[0], "password": _set(users[0]), "users": users[:2], "host": "127.0.0.1", "note": note}
        _set(users[1]), _set(users[2])
        kv.create_or_update_secret(path, secret)
        # PostgreSQL refuses, or Vault does: the rotation fails, and nobody notices.
        with psycopg.connect(**_at(), user=users[2], password=_set(users[2])) as weak:
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
            with clients.postgres() as db, _refusals("rotate", "Vault refuses"):
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
        psycopg.connect(**_at(), user=secret["user"], password=secret["password"]).close()
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


# --- The audit log ----------------------------------------------------------------------------------------------------


@exercise
def who_had_it(suspects: Any) -> None:
    """Fresh traffic by ten roles; those who had the value in hand by that moment, and nobody else."""
    ask = limited(liberal.function("suspects", suspects), 10, "suspects")
    vault, chance = clients.vault(), draw()
    began = datetime.now(UTC)
    under, value, other = f"lab/leak-{_word(chance, 8)}/", _word(chance), _word(chance)
    plain, deep, rest = f"{under}plain", f"{under}deep/{_word(chance, 5)}", f"{under}rest"
    tag = _word(chance, 6).lower()
    doing: dict[str, Callable[[Any], Any]] = {
        "writes": lambda kv: kv.create_or_update_secret(plain, {"pin": value, "note": "none"}),
        "reads": lambda kv: kv.read_secret(plain),
        "nested": lambda kv: kv.read_secret(deep),
        "beside": lambda kv: kv.read_secret(rest),
        "lists": lambda kv: kv.read_secret_metadata(plain),
        "denied": lambda kv: kv.read_secret(plain),
        "brings": lambda kv: kv.create_or_update_secret(rest, {"pin": value}),
    }
    after: dict[str, Callable[[Any], Any]] = {
        "older": lambda kv: kv.read_secret_version(plain, version=1),
        "newer": lambda kv: kv.read_secret(plain),
    }
    policy = ANY.format(under=under)
    with _kept(vault, plain, deep, rest), ExitStack() as end:
        names = {what: f"lab-{tag}-{what}" for what in (*doing, *after, "late")}
        kvs = {
            what: end.enter_context(_Role(vault, name, DENIED if what in ("denied", "brings") else policy))
            .client()
            .secrets.kv.v2
            for what, name in names.items()
        }
        kvs["beside"].create_or_update_secret(rest, {"pin": other})
        kvs["nested"].create_or_update_secret(deep, {"accounts": [{"name": "shop", "word": other}]})
        # Written by the learner's own role, which is thereby one of them.
        vault.secrets.kv.v2.create_or_update_secret(deep, {"accounts": [{"name": "shop"}, {"word": value}]})
        for what, call in doing.items():
            with suppress(Denied):
                call(kvs[what])
        kvs["beside"].create_or_update_secret(plain, {"pin": other})
        for what, call in after.items():
            call(kvs[what])
        moment = datetime.now(UTC) + timedelta(milliseconds=5)
        wait_for(lambda: datetime.now(UTC) > moment + timedelta(milliseconds=5), 5, "a hundredth of a second")
        kvs["late"].read_secret_version(plain, version=1)
        records = vaults.records(began)
        with _refusals("suspects", "Vault refuses"):
            found = _names(ask(vault, records, value, moment))
        expected = {names[one] for one in ("writes", "reads", "nested", "older", "brings")} | {"notebook"}
        called = {name: what for what, name in names.items()} | {"notebook": "notebook"}
        reasons = {
            "writes": "the role that wrote the value",
            "reads": "a role that read the value",
            "nested": "a role that read it under another path and name, deeper inside",
            "older": "a role that read an older version, in which the value still was",
            "notebook": "notebook, which wrote it, too",
            "brings": "a role that wanted to write the value and was refused (it had it, then)",
            "beside": "a role that read and wrote another value",
            "lists": "a role that only asked for the metadata",
            "denied": "a role that wanted to read it and was refused",
            "newer": "a role that read the path when it held another value",
            "late": "a role that read it after the moment",
        }
        if lost := sorted(called[name] for name in expected - found):
            raise NotYet(f"suspects: {reasons[lost[0]]} is missing; {len(lost)} of {len(expected)} are")
        if more := sorted(called.get(name, name) for name in found - expected):
            raise NotYet(f"suspects: {reasons.get(more[0], f'{more[0]!r}, who never had it,')} is among them")
        nobody = _names(ask(vault, records, _word(chance), moment))
        expect(not nobody, f"suspects: for a value that nobody was given, expected nobody, found {sorted(nobody)[:3]}")


def _names(found: Any) -> set[str]:
    if isinstance(found, str | bytes | Mapping) or not hasattr(found, "__iter__"):
        raise NotYet(f"suspects: expected a set of names, found {type(found).__name__}")
    return {liberal.text("suspects: a name", one) for one in found}


# --- git's memory -----------------------------------------------------------------------------------------------------


@exercise
def leaked(leaks: Any) -> None:
    """A fresh repository with values hidden all over its history; those that can be got out of it, by name."""
    ask = limited(liberal.function("leaks", leaks), 10, "leaks")
    chance = draw()
    kinds = {
        "head": "a value in a file of the newest commit",
        "removed": "a value that a later commit took away",
        "branch": "a value on another branch",
        "message": "a value in a commit's message",
        "tag": "a value that only a tag still holds",
        "words": "a value in the message of a tag",
        "base64": "a value in Base64",
        "binary": "a value in a binary file",
        "merge": "a value that came in with a merge, from neither side",
        "odd": "a value with signs that mean something in a pattern",
    }
    clean = {
        "part": "a value of which only the first half is there",
        "case": "a value that is there in other letters, small for large",
        "untracked": "a value in a file that was never committed",
        "dropped": "a value in a commit to which no branch and no tag leads any more",
        "none": "a value that is nowhere",
    }
    # Two more lines a name, so that no name is worth anything to an answer.
    labels = {kind: f"S{n:02d}" for n, kind in enumerate(chance.sample([*kinds, *clean], len(kinds) + len(clean)))}
    values = {labels[kind]: _word(chance) + ("+.$x" if kind == "odd" else "") for kind in (*kinds, *clean)}
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        _repository(here, {kind: values[label] for kind, label in labels.items()})
        before = _state(here)
        found = ask(here, dict(values))
        expect(before == _state(here), "leaks: the repository, or a file in it, is not as it was before")
    if isinstance(found, str | bytes) or not hasattr(found, "__iter__"):
        raise NotYet(f"leaks: expected a set of names, found {type(found).__name__}")
    told = {liberal.text("leaks: a name", one) for one in found}
    kind_of = {label: kind for kind, label in labels.items()}
    if strange := sorted(told - set(values)):
        raise NotYet(f"leaks: {strange[0][:3]!r}… is none of the names that it was given")
    if lost := sorted(kind_of[label] for label in labels.values() if kind_of[label] in kinds and label not in told):
        raise NotYet(f"leaks: {kinds[lost[0]]} is missing; {len(lost)} of {len(kinds)} are")
    if more := sorted(kind_of[label] for label in told if kind_of[label] in clean):
        raise NotYet(f"leaks: {clean[more[0]]} is among them, and did not leak")


def _state(here: Path) -> tuple[str, ...]:
    return (_git(here, "for-each-ref"), _git(here, "status", "--porcelain"), _git(here, "symbolic-ref", "HEAD"))


def _git(here: Path, *words: str) -> str:
    who = ["-c", "user.name=Primeur", "-c", "user.email=data@primeur.example", "-c", "tag.gpgSign=false"]
    return run(
        ["git", *who, "-c", "commit.gpgSign=false", "-c", "core.hooksPath=/dev/null", *words], cwd=here, seconds=20
    )


def _repository(here: Path, secret: dict[str, str]) -> None:
    def commit(message: str, **files: str | bytes) -> None:
        for name, text in files.items():
            (here / name).write_bytes(text if isinstance(text, bytes) else text.encode())
        _git(here, "add", "--all")
        _git(here, "commit", "--quiet", "--allow-empty", "--message", message)

    _git(here, "init", "--quiet", "--initial-branch=main")
    (here / ".git" / "info" / "exclude").write_text("scratch\n")
    commit("Begin", load=f"password = {secret['removed']}\n", look="ok\n")
    commit("Look closer", load="password = ask()\n", odd=f"x = '{secret['odd']}'\n")
    commit("Tidy", odd="x = 1\n", packed=f"blob: {base64.b64encode(secret['base64'].encode()).decode()}\n")
    commit(f"Try it\n\nworks with {secret['message']} for now", packed="gone\n", half=secret["part"][:10] + "\n")
    commit("Swap", case=secret["case"].swapcase() + "\n", raw=b"\0\1\2" + secret["binary"].encode() + b"\0\xff")
    commit("Swap back", raw=b"\0\1\2")
    _git(here, "switch", "--quiet", "--create", "side")
    commit("Aside", side=f"{secret['branch']}\n")
    _git(here, "switch", "--quiet", "--create", "gone")
    commit("Old", old=f"{secret['tag']}\n")
    _git(here, "tag", "v1")
    _git(here, "switch", "--quiet", "main")
    _git(here, "branch", "--quiet", "-D", "gone")
    _git(here, "tag", "--annotate", "v2", "--message", f"Second, see {secret['words']}")
    _git(here, "switch", "--quiet", "--create", "dropped")
    commit("Dropped", dropped=f"{secret['dropped']}\n")
    _git(here, "switch", "--quiet", "main")
    _git(here, "branch", "--quiet", "-D", "dropped")
    # What a merge brings in, from neither side, and the next one takes out again.
    for topic, text in (("topic", secret["merge"]), ("other", "")):
        _git(here, "switch", "--quiet", "--create", topic, "HEAD~1")
        commit(topic, **{topic: "1\n"})
        _git(here, "switch", "--quiet", "main")
        _git(here, "merge", "--quiet", "--no-ff", "--no-commit", topic)
        commit(f"Merge {topic}", merged=f"{text}\n")
    commit("Go on", newest=f"token: {secret['head']}\n")
    (here / "scratch").write_text(secret["untracked"])
