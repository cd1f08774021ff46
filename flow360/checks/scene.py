"""A scene: a transaction in which tables hold other rows, for a query, a view or a test that is to be tried on them.

    with scene("query") as db:
        replace(db, "lab.customers", drawn)
        found = ask(db, "query", query, {"at": moment})

It is always rolled back: nobody else sees these rows, and nothing of them stays.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flow360 import clients
from flow360.checks.verdict import NotYet, expect
from flow360.waiting import patient

if TYPE_CHECKING:
    from psycopg import Connection

SECONDS = 8
"""How long one statement in a scene may take, on an idle machine."""

_KINDS = {
    16: "boolean", 20: "a whole number", 21: "a whole number", 23: "a whole number", 1700: "numeric",
    700: "a floating-point number", 701: "a floating-point number", 25: "text", 1042: "text", 1043: "text",
    1082: "date", 1114: "a timestamp without a zone", 1184: "a timestamp with its zone",
}  # fmt: skip
"""PostgreSQL's types, by the numbers that it gives them; those of one kind do for each other."""
_WIDER = {"a whole number": ("numeric",), "a floating-point number": ("numeric",)}
"""What else does: numeric holds each of these without a loss."""


@dataclass(frozen=True)
class Asked:
    """What a query gave: the rows as dicts, and the kind of each column."""

    rows: list[dict[str, Any]]
    kinds: dict[str, str]


@contextmanager
def scene(name: str) -> Iterator[Connection]:
    """Open a transaction that is rolled back.

    Args:
        name: the learner's variable, at the beginning of a message.

    Raises:
        NotYet: a session that was left open stands in the way.
    """
    import psycopg

    with clients.postgres() as db:
        db.execute(f"set local lock_timeout = '{patient(3):.0f}s'")
        db.execute(f"set local statement_timeout = '{patient(SECONDS):.0f}s'")
        try:
            yield db
        except psycopg.errors.LockNotAvailable as error:
            raise NotYet(
                f"{name}: a session that you have left open keeps a lock ({error.diag.message_primary}): commit or "
                "close it, and check again"
            ) from None
        finally:
            db.rollback()


def transaction_of(db: Connection) -> int:
    """Return the number of a session's transaction; another one after a call that has ended it, and begun the next."""
    return int(db.execute("select pg_current_xact_id()::text").fetchone()[0])


def replace(db: Connection, table: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Let a table hold these rows and no others; readers in other sessions are not disturbed."""
    db.execute(f"delete from {table}")
    add(db, table, rows)


def add(db: Connection, table: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Let a table hold these rows, too."""
    if rows:
        with db.cursor().copy(f"copy {table} ({', '.join(rows[0])}) from stdin") as copy:
            for row in rows:
                copy.write_row([row[column] for column in rows[0]])


def ask(db: Connection, name: str, query: str, params: Mapping[str, Any] | None = None) -> Asked:
    """Run one query of the learner's.

    Raises:
        NotYet: PostgreSQL refuses it, it takes too long, or it has no rows to give.
    """
    import psycopg
    from psycopg.rows import dict_row

    try:
        with db.transaction():
            # Prepared: then it is one statement, whatever else the text may hold.
            cursor = db.cursor(row_factory=dict_row).execute(query, params, prepare=True)
            expect(cursor.description, f"{name}: expected a query, found {cursor.statusmessage}")
            kinds = {column.name: _KINDS.get(column.type_code, "of another type") for column in cursor.description}
            return Asked(cursor.fetchall(), kinds)
    except psycopg.errors.LockNotAvailable:
        raise
    except psycopg.errors.QueryCanceled:
        raise NotYet(f"{name}: no answer within {patient(SECONDS):.0f} s: does it join what it need not?") from None
    except psycopg.Error as error:
        raise NotYet(f"{name}: PostgreSQL refuses it: {error.diag.message_primary or error}") from None


def expect_kinds(name: str, found: Asked, expected: Asked, *, exact: bool = False) -> None:
    """Raise NotYet unless the columns are of the expected kinds: money is numeric, a day a date.

    Args:
        exact: refuse columns beyond the expected ones, too.
    """
    there = ", ".join(found.kinds)
    for column, kind in expected.kinds.items():
        if column not in found.kinds:
            raise NotYet(f"{name}: there is no column {column} (there are: {there})")
        mine = found.kinds[column]
        if mine != kind and mine not in _WIDER.get(kind, ()):
            raise NotYet(f"{name}: column {column} is {mine}, expected {kind}")
    if exact and (more := [column for column in found.kinds if column not in expected.kinds]):
        raise NotYet(f"{name}: there is a column that was not asked for: {more[0]}")


def free(*relations: str, busy: bool = False) -> None:
    """End sessions of the learner's that were left open and keep a lock on one of these relations.

    A notebook keeps a connection as long as it keeps the error of its cell, or a variable that nobody looks at.

    Args:
        busy: also those that work, or wait for a lock: a function that was given up may have left them behind.
    """
    with clients.postgres(autocommit=True) as db:
        db.execute(
            """select pg_terminate_backend(pid, 5000) from pg_stat_activity
               where pid <> pg_backend_pid() and usename = current_user
               and (%(busy)s or state like 'idle in transaction%%')
               and pid in (select pid from pg_locks where relation = any(
                   select to_regclass(name) from unnest(%(names)s::text[]) as name))""",
            {"busy": busy, "names": list(relations)},
        )
