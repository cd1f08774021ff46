"""PostgreSQL dies under concurrent transfers; the player of a day dies, and the database under it."""

from __future__ import annotations

import contextlib
import random
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import psutil
import psycopg
import pytest

from flow360 import clients
from flow360.errors import FlowError
from flow360.primeur import plays
from flow360.primeur.day import day
from flow360.primeur.manifest import manifest
from flow360.primeur.plan import DAY
from flow360.primeur.schema import TABLES
from flow360.primeur.snapshot import seed_table
from tests.faults.support import SEED, kill, recovered, report, until
from tests.lineage import at_rest

SERVICES = ("postgres-dwh", "primeur-load", "market-day", "market-sensors")

ACCOUNTS, OPENING, TRANSFERS, THREADS = 20, 1000, 1000, 8


@pytest.mark.timeout(200)
@pytest.mark.parametrize("victim", ["server", "backend"])
def test_postgres_killed_under_transfers(stack, table, victim):
    """Fault 7: no cent appears or disappears, and a commit that was acknowledged is there.

    `server` kills all processes of PostgreSQL; `backend` kills one session's, at which the server ends all the others
    and recovers by itself.
    """
    accounts = table("id int primary key, balance bigint not null check (balance >= 0)")
    log = table("number int primary key, source int, target int, amount int")
    with clients.postgres() as db:
        for number in range(ACCOUNTS):
            db.execute(f"insert into {accounts} values (%s, %s)", (number, OPENING))
    acked, failed, unknown = set(), set(), set()
    progress, found = threading.Event(), {}
    lock = threading.Lock()

    def transfer(number: int) -> None:
        """One transfer, tried once; connections are made again after the server's return."""
        chance = random.Random(SEED * 10_000 + number)
        source, target = chance.sample(range(ACCOUNTS), 2)
        amount = chance.randrange(1, 20)
        db = until(connect, "a connection", 60)
        with db:
            committing = False
            try:
                # Always in the same order, or two transfers would wait for each other.
                for account, change in sorted([(source, -amount), (target, amount)]):
                    db.execute(f"update {accounts} set balance = balance + %s where id = %s", (change, account))
                db.execute(f"insert into {log} values (%s, %s, %s, %s)", (number, source, target, amount))
                committing = True
                db.commit()
                outcome = acked
            except psycopg.errors.CheckViolation:
                db.rollback()
                outcome = failed
            except psycopg.OperationalError:
                # Before the commit was asked for, nothing can have happened; after it, nobody knows.
                outcome = unknown if committing else failed
        with lock:
            outcome.add(number)
            if len(acked) == TRANSFERS // 3:
                progress.set()

    def connect() -> psycopg.Connection | None:
        try:
            return clients.postgres()
        except FlowError:
            return None

    def kill_a_session(server: psutil.Process) -> bool:
        """Sessions are short here: one may end between being seen and being killed."""
        for process in server.children():
            with contextlib.suppress(psutil.NoSuchProcess):
                if " datawarehouse " in " ".join(process.cmdline()):
                    process.kill()
                    return True
        return False

    def killer() -> None:
        assert progress.wait(60)
        server = psutil.Process(stack.host.pids()["postgres-dwh"])
        if victim == "server":
            moment = kill(stack, "postgres-dwh")
        else:
            until(lambda: kill_a_session(server), "a session to kill", 30, pause=0)
            moment = time.monotonic()
        found["acked_at_kill"] = len(acked)
        found["recovery"] = recovered(stack, "postgres-dwh", moment)

    thread = threading.Thread(target=killer)
    thread.start()
    with ThreadPoolExecutor(THREADS) as pool:
        for future in [pool.submit(transfer, number) for number in range(TRANSFERS)]:
            future.result()
    thread.join(90)
    assert "recovery" in found
    with clients.postgres() as db:
        total = db.execute(f"select sum(balance) from {accounts}").fetchone()[0]
        there = {number for (number,) in db.execute(f"select number from {log}")}
        wrong = db.execute(
            f"""select count(*) from {accounts} a where balance <> {OPENING}
                  + coalesce((select sum(amount) from {log} where target = a.id), 0)
                  - coalesce((select sum(amount) from {log} where source = a.id), 0)"""
        ).fetchone()[0]
    report(
        f"7 PostgreSQL killed ({victim})",
        transfers=TRANSFERS,
        acked=len(acked),
        failed=len(failed),
        unknown=len(unknown),
        unknown_that_happened=len(unknown & there),
        lost=len(acked - there),
        sum_off_by=total - ACCOUNTS * OPENING,
        wrong_balances=wrong,
        **found,
    )
    assert len(acked) + len(failed) + len(unknown) == TRANSFERS
    assert acked <= there
    assert not failed & there
    assert total == ACCOUNTS * OPENING
    assert wrong == 0
    assert 0 < found["acked_at_kill"] < len(acked), "it was to be killed in the middle and to go on afterwards"


DEATHS = (  # the vans leave at 0.44
    (0.1, "market-day"),
    (0.5, "market-sensors"),
    (0.55, "market-day"),
    (0.6, "postgres-source"),
    (0.7, "market-day"),
)
SPEED = 7_200  # a day in twelve seconds
PLAYED = ("orders", "order_lines", "payments", "deliveries", "reviews", "temperatures", "weather")


@pytest.mark.timeout(300)
def test_a_played_day_survives_what_dies_under_it(stack, started):
    """The player is killed again and again, the database and the vans once: the day is the same, no reading is lost."""
    started("primeur-load", "market-day", "market-sensors")
    texts: list[str] = []
    begun = datetime.now(UTC)
    client = clients.mqtt(on_message=lambda _client, _data, message: texts.append(message.payload.decode()))
    client.subscribe("primeur/vans/+/temperature", qos=1)
    played = plays.play(DAY, SPEED)
    positions = []
    for share, victim in DEATHS:
        positions.append(until(lambda share=share: _beyond(played, share), f"{share:.0%} of the day", 60))
        kill(stack, victim)
    until(lambda: _beyond(played, 0.75), "the day to go on", 60)
    with pytest.raises(FlowError, match="one day at a time"):
        plays.play(DAY - timedelta(days=1))
    assert plays.play(DAY, 0).number == played.number, "the same day again only changes its speed"
    state = played.wait(60)
    client.disconnect()
    client.loop_stop()
    # a message that was cut has its run and its number, too
    numbers = (re.match(rf'{{"run": "{played.run}", "reading_id": (\d+),', text) for text in texts)
    readings = [int(number[1]) for number in numbers if number]
    wrong = {name: _differences(name) for name in PLAYED}
    expected = manifest().head["messages"]
    report(
        "a day is played",
        killed=len(DEATHS),
        at="/".join(f"{position:.2f}" for position in positions),
        orders=sum(state.orders.values()),
        rows_that_differ=sum(wrong.values()),
        readings=len(set(readings)),
        readings_lost=expected["readings"] - len(set(readings)),
        readings_again=len(readings) - expected["sent"],
    )
    assert not any(wrong.values()), wrong
    assert state.vans == "complete"
    assert len(set(readings)) == expected["readings"]
    until(lambda: not at_rest("day", begun), "each arrow of README's picture to have carried something", 40)


def _beyond(played: plays.Play, share: float) -> float | None:
    """The share of its events that are applied, once the clock is beyond a share of the day, which is not over yet."""
    with contextlib.suppress(FlowError, psycopg.OperationalError):
        state = played.state()
        assert not state.ended, f"it was over before {share:.0%}"
        clock = state.clock and state.clock.hour / 24
        return state.share if clock and clock >= share else None
    return None


def _differences(name: str) -> int:
    """Rows of the day that the shop has and the committed week has not, or the other way round."""
    today = day(DAY)
    column, values = {
        "temperatures": ("route_id", {event.subject for event in today.events if event.what == "returned"}),
        "weather": ("observed_at", {datetime.fromtimestamp(s, UTC) for s in range(today.opens, today.closes, 3600)}),
    }.get(name, ("order_id", {event.subject for event in today.events if event.what in ("placed", "tried")}))
    with clients.postgres("source") as db:
        query = f"select {', '.join(TABLES[name].names)} from {name} where {column} = any(%s)"
        found = set(db.execute(query, [list(values)]).fetchall())
    return len(found ^ {tuple(row.values()) for row in seed_table(name).to_pylist() if row[column] in values})
