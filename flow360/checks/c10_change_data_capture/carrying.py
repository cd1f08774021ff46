"""Exercise 2: changes in the warehouse, each with one effect, however often and late it comes."""

from __future__ import annotations

import random
from dataclasses import replace
from decimal import Decimal
from typing import Any

import psycopg

from flow360.checks import liberal
from flow360.checks.c10_change_data_capture.setting import TABLE, UNCHANGED, Log, bring, held, target
from flow360.checks.compare import Row, expect_rows, expect_untouched, fingerprint
from flow360.checks.draw import MONEY, TEXTS, draw
from flow360.checks.verdict import NotYet, exercise, expect, limited
from flow360.ingestion.capture import Change

MANY = 1_200
"""Changes before the one that is refused: whoever commits now and then has done so by then."""


@exercise
def carry_changes(carry: Any) -> None:
    """Compare `lab10.refunds` after batches of changes, some twice, late, or with a row that PostgreSQL refuses."""
    call = limited(liberal.function("carry", carry), 10, "carry")
    chance = draw()
    log = Log(chance)
    stream, truth = _history(log, chance)
    cut = [0, *sorted(chance.sample(range(10, len(stream) - 10), 3)), len(stream)]
    batches = [stream[begin:end] for begin, end in zip(cut, cut[1:], strict=False)]
    with target():
        for number, batch in enumerate(batches):
            bring(call, batch)
            if number:  # a reader that died before it had committed its offset reads a batch again
                bring(call, batch)
        _expect(truth, "after all changes, some batches twice", "is each change taken as it is said?")
        bring(call, [])
        bring(call, batches[0])
        _expect(truth, "after the oldest batch has come once more, at the very end", "which change is the newer one?")
        # In one batch, too, what is older may stand behind what is newer.
        bring(call, [*batches[1], *batches[0]])
        _expect(truth, "after two old batches in one, the older one behind", "which change is the newer one?")
        _newer_first(call, log, chance)
        _all_or_nothing(call, log)
        _risen(call, log, truth)


def _history(log: Log, chance: random.Random) -> tuple[list[Change], list[Row]]:
    """Draw changes of sixty refunds, and what the table is to hold at their end."""
    state: dict[int, Row] = {}
    found: list[Change] = []
    keys = chance.sample(range(1, 10**9), 60)

    def say(op: str, key: int, row: Row | None, snapshot: str = "false", moves: bool = True) -> None:
        name = {"refund_id": key}
        found.append(log.say(op, name, row and {**name, **row}, snapshot=snapshot, moves=moves))
        if row is None:
            found.append(log.tombstone(name))
            state[key] = {"refund_id": key, "gone": True, "lsn": log.lsn, "amount_eur": None, "letter": None}
            return
        known = state.get(key)
        kept = None if known is None or known["gone"] else known["letter"]
        letter = kept if row["letter"] == UNCHANGED else row["letter"]
        amount = Decimal(row["amount_eur"])
        state[key] = {"refund_id": key, "gone": False, "lsn": log.lsn, "amount_eur": amount, "letter": letter}

    for n, key in enumerate(keys[:20]):  # the rows of a snapshot stand at one place
        say("r", key, _row(chance, n), "true", moves=not n)
    for key in keys[20:]:
        say("c", key, _row(chance))
    say("u", 10**9 + 7, {**_row(chance), "letter": UNCHANGED})  # of a row that nobody has brought
    found.append(log.tombstone({"refund_id": 10**9 + 8}))  # compaction has left nothing else of this one
    for n in range(140):
        key = chance.choice(keys)
        if state[key]["gone"]:
            say("c", key, _row(chance))
        elif n % 4 == 3:
            say("d", key, None)
        else:
            say("u", key, {**_row(chance), "letter": UNCHANGED} if n % 3 else _row(chance))
    # At least one of each kind at the end: gone for good, risen with a new letter, kept through two updates.
    gone, again, kept = keys[3], keys[23], keys[33]
    for key in (gone, again, kept):
        if state[key]["gone"]:
            say("c", key, _row(chance))
    say("d", gone, None)
    say("d", again, None)
    say("c", again, {**_row(chance), "letter": None})
    say("u", kept, {**_row(chance), "letter": "kept"})
    say("u", kept, {**_row(chance), "letter": UNCHANGED})
    say("u", kept, {**_row(chance), "letter": UNCHANGED})
    return found, list(state.values())


def _row(chance: random.Random, n: int = 1) -> Row:
    letter = chance.choice((None, "", *TEXTS, "x" * 3000))
    return {"amount_eur": chance.choice(MONEY) if n % 3 else f"{chance.randrange(10**6) / 100:.2f}", "letter": letter}


def _expect(truth: list[Row], when: str, why: str) -> None:
    expect_rows(f"carry, {when}", found=held(), expected=truth, key=("refund_id",), what="refunds", why=why)


def _newer_first(call: Any, log: Log, chance: random.Random) -> None:
    """Bring changes of refunds that are new in any order: the later ones in the topic are not the newer ones."""
    last: dict[int, Row] = {}
    batch: list[Change] = []
    for key in range(3 * 10**9, 3 * 10**9 + 30):
        name = {"refund_id": key}
        for op in ("c", "u", chance.choice("ud")):
            row = {**name, "amount_eur": chance.choice(MONEY), "letter": f"{op} {chance.random()}"}
            batch.append(log.say(op, name, None if op == "d" else row))
            alive = {"amount_eur": Decimal(row["amount_eur"]), "letter": row["letter"]}
            gone = {"amount_eur": None, "letter": None}
            last[key] = {**name, "gone": op == "d", "lsn": log.lsn, **(gone if op == "d" else alive)}
    chance.shuffle(batch)
    offsets = sorted(one.record.offset for one in batch)
    batch = [replace(one, record=replace(one.record, offset=n)) for one, n in zip(batch, offsets, strict=True)]
    bring(call, batch)
    expect_rows(
        "carry, after a batch in which older changes stand behind newer ones",
        found=[row for row in held() if row["refund_id"] in last],
        expected=last.values(),
        key=("refund_id",),
        what="refunds",
        why="which change is the newer one?",
    )


def _all_or_nothing(call: Any, log: Log) -> None:
    """Bring many good changes and one with an amount for which the column has no room, nearly at the end."""
    before = fingerprint(f"select * from {TABLE}")
    amounts = [*["1.00"] * MANY, "100000000.00", "2.00", "3.00"]
    batch = [
        log.say("c", {"refund_id": 2 * 10**9 + n}, {"refund_id": 2 * 10**9 + n, "amount_eur": amount, "letter": None})
        for n, amount in enumerate(amounts)
    ]
    try:
        bring(call, batch)
    except psycopg.Error:
        pass
    else:
        raise NotYet("carry: PostgreSQL refuses an amount in a batch, and carry returned as if all were well")
    expect_untouched(
        "carry",
        "PostgreSQL refused one change of a batch, and the table",
        before,
        fingerprint(f"select * from {TABLE}"),
    )


def _risen(call: Any, log: Log, truth: list[Row]) -> None:
    """Enter a refund that is gone once more: newer than its delete."""
    gone = next(row["refund_id"] for row in truth if row["gone"])
    key = {"refund_id": gone}
    bring(call, [log.say("c", key, {**key, "amount_eur": "4.20", "letter": "again"})])
    (now,) = [row for row in held() if row["refund_id"] == gone]
    expect(
        not now["gone"] and now["letter"] == "again",
        f"carry: refund {gone} was deleted and then entered once more, and is not as it was entered",
    )
