"""Exercise 1: a connector that runs, says what was asked for, and keeps its secrets."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

import psycopg

from flow360 import clients
from flow360.checks.compare import Row, expect_rows
from flow360.checks.draw import MONEY, TEXTS, a_word, draw
from flow360.checks.verdict import NotYet, exercise, expect, expect_equal, expect_type
from flow360.clients.brokers import kafka_admin
from flow360.errors import FlowError, ServiceError
from flow360.ingestion import capture, connect
from flow360.ingestion.topics import NoSuchTopic
from flow360.settings import settings
from flow360.waiting import wait_for

NAME = "lab10"
REFUNDS, REASONS = f"cdc.{NAME}.lab10.refunds", f"cdc.{NAME}.lab10.reasons"
FASTEST = 50
"""Milliseconds between two looks at the log, at most."""
SECONDS = 8


@exercise
def own_capture(config: Any) -> None:
    """Run it as `lab10` over tables that were made a moment ago; its topics hold what happened, and no more."""
    mine = _as_told(config)
    chance = draw()
    capture.end(NAME)
    with _tables(chance) as (db, truth, secret):
        try:
            _run(mine)
            _something_happens(db, chance, truth, secret)
            _expect_said(truth, secret)
        finally:
            capture.end(NAME)


def _as_told(config: Any) -> dict[str, str]:
    """Check what can be seen before it runs."""
    expect_type("config", config, Mapping)
    mine = {str(key): value if isinstance(value, str) else json.dumps(value) for key, value in config.items()}
    text = json.dumps(mine)
    for name in ("shop_capture", "postgres_source", "kafka_connect", "kafka"):
        expect(getattr(settings(), f"{name}_password") not in text, f"config: a password stands in it, that of {name}")
    for key, wanted in {"slot.name": NAME, "publication.name": NAME, "topic.prefix": f"cdc.{NAME}"}.items():
        expect_equal(f"config: {key}", found=mine.get(key), expected=wanted)
    made = mine.get("publication.autocreate.mode")
    expect_equal("config: publication.autocreate.mode", found=made, expected="disabled", why="it is there already")
    poll = mine.get("poll.interval.ms", "500")
    expect(
        poll.strip('"').isdecimal() and 0 < int(poll.strip('"')) <= FASTEST,
        f"config: it looks for changes every {poll} ms, and should at least every {FASTEST} ms",
    )
    return mine


@contextmanager
def _tables(chance: random.Random) -> Iterator[tuple[psycopg.Connection, dict[int, Row], str]]:
    """Make four tables, all in the publication; give the rows of the first, and a word that nobody may see."""
    secret = a_word(chance)
    with clients.postgres("source", autocommit=True) as db:
        db.execute("drop schema if exists lab10 cascade")
        db.execute("create schema lab10")
        db.execute(
            """create table lab10.refunds (refund_id bigint primary key, amount_eur numeric(10, 2) not null,
                 reason text, iban text not null, refunded_at timestamptz not null)"""
        )
        for name in ("reasons", "salaries", "refunds_old"):
            db.execute(f"create table lab10.{name} (id int primary key, text text)")
            db.execute(f"insert into lab10.{name} values (1, %s)", ["as it was" if name == "reasons" else secret])
        keys = chance.sample(range(1, 10**9), 30)
        truth = {key: {"refund_id": key, "amount_eur": chance.choice(MONEY), "op": "r"} for key in keys}
        for key, row in truth.items():
            _insert(db, key, row["amount_eur"], chance.choice(TEXTS), secret)
        names = ("refunds", "reasons", "salaries", "refunds_old")
        capture.publish(capture.config(NAME, *(f"lab10.{name}" for name in names)))
        try:
            yield db, truth, secret
        finally:
            db.execute("set lock_timeout = '10s'")
            db.execute("drop schema if exists lab10 cascade")


def _insert(db: psycopg.Connection, key: int, amount: str, reason: str, iban: str) -> None:
    db.execute(
        "insert into lab10.refunds values (%s, %s, %s, %s, '2026-10-25 00:30:00.123456+00')",
        [key, Decimal(amount), reason, iban],
    )


def _run(mine: dict[str, str]) -> None:
    worker = clients.connect()
    kind = mine.get("connector.class", "").rpartition(".")[2] or "none"
    try:
        asked = mine | {"name": NAME}
        found = worker.put(f"/connector-plugins/{kind}/config/validate", json=asked).json()["configs"]
        errors = [error for one in found for error in (one["value"] or {}).get("errors") or ()]
        expect(not errors, f"config: the worker refuses it: {(errors or [''])[0]}")
        worker.post("/connectors", json={"name": NAME, "config": asked})
    except ServiceError:
        raise
    except FlowError as refused:
        raise NotYet(f"config: the worker refuses it: {refused.message}") from None

    def decided() -> list[dict[str, Any]]:
        tasks = connect.state(worker, NAME)["tasks"]
        return tasks if tasks and {one["state"] for one in tasks} <= {"RUNNING", "FAILED"} else []

    for task in wait_for(decided, SECONDS, "the connector to begin"):
        _expect_well(task)
    shown = json.dumps(worker.get(f"/connectors/{NAME}/config").json())
    expect(settings().shop_capture_password not in shown, "config: the worker shows the password to anyone who asks")


def _expect_well(task: dict[str, Any]) -> None:
    if task["state"] == "FAILED":
        raise NotYet(f"config: its task has failed: {connect.cause(task) or 'it does not say why'}")


def _said(topic: str) -> list[capture.Change]:
    try:
        return capture.changes(topic)
    except NoSuchTopic:
        return []


def _something_happens(db: psycopg.Connection, chance: random.Random, truth: dict[int, Row], secret: str) -> None:
    """Change all tables; the last change is a refund, and when that has come, all before it have."""
    first = next(iter(truth))
    # Not before the tables are read: what is changed during that belongs to either.
    _until(lambda: len(_said(REFUNDS)) >= len(truth), f"the {len(truth)} refunds that were there before it began")
    for name in ("salaries", "refunds_old", "reasons"):
        db.execute(f"insert into lab10.{name} values (2, %s)", ["new" if name == "reasons" else secret])
    new, last = (number + 10**9 for number in chance.sample(range(10**6), 2))
    _insert(db, new, "0.29", "new", secret)
    db.execute("update lab10.refunds set amount_eur = 19.99 where refund_id = %s", [new])
    db.execute("delete from lab10.refunds where refund_id = %s", [first])
    _insert(db, last, "1.15", "last", secret)
    truth[-1] = {"refund_id": new, "amount_eur": "0.29", "op": "c"}
    truth[-2] = {"refund_id": new, "amount_eur": "19.99", "op": "u"}
    truth[-3] = {"refund_id": first, "amount_eur": None, "op": "d"}
    truth[-4] = {"refund_id": last, "amount_eur": "1.15", "op": "c"}
    _until(lambda: last in [one.key.get("refund_id") for one in _said(REFUNDS)], "a refund that was entered just now")
    _until(lambda: len(_said(REASONS)) >= 2, "the two reasons", REASONS)
    _until(lambda: [one for one in _said(REFUNDS) if one.value is None], "the tombstone behind a delete")


def _until(condition: Any, what: str, topic: str = REFUNDS) -> None:
    try:
        wait_for(condition, SECONDS, what, every=0.3)
    except ServiceError:
        raise
    except FlowError:
        for task in connect.state(clients.connect(), NAME)["tasks"]:
            _expect_well(task)
        raise NotYet(f"config: the connector runs, and {what}: not in {topic} after {SECONDS} s") from None


def _expect_said(truth: dict[int, Row], secret: str) -> None:
    found = _said(REFUNDS)
    shapeless = [one for one in found if one.value is not None and "op" not in one.value]
    expect(not shapeless, "config: a change has no op any more: others want the whole envelope")
    with kafka_admin() as admin:
        names = [name for name in admin.list_topics() if name.startswith(f"cdc.{NAME}.")]
    if more := sorted(set(names) - {REFUNDS, REASONS}):
        raise NotYet(f"config: there is a topic that was not asked for: {more[0]}")
    for one in found:
        if secret in json.dumps([one.key, one.value]):
            raise NotYet(f"config: the IBAN stands in a message, that of refund {one.key.get('refund_id')}")
    rows_said = [
        {"refund_id": one.key["refund_id"], "amount_eur": one.after and one.after["amount_eur"], "op": one.op}
        for one in found
        if one.value
    ]
    for row in rows_said:
        expect(
            row["amount_eur"] is None or isinstance(row["amount_eur"], str),
            f"config: refund {row['refund_id']}: amount_eur is {row['amount_eur']!r}, expected a text such as '12.50'",
        )
    expect_rows("config", found=rows_said, expected=truth.values(), key=("refund_id", "op"), what="changes")
    moments = {one.after["refunded_at"] for one in found if one.after}
    expect(
        moments == {"2026-10-25T00:30:00.123456Z"},
        f"config: refunded_at is {sorted(map(repr, moments))[0]}, expected '2026-10-25T00:30:00.123456Z'",
    )
