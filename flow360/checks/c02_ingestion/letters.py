"""Exercise 3: a dead-letter topic with the cause."""

from __future__ import annotations

import json
import random
from typing import Any

from flow360 import clients
from flow360.checks import liberal
from flow360.checks.c02_ingestion.topic import SECONDS, fresh, lab_topic, lag
from flow360.checks.compare import expect_rows
from flow360.checks.draw import draw
from flow360.checks.verdict import NotYet, exercise, expect, expect_equal, expect_type, limited
from flow360.ingestion import topics
from flow360.ingestion.topics import Record

BAD: tuple[bytes | None, ...] = (
    b'{"van_id": "VAN-03", "cels',
    bytes([0x93, 0xFF, 0x00]),
    b'{"van_id": "VAN-03"}',
    b'{"celsius": 4.1}',
    b'{"van_id": 3, "celsius": 4.1}',
    b'{"van_id": "VAN-03", "celsius": "n.c."}',
    b'{"van_id": "VAN-03", "celsius": "4.1"}',
    b'{"van_id": "VAN-03", "celsius": true}',
    b'{"van_id": "VAN-03", "celsius": null}',
    b'{"van_id": "VAN-03", "celsius": NaN}',
    b'{"van_id": "VAN-03", "celsius": Infinity}',
    b"[4.1, 4.2]",
    b"",
    None,
)
"""What is not a reading. JSON has neither NaN nor Infinity, and its `true` is not a number."""
Place = tuple[int, int]


@exercise
def dead_letters(sort_readings: Any) -> None:
    """Check that good readings are returned, and bad ones are dead letters, unchanged, with cause and place."""
    sort = limited(liberal.function("sort_readings", sort_readings), SECONDS)
    chance = draw()
    good, group = _good(chance), fresh()
    with lab_topic("mixed", partitions=2) as topic, lab_topic("dead") as dead:
        planted = _send(topic, good, chance)
        found = sort(topic, dead, group)
        letters, behind = topics.read_all(dead), sum(lag(group, topic).values())
    _expect_good(found, good)
    _expect_letters(letters, planted, topic)
    expect(not behind, f"sort_readings: the group's lag is {behind} at the end: which group has read, and who commits?")


def _good(chance: random.Random) -> list[dict[str, Any]]:
    """Draw readings of which one is a whole number, one below zero, one has a field more, and two are the same."""
    readings: list[dict[str, Any]] = [
        {"van_id": f"VAN-{chance.randint(1, 12):02d}", "celsius": round(chance.uniform(1, 9), 2)} for _ in range(50)
    ]
    readings[3]["celsius"], readings[17]["celsius"] = chance.randint(2, 8), -1.5
    readings[29]["sequence"] = chance.randint(1, 900)
    readings[41] = dict(readings[40])
    return readings


def _send(topic: str, good: list[dict[str, Any]], chance: random.Random) -> dict[Place, tuple[bytes, bytes | None]]:
    """Send them all, mixed; where the bad ones are, with their key and value."""
    mixed: list[tuple[bytes, bytes | None, bool]] = [
        (reading["van_id"].encode(), json.dumps(reading).encode(), False) for reading in good
    ]
    for value in BAD:
        mixed.insert(chance.randint(1, len(mixed) - 1), (f"VAN-{chance.randint(1, 12):02d}".encode(), value, True))
    planted = {}
    with clients.producer(acks="all") as out:
        sent = [(out.send(topic, value, key), key, value, bad) for key, value, bad in mixed]
        for answer, key, value, bad in sent:
            at = answer.get(timeout=20)
            if bad:
                planted[at.partition, at.offset] = (key, value)
    return planted


def _expect_good(found: Any, good: list[dict[str, Any]]) -> None:
    expect_type("sort_readings", found, (list, tuple))
    expect_equal("sort_readings", found=len(found), expected=len(good), why="good readings in the list")
    other = next((one for one in found if not isinstance(one, dict)), None)
    if other is not None:
        raise NotYet(f"sort_readings: expected a list of dicts, found {type(other).__name__} in it ({other!r:.60})")
    expect_rows(
        "sort_readings",
        found=[{"reading": one, "van_id": one.get("van_id")} for one in found],
        expected=[{"reading": one, "van_id": one["van_id"]} for one in good],
        key=("van_id",),
        what="good readings",
        why="they are wanted as they were sent, with all their fields",
    )


def _expect_letters(letters: list[Record], planted: dict[Place, tuple[bytes, bytes | None]], topic: str) -> None:
    expect_equal("sort_readings", found=len(letters), expected=len(planted), why="records in the dead-letter topic")
    left = dict(planted)
    for letter in letters:
        headers = dict(letter.headers)
        if missing := [name for name in ("cause", "topic", "partition", "offset") if not headers.get(name)]:
            raise NotYet(f"sort_readings: a dead letter has no header {missing[0]!r}: it has {sorted(headers)}")
        try:
            place = int(headers["partition"].decode()), int(headers["offset"].decode())
        except ValueError:
            raise NotYet("sort_readings: the headers partition and offset are not whole numbers as text") from None
        if headers["topic"] != topic.encode() or place not in left:
            said = headers["topic"].decode(errors="replace")
            raise NotYet(f"sort_readings: there is no bad record at {said} {place}, or it was set aside twice")
        key, value = left.pop(place)
        expect_equal("sort_readings, value of a dead letter", found=letter.value, expected=value, why="byte for byte")
        expect_equal("sort_readings, key of a dead letter", found=letter.key, expected=key, why="byte for byte")
