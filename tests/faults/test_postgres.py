"""PostgreSQL dies under concurrent transfers."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import psutil
import psycopg
import pytest

from flow360 import clients
from flow360.errors import FlowError
from tests.faults.support import SEED, kill, recovered, report, until

SERVICES = ("postgres-dwh",)

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
        """One transfer, tried once; connections are made anew after the server's return."""
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
