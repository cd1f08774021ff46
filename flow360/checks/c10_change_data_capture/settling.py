"""Exercise 4: what is gone after a new snapshot, of which no message speaks."""

from __future__ import annotations

import random
from decimal import Decimal
from typing import Any

from flow360.checks import liberal
from flow360.checks.c10_change_data_capture.setting import Log, bring, fill, held, target
from flow360.checks.compare import Row, expect_rows
from flow360.checks.draw import MONEY, draw
from flow360.checks.verdict import exercise, limited
from flow360.ingestion.capture import Change

PARTITIONS = 3


@exercise
def after_snapshot(settle: Any) -> None:
    """Compare `lab10.refunds` after a snapshot that is not complete yet, one that is, and both once more."""
    call = limited(liberal.function("settle", settle), 10, "settle")
    chance = draw()
    for last in ("last", "last_in_data_collection"):
        scene = _Scene(chance, last)
        with target():
            fill(scene.before)
            bring(call, scene.begun)
            _expect(scene.while_begun, "while the snapshot is not complete", "can you know by then what is missing?")
            for when in ("after the snapshot and what came behind it", "after the same once more"):
                bring(call, scene.changes)
                _expect(scene.truth, when, "which rows does the snapshot not name, and how new are they?")
            bring(call, [])
            _expect(scene.truth, "after no change at all", "what does an empty list say?")
        with target():
            fill(scene.before)
            bring(call, scene.nearly)
            when = "while the snapshot is not complete, and changes after it have come"
            _expect(scene.while_nearly, when, "can you know by then what is missing?")


class _Scene:
    """A table as an older slot has left it, the messages of a new one, and what the table is to hold."""

    def __init__(self, chance: random.Random, last: str) -> None:
        self.chance, self.log = chance, Log(chance)
        keys = chance.sample(range(1, 10**9), 40)
        stays, lost, marked, new, dies, changes, later = (
            keys[:12],
            keys[12:18],
            keys[18:22],
            keys[22:28],
            keys[28:31],
            keys[31:36],
            keys[36:],
        )
        # What the older slot has brought, before it was lost.
        self.before = [self._held(key) for key in (*stays, *lost, *dies, *changes)]
        self.before += [{**self._held(key), "gone": True} for key in marked]
        # The rows of the snapshot; the table is read in the order of its keys, and its topic has three partitions.
        there = sorted([*stays, *new, *dies, *changes, marked[0]])
        # A key stays in its partition. The last row of the snapshot has others behind it in the list, and before it
        # stands a tombstone.
        self.partition = {key: chance.randrange(PARTITIONS) for key in keys}
        self.partition |= dict.fromkeys(stays[:2], 2) | dict.fromkeys(dies[:2], 0) | {there[-1]: 1}
        marks = ["first", *["true"] * (len(there) - 2), last]
        read = [self._say("r", key, mark, moves=mark == "first") for key, mark in zip(there, marks, strict=True)]
        place = self.log.lsn
        # Two that were made after the view, and were brought before this call: newer, and so not lost.
        newer = [self._held(key) for key in later[:2]]
        self.before += newer
        stream = [self._say("u", key) for key in changes]
        stream += [self._say("c", key) for key in later[2:]]
        for key in dies:
            stream += [self._say("d", key), self.log.tombstone({"refund_id": key}, self.partition[key])]
        self.changes = _by_partition([*read, *stream])
        self.begun = _by_partition(read[: len(read) // 2])
        # One partition is behind the others, which have changes after the snapshot already.
        behind = self.partition[there[-1]]
        self.nearly = _by_partition([*read[:-1], *(one for one in stream if one.record.partition != behind)])
        self.while_begun = _carried(self.before, self.begun)
        self.while_nearly = _carried(self.before, self.nearly)
        self.truth = [
            {**row, "gone": True, "lsn": place, "amount_eur": None, "letter": None} if row["refund_id"] in lost else row
            for row in _carried(self.before, self.changes)
        ]

    def _held(self, key: int) -> Row:
        self.log.lsn += self.chance.randrange(40, 400)
        amount = Decimal(self.chance.choice(MONEY))
        return {"refund_id": key, "gone": False, "lsn": self.log.lsn, "amount_eur": amount, "letter": "old"}

    def _say(self, op: str, key: int, snapshot: str = "false", moves: bool = True) -> Change:
        row = {"refund_id": key, "amount_eur": self.chance.choice(MONEY), "letter": f"{op} {key}"}
        name = {"refund_id": key}
        return self.log.say(
            op, name, None if op == "d" else row, snapshot=snapshot, partition=self.partition[key], moves=moves
        )


def _by_partition(changes: list[Change]) -> list[Change]:
    return sorted(changes, key=lambda one: one.record.partition)


def _carried(there: list[Row], changes: list[Change]) -> list[Row]:
    """Work out what a table holds after all these changes; of a row that is gone only that, and its place."""
    state = {row["refund_id"]: row for row in there}
    for one in changes:
        key = one.key["refund_id"]
        if one.value is None or (key in state and state[key]["lsn"] >= one.lsn):
            continue
        row = one.after or {"amount_eur": None, "letter": None}
        amount = row["amount_eur"] and Decimal(row["amount_eur"])
        state[key] = {
            "refund_id": key,
            "gone": one.after is None,
            "lsn": one.lsn,
            "amount_eur": amount,
            "letter": row["letter"],
        }
    return [{**row, "amount_eur": None, "letter": None} if row["gone"] else row for row in state.values()]


def _expect(truth: list[Row], when: str, why: str) -> None:
    expect_rows(f"settle, {when}", found=held(), expected=truth, key=("refund_id",), what="refunds", why=why)
