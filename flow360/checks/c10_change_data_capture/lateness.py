"""Exercise 5: how late, and for which table."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from typing import Any

from flow360.checks import liberal
from flow360.checks.c10_change_data_capture.setting import Log
from flow360.checks.draw import draw
from flow360.checks.verdict import NotYet, exercise, expect_equal, expect_type, limited
from flow360.ingestion.capture import Change
from flow360.ingestion.topics import Record

SHARES = {"p50": 50, "p95": 95, "p99": 99}


@exercise
def how_late(lateness: Any) -> None:
    """Compare percentiles over drawn changes, by table: with doubles, snapshots, tombstones, a clock that is ahead."""
    ask = limited(liberal.function("lateness", lateness), 10, "lateness")
    chance = draw()
    for _ in range(3):
        changes, truth = _drawn(chance)
        found = ask(list(changes))
        expect_type("lateness", found, Mapping)
        if lost := sorted(set(truth) - set(found)):
            raise NotYet(f"lateness: nothing is said of the table {lost[0]}, which has changed")
        if more := sorted(map(str, set(found) - set(truth))):
            raise NotYet(f"lateness: there is a line for {more[0]}, of which nothing has changed in this list")
        for table, expected in truth.items():
            _expect_line(table, found[table], expected)
    nothing = ask([])
    expect_equal("lateness", found=dict(nothing), expected={}, why="of no change at all")


def _expect_line(table: str, found: Any, expected: dict[str, Any]) -> None:
    expect_type(f"lateness: of {table}", found, Mapping)
    for name, value in expected.items():
        if name not in found:
            raise NotYet(f"lateness: of {table}: {name} is missing")
        mine = found[name]
        if value is None:
            if mine is not None and not (isinstance(mine, float) and math.isnan(mine)):
                raise NotYet(f"lateness: of {table}: {name} expected None, for there is none to measure, found {mine}")
            continue
        if mine is None:
            raise NotYet(f"lateness: of {table}: {name} is None, and there are changes to measure")
        why = {
            "changes": "which of them are changes, and which is a change that comes again?",
            "early": "those in Kafka before their own commit",
        }.get(name, "the nearest rank, in milliseconds")
        expect_equal(f"lateness: of {table}: {name}", found=liberal.number(name, mine), expected=float(value), why=why)


def _drawn(chance: random.Random) -> tuple[list[Change], dict[str, dict[str, Any]]]:
    logs = {table: Log(chance, table) for table in ("refunds", "reasons", "letters", "quiet", "fast")}
    found: list[Change] = []
    late: dict[str, list[int]] = {}
    # Sizes at which the rank of 95 % is a whole number, and at which it is not.
    for table, size in {
        "refunds": chance.choice((100, 200)),
        "reasons": chance.randrange(21, 39),
        "letters": 1,
    }.items():
        for number in range(size):
            milliseconds = chance.choice((0, 1, 7, chance.randrange(10, 900), chance.randrange(5, 60)))
            one = _at(logs[table], chance, f"{table} {number // 2}", milliseconds)
            found.append(one)
            late.setdefault(table, []).append(milliseconds)
            if number % 10 == 3:  # the worker was killed: the same change once more, seconds later
                again = one.record.timestamp + chance.randrange(2000, 9000)
                found.append(Change(one.key, one.value, _moved(one.record, again)))
    for number in range(5):  # a clock that is ahead
        one = _at(logs["fast"], chance, f"fast {number}", -chance.randrange(1, 40))
        # The same change once more, of which the first time counts: too early again, or when the clock was right.
        again = one.value["source"]["ts_ms"] + (5000 if number % 2 else -1)
        found += [one, Change(one.key, one.value, _moved(one.record, max(one.record.timestamp, again)))]
    found.append(_at(logs["reasons"], chance, "reasons ahead", -1))
    for table in ("quiet", "refunds"):  # what was there before, however long ago
        for number in range(3):
            key = {"id": f"old {number}"}
            one = logs[table].say("r", key, key, snapshot="true")
            found.append(Change(one.key, one.value, _moved(one.record, one.value["source"]["ts_ms"] + 10**7)))
    found.append(logs["quiet"].tombstone({"id": "old 0"}))
    chance.shuffle(found)
    truth = {
        table: {"changes": len(times), "early": int(table == "reasons"), **_percentiles(times)}
        for table, times in late.items()
    }
    truth["fast"] = {"changes": 0, "early": 5, **dict.fromkeys(SHARES)}
    return found, truth


def _at(log: Log, chance: random.Random, key: str, milliseconds: int) -> Change:
    """Draw a change that is in Kafka so long after its commit."""
    op, name = chance.choice("cud"), {"id": key}
    one = log.say(op, name, None if op == "d" else name)
    return Change(one.key, one.value, _moved(one.record, one.value["source"]["ts_ms"] + milliseconds))


def _moved(record: Record, timestamp: int) -> Record:
    return Record(record.topic, record.partition, record.offset, timestamp, record.key, record.value, record.headers)


def _percentiles(times: list[int]) -> dict[str, int]:
    ordered = sorted(times)
    return {name: ordered[math.ceil(share * len(ordered) / 100) - 1] for name, share in SHARES.items()}
