"""Exercise 1: several who load one van at the same time, in MySQL at its default isolation."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from typing import Any

import pymysql

from flow360.checks import liberal
from flow360.checks.c11_more_sources.setting import fleet, in_mysql, insert, rows_of
from flow360.checks.draw import draw
from flow360.checks.verdict import NotYet, exercise, expect, limited
from flow360.waiting import patient, rounds

TABLES = (
    """create table vans (van_id varchar(9) primary key, payload_kg int not null, loaded_kg int not null default 0)""",
    """create table loads (order_id bigint primary key, van_id varchar(9) not null references vans, kg int not null,
         foreign key (van_id) references vans (van_id))""",
)
AT_ONCE, EACH = 6, 8
IN_TRANSACTION = 1
"""MySQL's flag SERVER_STATUS_IN_TRANS."""


@exercise
def load_van(load: Any) -> None:
    """Load drawn vans alone, behind an old snapshot, beside another program, and by six at a time."""
    call = limited(liberal.function("load", load), 30, "load")
    chance = draw()
    with in_mysql(*TABLES) as db:
        _alone(call, db, chance)
        _behind_a_snapshot(call, db, chance)
        _beside_another(call, db, chance)
        _together(call, db, chance)


def _van(db: Any, name: str, payload: int) -> None:
    insert(db, "vans", [{"van_id": name, "payload_kg": payload}])


def _put(call: Callable[..., Any], session: Any, van: str, order: int, kg: int, expected: bool, when: str) -> None:
    said = _answer(call(session, van, order, kg), when)
    expect(said is expected, f"load: expected {expected}, found {said}: {when}")
    with session.cursor() as cursor:
        cursor.execute("do 0")  # MySQL's answer says, too, whether a transaction is open
    expect(not session.server_status & IN_TRANSACTION, f"load: it has left an open transaction: {when}")


def _answer(said: Any, when: str) -> bool:
    if said not in (True, False):
        raise NotYet(f"load: expected True or False, found {type(said).__name__}: {when}")
    return bool(said)


def _alone(call: Callable[..., Any], db: Any, chance: random.Random) -> None:
    payload, first = chance.randrange(300, 900), chance.randrange(100, 200)
    _van(db, "VAN-A", payload)
    _van(db, "VAN-B", payload)
    order = chance.randrange(10**5, 10**6)
    with fleet() as session:
        _put(call, session, "VAN-A", order, first, True, "an order that fits into an empty van")
        _expect_kept(db, {("VAN-A", order, first)}, "after one order")
        _put(call, session, "VAN-A", order + 1, payload - first + 1, False, "an order that is one kilogram too heavy")
        _put(call, session, "VAN-A", order + 2, payload - first, True, "an order that fills the van to the kilogram")
        _put(call, session, "VAN-A", order + 3, 1, False, "one kilogram more than the van may carry")
        _put(call, session, "VAN-B", order, 5, False, "an order that is in another van already")
        _put(call, session, "VAN-B", order + 4, 7, True, "an order for a van of its own, after one that was refused")
        _put(call, session, "VAN-C", order + 5, 7, False, "a van that does not exist")
    _expect_kept(
        db,
        {("VAN-A", order, first), ("VAN-A", order + 2, payload - first), ("VAN-B", order + 4, 7)},
        "after some orders, one by one",
    )


def _expect_kept(db: Any, expected: set[tuple[str, int, int]], when: str) -> None:
    """Raise NotYet unless other sessions find these loads, and in each van their sum."""
    found = {
        (row["van_id"], row["order_id"], row["kg"]) for row in rows_of(db, "select van_id, order_id, kg from loads")
    }
    if lost := sorted(expected - found):
        raise NotYet(f"load: {when}: order {lost[0][1]} is not in loads: was it committed?")
    if more := sorted(found - expected):
        raise NotYet(f"load: {when}: order {more[0][1]} is in loads, and was refused")
    _expect_sums(db, when)


def _expect_sums(db: Any, when: str) -> None:
    for van in rows_of(
        db,
        """select vans.van_id, payload_kg, loaded_kg, coalesce(sum(kg), 0) as kg
           from vans left join loads using (van_id) group by vans.van_id, payload_kg, loaded_kg""",
    ):
        name, payload, noted, kg = (van[key] for key in ("van_id", "payload_kg", "loaded_kg", "kg"))
        expect(kg <= payload, f"load: {when}: {name} may carry {payload} kg, and its orders weigh {kg}")
        expect(noted == kg, f"load: {when}: {name} says loaded_kg {noted}, and its orders weigh {kg}")


def _behind_a_snapshot(call: Callable[..., Any], db: Any, chance: random.Random) -> None:
    """Let a session look at a van, fill the van from another one, and then load by the first."""
    payload = chance.randrange(50, 90)
    _van(db, "VAN-S", payload)
    _van(db, "VAN-T", payload)
    order, before = chance.randrange(10**6, 10**7), rows_of(db, "select order_id from loads")
    with fleet() as session, fleet() as other:
        rows_of(session, "select * from vans")  # its snapshot is of this moment
        _put(call, other, "VAN-S", order, payload - 3, True, "an order that nearly fills a van")
        _put(call, session, "VAN-S", order + 1, 5, False, "a van that another session has filled in the meantime")
        rows_of(session, "select * from vans")
        _put(call, other, "VAN-T", order + 2, 10, True, "an order for a van that somebody else looks at")
        _put(call, session, "VAN-T", order + 3, 20, True, "a second order, of a session that saw the van empty")
    _expect_sums(db, "after two sessions that took turns")
    after = rows_of(db, "select order_id from loads")
    expect(len(after) == len(before) + 3, "load: two sessions took turns, and not all that was accepted is in loads")


def _beside_another(call: Callable[..., Any], db: Any, chance: random.Random) -> None:
    """Let another program load a van in a transaction that ends only when `load` has begun: it fits, or no longer."""
    order = chance.randrange(2 * 10**7, 10**8)
    for n, (end, kg, expected) in enumerate((("commit", 40, True), ("commit", 41, False), ("rollback", 41, True))):
        name, when = f"VAN-P{n}", f"a van that another program loads just now ({end})"
        _van(db, name, 100)
        with fleet() as session, fleet() as other:
            with other.cursor() as cursor:
                cursor.execute("update vans set loaded_kg = loaded_kg + 60 where van_id = %s", [name])
                cursor.execute("insert into loads values (%s, %s, 60)", [order + 2 * n, name])
            asked: list[Any] = []
            thread = threading.Thread(
                target=_asked, args=(asked, call, session, name, order + 2 * n + 1, kg), daemon=True
            )
            thread.start()
            _until_it_waits(db, session, thread)
            other.commit() if end == "commit" else other.rollback()
            thread.join(patient(10))
            expect(asked, f"load: no answer within {patient(10):.0f} s: {when}")
            if isinstance(asked[0], Exception):
                raise NotYet(f"load: it ended with {type(asked[0]).__name__}: {asked[0]}: {when}")
            said = _answer(asked[0], when)
            expect(said is expected, f"load: expected {expected}, found {said}: {when}")
        _expect_sums(db, f"after {when}")


def _asked(answer: list[Any], call: Callable[..., Any], *args: Any) -> None:
    try:
        answer.append(call(*args))
    except Exception as error:  # noqa: BLE001 - the learner's function may raise anything; it is judged by who asked
        answer.append(error)


def _until_it_waits(db: Any, session: Any, thread: threading.Thread) -> None:
    """Wait until a session waits for a lock; no longer than a second: it may have asked for none, or be done."""
    query = "select 1 from information_schema.innodb_trx where trx_state = 'LOCK WAIT' and trx_mysql_thread_id = "
    for _ in rounds(patient(1), every=0.15):  # whoever asks more often is given the same answer again
        if not thread.is_alive() or rows_of(db, f"{query}{session.thread_id()}"):
            return


def _together(call: Callable[..., Any], db: Any, chance: random.Random) -> None:
    """Load two vans by several sessions at once, more than they may carry."""
    orders = [(f"VAN-{n % 2}", 10**8 + n, chance.randrange(5, 15)) for n in range(AT_ONCE * EACH)]
    payload = sum(kg for _, _, kg in orders) // 3
    for name in ("VAN-0", "VAN-1"):
        _van(db, name, payload)
    said: dict[int, Any] = {}
    sessions = [fleet() for _ in range(AT_ONCE)]

    def work(number: int) -> None:
        for van, order, kg in orders[number::AT_ONCE]:
            try:
                said[order] = _answer(call(sessions[number], van, order, kg), "several at once")
            except Exception as error:  # noqa: BLE001 - the learner's function may raise anything; it is judged below
                said[order] = error
                return

    threads = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(AT_ONCE)]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    finally:
        for session in sessions:
            try:
                session.close()
            except pymysql.Error:
                continue  # it was closed already
    if errors := [one for one in said.values() if isinstance(one, Exception)]:
        raise NotYet(f"load: several at once, and one of them ended with {type(errors[0]).__name__}: {errors[0]}")
    expect(len(said) == len(orders), "load: several at once, and some had not come to an end after a minute")
    _expect_sums(db, "after several at once")
    there = {row["order_id"] for row in rows_of(db, "select order_id from loads where order_id >= 100000000")}
    accepted = {order for order, one in said.items() if one}
    expect(there == accepted, "load: several at once, and what was accepted is not what is in loads")
    for name in ("VAN-0", "VAN-1"):
        left = payload - sum(kg for van, order, kg in orders if van == name and order in accepted)
        lightest = min(kg for van, order, kg in orders if van == name and order not in accepted)
        expect(lightest > left, f"load: {name} has room for {left} kg, and an order of {lightest} kg was refused")
