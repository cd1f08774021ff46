"""Exercise 2: what has become of the jobs, by MySQL's log."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from flow360.checks import liberal
from flow360.checks.c11_more_sources.setting import NAME, in_mysql
from flow360.checks.draw import MONEY, TEXTS, draw
from flow360.checks.verdict import NotYet, exercise, expect, expect_equal, limited
from flow360.ingestion import binlog

JOBS = "create table jobs (job_id int primary key, kind varchar(200), cost decimal(10, 2))"
OTHERS = "create table other_jobs (job_id int primary key, kind varchar(200), cost decimal(10, 2))"
BESIDE = f"{NAME}_beside"


@exercise
def net_changes(net: Any) -> None:
    """Compare what is said of drawn transactions, then of those after them, then of none."""
    call = limited(liberal.function("net", net), 15, "net")
    chance = draw()
    with in_mysql(JOBS, OTHERS) as db, db.cursor() as cursor:
        cursor.execute(f"drop database if exists {BESIDE}")
        cursor.execute(f"create database {BESIDE}")
        cursor.execute(f"create table {BESIDE}.jobs (job_id int primary key, kind varchar(200), cost decimal(10, 2))")
        try:
            _work(db, _History(chance), chance, [])  # before the place: not to be told
            place = binlog.place()
            for part in ("since the first place", "since the place that net gave back"):
                place = _one(call, db, chance, place, part)
            changes, again = _said(call(place))
            expect(not changes, f"net: nothing has happened since then, and it says {len(changes)} jobs")
            expect(tuple(again) == tuple(place), f"net: nothing has happened, and the place has moved to {again}")
        finally:
            cursor.execute(f"drop database if exists {BESIDE}")


def _one(call: Any, db: Any, chance: random.Random, place: Any, part: str) -> binlog.Place:
    before = _table(db)
    _work(db, _History(chance), chance, sorted(before))
    after = _table(db)
    touched = before.keys() | after.keys()
    truth = {key: after.get(key) for key in touched if before.get(key) != after.get(key)}
    with _changed_again(db):
        changes, place = _said(call(place))
    for key, row in truth.items():
        if key not in changes:
            what = "is gone" if row is None else "was entered" if key not in before else "was changed"
            raise NotYet(f"net: {part}: job {key} {what}, and is not told")
        if row is None:
            expect(changes[key] is None, f"net: {part}: job {key} is gone: expected None, found {changes[key]!r}")
            continue
        found = changes[key]
        expect(isinstance(found, Mapping), f"net: {part}: job {key}: expected its row, found {found!r}")
        expect_equal(f"net: {part}: job {key}", found=dict(found), expected=row, why="its row as it is at the end")
    for key in sorted(changes.keys() - truth.keys()):
        if key in before or key in after:
            expect(
                changes[key] == after.get(key), f"net: {part}: job {key} is told as {changes[key]!r}, which it is not"
            )
        else:
            raise NotYet(f"net: {part}: job {key} is told, and was not there before, and is not there now")
    return place


@contextmanager
def _changed_again(db: Any) -> Iterator[None]:
    """Let the table say something else while the block runs, and the log nothing of it."""
    with db.cursor() as cursor:
        cursor.execute("set sql_log_bin = 0")
        cursor.execute("create table kept as select * from jobs")
        cursor.execute("update jobs set kind = 'later'")
        try:
            yield
        finally:
            cursor.execute("update jobs join kept using (job_id) set jobs.kind = kept.kind")
            cursor.execute("drop table kept")
            cursor.execute("set sql_log_bin = 1")


def _said(answer: Any) -> tuple[Mapping[int, Any], binlog.Place]:
    if not (isinstance(answer, tuple | list) and len(answer) == 2 and isinstance(answer[0], Mapping)):
        raise NotYet("net: expected two things, a dict by job_id and the place from which to go on")
    changes, place = answer
    if not (isinstance(place, tuple | list) and len(place) == 2):
        raise NotYet(f"net: expected a place as binlog.place() gives it, found {place!r}")
    return changes, tuple(place)


def _table(db: Any) -> dict[int, dict[str, Any]]:
    with db.cursor() as cursor:
        cursor.execute("select job_id, kind, cost from jobs")
        return {row[0]: dict(zip(("job_id", "kind", "cost"), row, strict=True)) for row in cursor.fetchall()}


class _History:
    """Draws jobs."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance

    def row(self, key: int) -> tuple[int, Any, str]:
        return key, self.chance.choice((None, *TEXTS)), self.chance.choice(MONEY)


def _work(db: Any, history: _History, chance: random.Random, known: list[int]) -> None:
    """Let a garage work for a while: what it commits, what it takes back, and what does not concern the jobs."""
    new = chance.sample(range(1000, 10**6), 13)
    insert = "insert into jobs values (%s, %s, %s)"

    def run(*statements: tuple[str, Any], end: str = "commit") -> None:
        db.begin()
        with db.cursor() as cursor:
            for text, params in statements:
                cursor.execute(text, params)
        db.rollback() if end == "rollback" else db.commit()

    run(*((insert, history.row(key)) for key in new[:6]))
    run((insert, history.row(new[6])), ("update jobs set cost = cost / 2 where job_id = %s", [new[6]]))
    run(("update jobs set kind = 'seen' where job_id in (%s, %s, %s)", new[:3]))  # several rows in one event
    run(("delete from jobs where job_id = %s", [new[3]]))  # entered and gone since
    run((insert, history.row(new[7])), ("delete from jobs where job_id = %s", [new[7]]))
    run(("update jobs set job_id = %s where job_id = %s", [new[8], new[4]]))  # another key
    run((insert, history.row(new[9])), ("update jobs set cost = 0", None), end="rollback")
    run(("insert into other_jobs values (%s, 'another table', 1)", [new[10]]))
    run((f"insert into {BESIDE}.jobs values (%s, 'another database', 1)", [new[12]]))
    with db.cursor() as cursor:
        cursor.execute("flush binary logs")  # from here on the log is another file
    if len(known) > 5:
        gone, back, moved, stays, late = chance.sample(known, 5)
        run(("delete from jobs where job_id = %s", [gone]))
        run(("delete from jobs where job_id = %s", [back]), (insert, history.row(back)))
        run(("update jobs set job_id = %s where job_id = %s", [new[11], moved]))
        run((insert, history.row(moved)))  # its old key is another job's now
        run(("update jobs set kind = 'moved on' where job_id = %s", [new[11]]))
        run(("update jobs set kind = %s where job_id = %s", [f"late {chance.random()}", stays]))
        run(("delete from jobs where job_id = %s", [late]), end="rollback")
    with db.cursor() as cursor:
        cursor.execute("create table if not exists notes (n int)")  # a statement among the rows
        cursor.execute("drop table notes")
    run(("update jobs set kind = 'the last' where job_id = %s", [new[5]]))
