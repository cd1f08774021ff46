"""Replaying a day of readings: what a request may say, how it is paced, the count at its end. No network in here."""

from __future__ import annotations

import csv
import gzip
import json
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from typing import Any

from flow360.primeur.plan import DAY, SEED_PLAN
from flow360.primeur.records import Record
from flow360.primeur.snapshot import SEED
from flow360.primeur.vans import IDLE
from flow360.primeur.vans.stream import Message, stream

SPEED = 3_600.0
"""A day's ten hours in ten seconds."""
FASTEST = 1e9
_ID = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
_DEFECTS = {
    "duplicate": "doubled",
    "late": "late",
    "not_a_number": "not_a_number",
    "wrong_unit": "wrong_unit",
    "bad_row": "malformed",
}


@cache
def days() -> tuple[str, ...]:
    """The days with readings, ISO."""
    return tuple(SEED_PLAN.day(n).isoformat() for n in range(SEED_PLAN.days + 1))


@cache
def messages(day: str) -> tuple[Message, ...]:
    """The messages of a day in the order in which they are sent."""
    return tuple(stream(SEED_PLAN, day, list(_readings(day)))[0])


def _readings(day: str) -> Iterator[Record]:
    """The readings of a day, line by line: the service needs an eighth of the table, and little memory."""
    number = days().index(day)
    first, after = (datetime.fromtimestamp(SEED_PLAN.second(n, 0), UTC) for n in (number, number + 1))
    with gzip.open(SEED / "tables" / "temperatures.csv.gz", "rt", encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            moment = datetime.fromisoformat(row["measured_at"])
            if first <= moment < after:
                yield {
                    "reading_id": int(row["reading_id"]),
                    "van_id": row["van_id"],
                    "sequence": int(row["sequence"]),
                    "measured_at": moment,
                    "celsius": float(row["celsius"]),
                }


@dataclass(frozen=True)
class Request:
    """A replay that somebody asked for.

    Args:
        id: marks its messages (`run`) and names its topic.
        day: ISO date, one of `days()`.
        speed: how much faster than life; 0 is as fast as the broker takes it.
        vans: only these, e.g. ("VAN-03",); empty means all.
    """

    id: str
    day: str = DAY.isoformat()
    speed: float = SPEED
    vans: tuple[str, ...] = ()

    @classmethod
    def parse(cls, payload: bytes, fallback_id: str) -> Request:
        """Read the message of the control topic: {"id": …, "day": …, "speed": …, "vans": […]}, all of it optional.

        Raises:
            ValueError: what is wrong, in one line.
        """
        try:
            asked = json.loads(payload or b"{}")
        except (ValueError, RecursionError):
            raise ValueError("the message is not JSON") from None
        if not isinstance(asked, dict):
            raise ValueError("the message is not a JSON object")
        unknown = sorted(set(asked) - {"id", "day", "speed", "vans"})
        if unknown:
            raise ValueError(f"unknown field {unknown[0]!r}: id, day, speed, vans")
        name, day = asked.get("id", fallback_id), asked.get("day", DAY.isoformat())
        speed, vans = asked.get("speed", SPEED), asked.get("vans") or []
        if not isinstance(name, str) or not _ID.fullmatch(name) or name.startswith(IDLE):
            raise ValueError(f"id: 1 to 64 letters, digits and . _ : -, and not {IDLE}…")
        if day not in days():
            raise ValueError(f"day: one of {days()[0]} to {days()[-1]}")
        if isinstance(speed, bool) or not isinstance(speed, int | float) or not 0 <= speed <= FASTEST:
            raise ValueError(f"speed: a number from 0 to {FASTEST:,.0f}")
        known = {message.van_id for message in messages(day)}
        if not isinstance(vans, list) or not all(isinstance(van, str) and van in known for van in vans):
            raise ValueError(f"vans: a list of some of {', '.join(sorted(known))}")
        return cls(name, day, float(speed), tuple(vans))

    def chosen(self) -> list[Message]:
        """The messages to send."""
        return [m for m in messages(self.day) if not self.vans or m.van_id in self.vans]


@dataclass
class Tally:
    """What was sent: the truth that a subscriber compares itself with."""

    sent: int = 0
    kinds: Counter = field(default_factory=Counter)

    def add(self, message: Message) -> None:
        self.sent += 1
        if message.kind:
            self.kinds[message.kind] += 1

    def as_dict(self) -> dict[str, Any]:
        """sent, readings (different ones, the cut ones included), and one count for each kind of defect."""
        counts = {name: self.kinds[kind] for kind, name in _DEFECTS.items()}
        return {"sent": self.sent, "readings": self.sent - counts["doubled"], **counts}


def play(
    request: Request,
    publish: Callable[[str, bytes], None],
    pause: Callable[[float], bool],
    clock: Callable[[], float] = time.monotonic,
) -> tuple[Tally, bool]:
    """Send the messages of a replay at its speed.

    Args:
        publish: takes topic and payload.
        pause: waits up to that many seconds; True means stop now.

    Returns:
        What was sent, and whether that was all of it.
    """
    tally, chosen = Tally(), request.chosen()
    start, first = clock(), chosen[0].at if chosen else 0.0
    for message in chosen:
        ahead = start + (message.at - first) / request.speed - clock() if request.speed else 0.0
        if pause(max(0.0, ahead)):
            return tally, False
        publish(message.topic, message.payload(request.id))
        tally.add(message)
    return tally, True
