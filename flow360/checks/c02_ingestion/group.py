"""Exercise 2: a consumer group that loses nothing when it is killed between its two writes."""

from __future__ import annotations

import json
import random
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from flow360 import clients
from flow360.checks import liberal
from flow360.checks.apart import Apart, apart
from flow360.checks.c02_ingestion.topic import SECONDS, fresh, lab_topic, lag
from flow360.checks.compare import Row, expect_rows, rows
from flow360.checks.draw import MONEY, draw
from flow360.checks.verdict import NotYet, exercise, expect
from flow360.ingestion import groups
from flow360.waiting import patient, wait_for

ORDERS, GATE_AT, GATE = 600, 220, 36_002
"""Orders that are sent; the row whose commit is held up; the advisory lock that holds it."""


@exercise
def safe_group(take_orders: Any) -> None:
    """Check that all orders of a topic are in a table, as sent, though a kill came as the database committed."""
    liberal.function("take_orders", take_orders)
    orders = _orders(draw())
    table, group = f"staging.lab02_{uuid.uuid4().hex[:8]}", fresh()
    with lab_topic("orders") as topic, _gated(table) as gate:
        _send(topic, orders)
        with apart(take_orders, topic, group, table) as first:
            wait_for(lambda: gate.waiting() or first.ended, SECONDS, "the first rows")
            if not gate.waiting():
                _ended_early(first, table)
            expect(_members(group), f"take_orders: it writes rows, and nobody is a member of {group}: who reads?")
            first.kill()
            gate.open()
        _take_out(group)
        with apart(take_orders, topic, group, table) as second:
            _finish(second, topic, group, table)
            trouble = second.error
        found, behind = rows(f"select order_id, total_eur from {table}"), sum(lag(group, topic).values())
    if len(found) < ORDERS:
        lost = f"take_orders: {ORDERS - len(found)} of {ORDERS} orders are lost"
        raise NotYet(
            f"{lost}, and it ended with {trouble}"
            if trouble
            else f"{lost} after a kill as the database was about to commit: what did Kafka know by then?"
        )
    expect(not trouble, f"take_orders: all orders are there, but it ended with {trouble}")
    expect_rows("take_orders", found=found, expected=orders, key=("order_id",), what="orders")
    expect(
        behind == 0, f"take_orders: the table is complete, but the group's lag is still {behind}: nothing was committed"
    )


def _orders(chance: random.Random) -> list[Row]:
    numbers = chance.sample(range(1, 10**7), ORDERS)
    return [
        {"order_id": number, "total_eur": float(chance.choice(MONEY)) if n % 9 == 0 else chance.randrange(99999) / 100}
        for n, number in enumerate(numbers)
    ]


def _send(topic: str, orders: list[Row]) -> None:
    with clients.producer(acks="all") as out:
        for number, order in enumerate(orders):
            # Some twice: at least once means that, whether or not a reader is killed.
            for _ in range(2 if number % 50 == 7 else 1):
                out.send(topic, json.dumps(order).encode(), str(order["order_id"]).encode())


class _Gate:
    """Holds up the commit of one row by a lock, so that the kill is sure to fall before the database has committed."""

    def __init__(self, db: Any, table: str) -> None:
        self.db, self.table, self._closed = db, table, True

    def waiting(self) -> list[int]:
        """Find the server processes that stand before the gate."""
        found = self.db.execute(
            "select pid from pg_locks where locktype = 'advisory' and objid = %s and not granted", [GATE]
        )
        return [pid for (pid,) in found]

    def open(self) -> None:
        """End the sessions that wait (their client is dead) and let everybody through from now on."""
        if self._closed:
            self._closed = False
            self.db.execute("select pg_terminate_backend(pid, 5000) from unnest(%s::int[]) as pid", [self.waiting()])
            self.db.execute("select pg_advisory_unlock(%s)", [GATE])
            self.db.execute(f"drop trigger if exists gate on {self.table}")


@contextmanager
def _gated(table: str) -> Iterator[_Gate]:
    with clients.postgres(autocommit=True) as db:
        db.execute("select pg_advisory_lock(%s)", [GATE])
        db.execute(f"create table {table} (order_id bigint primary key, total_eur numeric(10,2))")
        db.execute(f"create sequence {table}_seen")
        db.execute(f"""
            create function {table}_gate() returns trigger language plpgsql as $$ begin
                if nextval('{table}_seen') > {GATE_AT} then perform pg_advisory_xact_lock_shared({GATE}); end if;
                return null;
            end $$""")
        # Deferred: it is called by COMMIT, when all rows of the transaction are written and none is kept yet.
        db.execute(f"""
            create constraint trigger gate after insert on {table} deferrable initially deferred
            for each row execute function {table}_gate()""")
        gate = _Gate(db, table)
        try:
            yield gate
        finally:
            gate.open()
            db.execute("set lock_timeout = '10s'")
            db.execute(f"drop table {table}")
            db.execute(f"drop function {table}_gate")
            db.execute(f"drop sequence {table}_seen")


def _count(table: str) -> int:
    return rows(f"select count(*) as n from {table}")[0]["n"]


def _ended_early(process: Apart, table: str) -> None:
    if process.error:
        raise NotYet(f"take_orders: it ended with {process.error}")
    raise NotYet(
        f"take_orders: it ended with {_count(table)} of {ORDERS} rows in the table, before anything went wrong"
    )


def _members(group: str) -> list[str]:
    (described,) = groups.ask_coordinator(lambda admin: admin.describe_groups([group])).values()
    return [one["member_id"] for one in described["members"]]


def _take_out(group: str) -> None:
    """Take the dead member out of its group, as an operator can who does not want to wait until its session ends."""
    from kafka.admin import MemberToRemove

    def nobody() -> bool:
        members = [MemberToRemove(member_id=one) for one in _members(group)]
        if members:
            groups.ask_coordinator(lambda admin: admin.remove_group_members(group, members))
        return not members

    wait_for(nobody, 60, "the dead reader to be out of its group", every=0.5)


def _finish(process: Apart, topic: str, group: str, table: str) -> None:
    """Wait until it has ended, or all is done, or nothing has moved for so long that nothing will."""
    seen, since = (-1, -1), time.monotonic()

    def over() -> bool:
        nonlocal seen, since
        state = (_count(table), sum(lag(group, topic).values()))
        if state != seen:
            seen, since = state, time.monotonic()
        return process.ended or state == (ORDERS, 0) or time.monotonic() - since > patient(_quiet(*state))

    wait_for(over, 120, "the second reader", every=0.5)


def _quiet(there: int, behind: int) -> float:
    """Return after how many seconds without a change a reader has done what it will do.

    Args:
        there: rows in the table.
        behind: the group's lag.
    """
    if not behind:
        return 3  # it has said that it is done with all of them
    return 8 if there == ORDERS else 15  # automatic commits come every five seconds; and a reader has to start first
