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
ENVELOPE = {"before", "after", "source", "op", "ts_ms"}
MOMENT = "2026-10-25T00:30:00.123456Z"


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
        truth = {key: _told(key, "r", chance.choice(MONEY), chance.choice((None, *TEXTS))) for key in keys}
        for key, row in truth.items():
            _insert(db, key, row["amount_eur"], row["reason"], secret)
        names = ("refunds", "reasons", "salaries", "refunds_old")
        capture.publish(capture.config(NAME, *(f"lab10.{name}" for name in names)))
        try:
            yield db, truth, secret
        finally:
            db.execute("set lock_timeout = '10s'")
            db.execute("drop schema if exists lab10 cascade")


def _told(key: int, op: str, amount: str | None = None, reason: str | None = None) -> Row:
    """Say what a message is to tell of a refund; without an amount, of one that is gone."""
    moment = MOMENT if amount else None
    return {"refund_id": key, "op": op, "amount_eur": amount, "reason": reason, "refunded_at": moment}


def _insert(db: psycopg.Connection, key: int, amount: str, reason: str | None, iban: str) -> None:
    db.execute("insert into lab10.refunds values (%s, %s, %s, %s, %s)", [key, Decimal(amount), reason, iban, MOMENT])


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
    truth[-1] = _told(new, "c", "0.29", "new")
    truth[-2] = _told(new, "u", "19.99", "new")
    truth[-3] = _told(first, "d")
    truth[-4] = _told(last, "c", "1.15", "last")
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
    found, reasons = _said(REFUNDS), _said(REASONS)
    for one in (*found, *reasons):
        if one.value is not None and (less := sorted(ENVELOPE - set(one.value))):
            raise NotYet(f"config: a change has no {less[0]} any more: others want the whole envelope")
    with kafka_admin() as admin:
        names = [name for name in admin.list_topics() if name.startswith(f"cdc.{NAME}.")]
    if more := sorted(set(names) - {REFUNDS, REASONS}):
        raise NotYet(f"config: there is a topic that was not asked for: {more[0]}")
    for one in found:
        if secret in json.dumps([one.key, one.value]):
            raise NotYet(f"config: the IBAN stands in a message, that of refund {one.key.get('refund_id')}")
        if "iban" in (one.before or {}) or "iban" in (one.after or {}):
            raise NotYet("config: the column iban is still in the messages, whatever stands in it")
    there = [
        {**dict.fromkeys(_told(0, "")), **one.key, **(one.after or {}), "op": one.op} for one in found if one.value
    ]
    for row in there:
        amount = row["amount_eur"]
        expect(
            amount is None or isinstance(amount, str),
            f"config: refund {row['refund_id']}: amount_eur is {amount!r}, expected a text such as '12.50'",
        )
    expect_rows("config", found=there, expected=truth.values(), key=("refund_id", "op"), what="changes of refunds")
    expect_rows(
        "config, table reasons",
        found=[{**one.key, "text": (one.after or {}).get("text"), "op": one.op} for one in reasons if one.value],
        expected=[{"id": 1, "text": "as it was", "op": "r"}, {"id": 2, "text": "new", "op": "c"}],
        key=("id", "op"),
        what="changes of reasons",
    )
