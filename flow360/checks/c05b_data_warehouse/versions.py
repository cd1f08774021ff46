"""Exercise 3: a question as of any moment."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

from flow360.checks import liberal, scene
from flow360.checks.c05b_data_warehouse.setting import expect_kept
from flow360.checks.draw import draw
from flow360.checks.scene import Asked
from flow360.checks.verdict import NotYet, exercise, expect, shown

KINDS = Asked([], {"loyalty": "text", "customers": "a whole number"})
Version = dict[str, Any]


@exercise
def as_of(query: Any) -> None:
    """Check a query with %(at)s: how many customers had which loyalty at that moment, each customer once."""
    query = liberal.statement("query", query)
    expect("%(at)s" in query, "query: expected the moment as %(at)s, so that any moment can be asked for")
    expect_kept("query", "customers")
    chance = draw()
    versions = _versions(chance)
    with scene.scene("query") as db:
        scene.replace(db, "lab.customers", versions)
        for moment, when in _moments(chance, versions):
            zone = timezone(timedelta(minutes=chance.choice((-300, 0, 120, 345))))
            found = scene.ask(db, "query", query, {"at": moment.astimezone(zone).isoformat()})
            scene.expect_kinds("query", found, KINDS, exact=True)
            _compare(found, _counted(versions, moment), f"{when} ({moment:%Y-%m-%d %H:%M:%S.%f} UTC)")


def _compare(found: Asked, truth: dict[str, int], when: str) -> None:
    names = Counter(row["loyalty"] for row in found.rows)
    twice = [name for name, count in names.items() if count > 1]
    expect(
        not twice, f"query: {when} there are {twice and names[twice[0]]} rows of {twice and twice[0]}: one is wanted"
    )
    # A loyalty that nobody has may stand there with its 0, or be left out.
    mine = {row["loyalty"]: row["customers"] for row in found.rows if row["customers"]}
    total, right = sum(mine.values()), sum(truth.values())
    if total != right:
        much = "more" if total > right else "fewer"
        raise NotYet(
            f"query: {when} it counts {shown(int(total))} customers, {much} than there were: each counted once"
        )
    for loyalty in sorted(truth.keys() | mine.keys(), key=str):
        if mine.get(loyalty, 0) != truth.get(loyalty, 0):
            raise NotYet(
                f"query: {when} it counts {mine.get(loyalty, 0)} customers with {loyalty}, expected another number"
            )


def _versions(chance: random.Random) -> list[Version]:
    """Draw customers of one version to five: some of today, some who left, some who came back, one who will leave."""
    levels = ["none", "basil", "mint", "saffron", f"level-{chance.randint(1, 99)}"]
    begin = datetime(2025, chance.randint(1, 12), chance.randint(1, 28), tzinfo=UTC)
    changes = sorted({begin + timedelta(seconds=chance.random() * 900 * 24 * 3600) for _ in range(12)})
    found = []
    for customer in chance.sample(range(1000, 9999), 40):
        at = sorted(chance.sample(changes, chance.randint(1, 5)))
        fate = chance.choice(["stays", "stays", "has left", "came back", "will leave"])
        for number, valid_from in enumerate(at):
            valid_to = at[number + 1] if number + 1 < len(at) else None
            if fate == "came back" and number == 0 and valid_to:
                valid_to -= (valid_to - valid_from) / 2
            if valid_to is None and fate == "has left":
                valid_to = valid_from + timedelta(days=chance.randint(1, 90))
            if valid_to is None and fate == "will leave":
                valid_to = datetime(chance.randint(2031, 2090), 1, 1, tzinfo=UTC)
            version = {"customer_id": customer, "loyalty": chance.choice(levels), "valid_from": valid_from}
            found.append({**version, "valid_to": valid_to})
    chance.shuffle(found)
    return found


def _moments(chance: random.Random, versions: list[Version]) -> Iterator[tuple[datetime, str]]:
    starts = sorted({version["valid_from"] for version in versions})
    ends = sorted({version["valid_to"] for version in versions if version["valid_to"]})
    for change in [starts[0], *chance.sample(starts[1:], 3), *chance.sample(ends, 4)]:
        yield change, "at the very moment of a change"
        yield change - timedelta(microseconds=1), "a microsecond before a change"
        yield change + timedelta(microseconds=1), "a microsecond after a change"
    yield starts[0] - timedelta(days=400), "before the first version"
    yield datetime(2030, 1, chance.randint(1, 28), tzinfo=UTC), "years from now"
    yield datetime(2100, 1, chance.randint(1, 28), tzinfo=UTC), "in the next century"


def _counted(versions: list[Version], moment: datetime) -> dict[str, int]:
    """Count each version at whose moment it is valid: its beginning included, its end not."""
    return Counter(
        version["loyalty"]
        for version in versions
        if version["valid_from"] <= moment and (version["valid_to"] is None or moment < version["valid_to"])
    )
