"""Exercise 5: write skew, made and prevented."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from flow360 import clients
from flow360.checks import liberal
from flow360.checks.c05b_data_warehouse.setting import prepare_vans
from flow360.checks.draw import draw
from flow360.checks.verdict import NotYet, exercise, expect, expect_equal, expect_type, limited, shown

LEVELS = ("REPEATABLE_READ", "SERIALIZABLE")
BOTH = ("VAN-01", "VAN-02")
SECONDS = 5
# A sequence counts on when its transaction is rolled back. Whoever has read a table in this transaction holds a lock on
# it, the weakest one, until the end; an UPDATE alone takes another.
WATCH = """
    create sequence lab.vans_looked;
    create sequence lab.vans_blind;
    create function lab.vans_seen() returns trigger language plpgsql as $$ begin
        if exists (select from pg_locks where pid = pg_backend_pid() and relation = TG_RELID
                                          and mode = 'AccessShareLock' and granted)
           and current_setting('transaction_isolation') = TG_ARGV[0]
        then perform nextval('lab.vans_looked');
        else perform nextval('lab.vans_blind');
        end if;
        return null;
    end $$;
    create trigger seen before update on lab.vans for each statement execute function lab.vans_seen('{level}');
"""
UNWATCH = """
    drop trigger if exists seen on lab.vans;
    drop function if exists lab.vans_seen;
    drop sequence if exists lab.vans_looked, lab.vans_blind;
"""


@exercise
def write_skew(both_leave: Any) -> None:
    """Check both_leave(level): two sessions by the rule; at REPEATABLE_READ no van is left, at SERIALIZABLE one."""
    run = limited(liberal.function("both_leave", both_leave), SECONDS, "both_leave")
    alone = draw().choice(BOTH)
    try:
        evening = _evening(run, "REPEATABLE_READ", BOTH)
        expect(
            evening.left == 0,
            f"both_leave: at REPEATABLE_READ expected no van on duty afterwards, found {evening.left}: did both look "
            "before either committed?",
        )
        expect(
            evening.writers == 2,
            "both_leave: at REPEATABLE_READ one transaction sent both vans home: expected one session each",
        )
        _looked(evening, "REPEATABLE_READ")
        why = "how they ended at REPEATABLE_READ"
        expect_equal("both_leave", found=evening.ended, expected=["committed"] * 2, why=why)
        evening = _evening(run, "SERIALIZABLE", BOTH)
        expect(
            evening.left == 1,
            f"both_leave: at SERIALIZABLE expected one van on duty afterwards, found {evening.left}",
        )
        expect(
            sorted(evening.ended) == ["40001", "committed"],
            f"both_leave: how they ended there, by your list: {', '.join(evening.ended)}: at SERIALIZABLE the server "
            "refuses one of the two, and the list gives the code of its error",
        )
        _looked(evening, "SERIALIZABLE")
        for level in LEVELS:
            _alone(_evening(run, level, (alone,)), level, alone)
    finally:
        prepare_vans()


@dataclass(frozen=True)
class _Evening:
    """How the two ended, vans on duty afterwards, transactions that sent one home, and updates: of a session that had
    looked before in the same transaction, at the level that was asked, and of others."""

    ended: list[str]
    left: int
    writers: int
    looked: int
    blind: int


def _looked(evening: _Evening, level: str) -> None:
    if evening.blind:
        raise NotYet(
            f"both_leave: at {level} {shown(evening.blind)} of the updates came from a transaction that had not looked "
            "at lab.vans itself, at that level: both count, and each in the transaction in which it writes"
        )
    expect(
        evening.looked == 2,
        f"both_leave: at {level} expected an update of each of the two, found {evening.looked}",
    )


def _alone(evening: _Evening, level: str, van: str) -> None:
    """Check that nobody leaves where one van only is on duty: both count one."""
    said = f"both_leave: at {level}, with only {van} on duty,"
    expect(evening.left == 1, f"{said} it was sent home: each may send its van home only if it counted two")
    expect(not evening.writers, f"{said} a row was written: nobody may leave then")
    expect_equal(f"{said} how they ended", found=evening.ended, expected=["committed"] * 2)


def _evening(run: Callable[[str], Any], level: str, on_duty: tuple[str, ...]) -> _Evening:
    prepare_vans(on_duty)
    with _watched(level), clients.postgres(autocommit=True) as db:
        before = db.execute("select pg_current_xact_id()::text::bigint").fetchone()[0]
        ended = run(level)
        expect_type("both_leave", ended, (list, tuple))
        left = db.execute("select count(*) from lab.vans where on_duty").fetchone()[0]
        query = "select count(distinct xmin::text) from lab.vans where xmin::text::bigint > %s"
        writers = db.execute(query, [before]).fetchone()[0]
        counts = [
            db.execute(f"select case when is_called then last_value else 0 end from lab.vans_{what}").fetchone()[0]
            for what in ("looked", "blind")
        ]
    return _Evening([str(one) for one in ended], left, writers, *counts)


@contextmanager
def _watched(level: str) -> Iterator[None]:
    with clients.postgres() as db:
        db.execute(UNWATCH)
        db.execute(WATCH.replace("{level}", level.replace("_", " ").lower()))
    try:
        yield
    finally:
        prepare_vans()
        with clients.postgres() as db:
            db.execute(UNWATCH)
