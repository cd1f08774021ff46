"""Exercise 6: which slot holds the log, and whether anybody reads it."""

from __future__ import annotations

import random
from datetime import timedelta
from typing import Any

from flow360.checks import liberal
from flow360.checks.compare import Row, expect_rows, rows
from flow360.checks.draw import draw
from flow360.checks.scene import ask, scene
from flow360.checks.verdict import NotYet, exercise, expect

HERE = "lab10_scene"
NUMBERS = ("numeric", "a whole number", "a floating-point number")
NOW = 0x7_2000_0000
"""The end of the log in the scene; some of the slots are behind by more than 4 GB, and in another file of the log."""


@exercise
def forgotten_slots(query: Any) -> None:
    """Ask for the slots of a scene, each with what it holds and its verdict, and then for those of the shop itself."""
    text = liberal.statement("query", query)
    chance = draw()
    with scene("query") as db:
        _lay(db)
        for bytes_, minutes in ((2**30, 60), (chance.randrange(10**6, 10**9), chance.randrange(2, 500))):
            drawn = _drawn(db, chance, bytes_, minutes)
            db.execute(f"delete from {HERE}.drawn")
            for row in drawn:
                _add(db, row)
            found = ask(db, "query", text, {"bytes": bytes_, "minutes": minutes})
            held = found.kinds.get("held", "missing")
            expect(held in NUMBERS, f"query: held is {held}, expected a number of bytes")
            expect_rows(
                f"query, with {bytes_:,} bytes and {minutes} minutes",
                found=[{**one, "slot_name": str(one.get("slot_name"))} for one in found.rows],
                expected=[row["told"] for row in drawn if row["told"]],
                key=("slot_name",),
                what="slots",
                why="the first rule that fits",
            )
    _of_the_shop(text)


def _lay(db: Any) -> None:
    """Lay a view over the server's own, with all its columns, out of a table of ours; a log that has an end of ours."""
    db.execute(f"create schema {HERE}")
    db.execute(
        f"""create table {HERE}.drawn (slot_name name, plugin name, slot_type text, database name, temporary boolean,
              active boolean, restart_lsn pg_lsn, confirmed_flush_lsn pg_lsn, wal_status text,
              inactive_since timestamptz)"""
    )
    columns = db.execute(
        """select its.attname, format_type(its.atttypid, null), ours.attname is not null
           from pg_attribute as its left join pg_attribute as ours
             on ours.attrelid = to_regclass(%s) and ours.attname = its.attname
           where its.attrelid = 'pg_catalog.pg_replication_slots'::regclass order by its.attnum""",
        [f"{HERE}.drawn"],
    ).fetchall()
    listed = ", ".join(name if drawn else f"null::{kind} as {name}" for name, kind, drawn in columns)
    db.execute(f"create view {HERE}.pg_replication_slots as select {listed} from {HERE}.drawn")
    for function in ("pg_current_wal_lsn", "pg_current_wal_flush_lsn", "pg_current_wal_insert_lsn"):
        db.execute(
            f"create function {HERE}.{function}() returns pg_lsn language sql as $$ select '{_lsn(NOW)}'::pg_lsn $$"
        )
    db.execute(f"set local search_path = {HERE}, pg_catalog")  # before the server's own, which comes first otherwise


def _lsn(place: int) -> str:
    return f"{place >> 32:X}/{place & 0xFFFFFFFF:X}"


def _drawn(db: Any, chance: random.Random, bytes_: int, minutes: int) -> list[dict[str, Any]]:
    (here,) = db.execute("select current_database()").fetchone()
    wait, little = timedelta(minutes=minutes), chance.randrange(1, bytes_)
    second = timedelta(seconds=30)

    def slot(
        told: str, held: int, *, active: bool = False, since: Any = None, status: str = "reserved", **more: Any
    ) -> dict:
        name = f"s{chance.randrange(10**9)}"
        row = {"slot_name": name, "active": active, "since": since, "held": held, "status": status, **more}
        lost = told == "lost"
        return {**row, "told": told and {"slot_name": name, "held": None if lost else held, "verdict": told}}

    never = timedelta(0)
    found = [
        slot("fine", little, active=True),
        slot("fine", bytes_, active=True),  # not more than
        slot("fine", bytes_ - 1, since=wait - second),
        slot("fine", 0, since=never),
        slot("behind", bytes_ + 1, active=True),
        slot("behind", 5 * 2**32, active=True, status="extended"),
        slot("behind", bytes_ + 1, since=wait - second),  # away, but not for long
        slot("forgotten", little, since=wait + second),
        slot("forgotten", 6 * 2**32, since=10 * wait, status="unreserved"),
        slot("forgotten", 0, since=wait + second, temporary=True),
        slot("lost", 0, since=10 * wait, status="lost", nowhere=True),
        slot("lost", 7 * 2**32, since=second, status="lost"),  # given up by time: its place still stands there
        slot("", 2 * bytes_, since=10 * wait, kind="physical"),
        slot("", 2 * bytes_, since=10 * wait, database="another"),
        slot("", 0, active=True, database="another"),
    ]
    for row in found:
        row.setdefault("database", None if row.get("kind") == "physical" else here)
    chance.shuffle(found)
    return found


def _add(db: Any, row: dict[str, Any]) -> None:
    held = row["held"]
    values = {
        **row,
        "kind": row.get("kind", "logical"),
        "temporary": row.get("temporary", False),
        "restart": None if row.get("nowhere") else _lsn(NOW - held),
        "confirmed": None if row.get("kind") == "physical" else _lsn(NOW - held // 3),
    }
    db.execute(
        f"""insert into {HERE}.drawn (slot_name, plugin, slot_type, database, temporary, active,
              restart_lsn, confirmed_flush_lsn, wal_status, inactive_since)
            values (%(slot_name)s, 'pgoutput', %(kind)s, %(database)s, %(temporary)s, %(active)s,
              %(restart)s, %(confirmed)s, %(status)s, now() - %(since)s::interval)""",
        values,
    )


def _of_the_shop(text: str) -> None:
    """Put the same question to the server that has real slots."""
    import psycopg

    there: list[Row] = rows(
        "select slot_name from pg_replication_slots where slot_type = 'logical' and database = current_database()",
        db="source",
    )
    try:
        found = rows(text, {"bytes": 2**40, "minutes": 10**6}, db="source")
    except psycopg.Error as error:
        raise NotYet(f"query: the shop refuses it: {error.diag.message_primary or error}") from None
    expect(
        {str(one["slot_name"]) for one in found} == {str(one["slot_name"]) for one in there},
        "query: asked of the shop, it does not name the slots that the shop has",
    )
