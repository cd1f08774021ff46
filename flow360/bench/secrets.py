"""The figures about the secrets: how long a task waits for its password, and how long for a user of its own."""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from flow360 import clients
from flow360.bench.measure import Round, output, percentile
from flow360.bench.sandbox import engine_of_its_own
from flow360.settings import ROOT, VAULTED, in_force, settings
from flow360.stack.facade import silent
from flow360.stack.model import read_model
from flow360.stack.native.engine import NativeEngine
from flow360.stack.native.programs import Programs

STARTS = 3
"""Tasks of each kind in a round: each is a Python of its own, which takes seconds."""
SIGN_INS = 100
"""Of each kind in a round."""
_TASK = """
import time
from include.connections import database

begin = time.perf_counter()
assert database("shop")["password"]
print(time.perf_counter() - begin)
"""


@contextmanager
def vault_over_environment() -> Iterator[Round]:
    """Compare the milliseconds until a fresh task has its password out of Vault with those out of its environment."""
    with engine_of_its_own() as engine:
        engine.up(["vault"], silent)
        vaulted, plain = _environment(engine, VAULTED), _environment(engine, "")

        def one() -> tuple[float, float]:
            pairs = [(_task(vaulted), _task(plain)) for _ in range(STARTS)]
            ours, anchor = (statistics.median(column) for column in zip(*pairs, strict=True))
            print(f"a password at a task's start: {ours:.1f} ms out of Vault, {ours - anchor:.1f} ms of them for Vault")
            return ours, anchor

        yield one


def _environment(engine: NativeEngine, overlay: str) -> dict[str, str]:
    """Return the variables of Airflow's tasks, with or without vaulted.yaml."""
    model = read_model(env={**in_force(), "COMPOSE_FILE": overlay})
    ours = Programs(model, engine.state).environment(model["airflow-scheduler"])
    return {**os.environ, **ours, "PYTHONPATH": str(ROOT / "dags")}


def _task(environment: dict[str, str]) -> float:
    said = output("a task", [sys.executable, "-c", _TASK], 120, cwd=ROOT, env=environment)
    return float(said.split()[-1]) * 1000


@contextmanager
def borrowed_over_kept() -> Iterator[Round]:
    """Compare the milliseconds until PostgreSQL answers a user of Vault's with one that stays: 95th percentiles."""
    with engine_of_its_own() as engine:
        engine.up(["vault", "postgres-databases"], silent)
        vault, mine = clients.vault(), settings()
        at = {"host": "127.0.0.1", "port": mine.postgres_dwh_port, "dbname": mine.postgres_dwh_db}
        kept = {"user": mine.postgres_dwh_user, "password": mine.postgres_dwh_password}

        def borrow() -> tuple[dict[str, str], Callable[[], Any]]:
            lent = vault.secrets.database.generate_credentials("pipeline")
            who = {"user": lent["data"]["username"], "password": lent["data"]["password"]}
            return who, lambda: vault.sys.revoke_lease(lent["lease_id"])

        def one() -> tuple[float, float]:
            loans, visits = [], []
            for _ in range(SIGN_INS):
                loans.append(_answered(at, borrow))
                visits.append(_answered(at, lambda: (kept, lambda: None)))
            for what, found in (("borrowed", loans), ("kept", visits)):
                print(f"a user, {what}: p50 {percentile(found, 50):.1f} ms, p95 {percentile(found, 95):.1f} ms")
            return percentile(loans, 95), percentile(visits, 95)

        yield one


def _answered(at: dict[str, Any], user: Callable[[], tuple[dict[str, str], Callable[[], Any]]]) -> float:
    """Measure the milliseconds until a user's first answer; the user is given back afterwards."""
    begin = time.perf_counter()
    who, give_back = user()
    try:
        with psycopg.connect(**at, **who, connect_timeout=10) as db:
            db.execute("select 1")
            return (time.perf_counter() - begin) * 1000
    finally:
        give_back()
