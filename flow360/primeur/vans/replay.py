"""Replaying a day of readings: what a request may say, how it is paced, the count at its end. No network in here."""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Any

from flow360.primeur.plan import DAY, SEED_PLAN, business_day
from flow360.primeur.records import utc
from flow360.primeur.snapshot import seed_table
from flow360.primeur.tours import MINUTES, departure, readings, van_routes
from flow360.primeur.vans import DEPARTURES, IDLE
from flow360.primeur.vans.stream import Message, stream

SPEED = 3_600.0
"""A day's ten hours in ten seconds."""
FASTEST = 1e9
_FIELDS = ("id", "day", "speed", "vans", "clock", "since")
_ID = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
_DEFECTS = {
    "duplicate": "doubled",
    "late": "late",
    "not_a_number": "not_a_number",
    "wrong_unit": "wrong_unit",
    "bad_row": "malformed",
}


@lru_cache(maxsize=3)
def messages(day: str) -> tuple[Message, ...]:
    """List the messages of a day (ISO) in the order in which they are sent.

    Raises:
        ValueError: it is not a day of Primeur's.
    """
    return tuple(stream(SEED_PLAN, day, readings(SEED_PLAN, business_day(day)))[0])


@lru_cache(maxsize=3)
def tours(day: str) -> Mapping[tuple[str, int], dict[str, Any]]:
    """Return what each van says of its tours of a day (ISO) as it leaves: (van, 0 for the morning's, 1) -> message.

    Raises:
        ValueError: it is not a day of Primeur's.
    """
    when = business_day(day)
    plan, first = SEED_PLAN.until(when), (when - SEED_PLAN.start).days * 2
    cities = {row["store_id"]: row["city"] for row in seed_table("stores").to_pylist()}
    return {
        (row["van_id"], number): {
            "van_id": row["van_id"],
            "route_id": row["route_id"],
            "half": row["half"],
            "city": cities[row["store_id"]],
            "departed_at": utc(row["departed_at"]),
        }
        for number in (0, 1)
        for row in van_routes(plan, first + number).to_pylist()
    }


def tour_of(day: str, message: Message) -> dict[str, Any]:
    """Return the tour that a reading of a day belongs to."""
    return tours(day)[message.van_id, (message.body["sequence"] - 1) // MINUTES]


def _moment(name: str, text: Any) -> float | None:
    """Read the seconds since 1970 of a moment with its offset; None when none is given."""
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        found = None
    if found is None or found.tzinfo is None:
        raise ValueError(f"{name}: a moment, as 2026-05-07T10:30:00Z")
    return found.timestamp()


@dataclass(frozen=True)
class Request:
    """A replay that somebody asked for.

    Args:
        id: marks its messages (`run`) and names its topic.
        day: ISO date.
        speed: how much faster than life; 0 is as fast as the broker takes it.
        vans: only these, e.g. ("VAN-03",); empty means all.
        clock: what time it is on that day where the replay begins, in seconds since 1970: what was due before comes at
            once, the rest in its time. None means the moment of the first message.
        since: leave out what was due before this moment.
    """

    id: str
    day: str = DAY.isoformat()
    speed: float = SPEED
    vans: tuple[str, ...] = ()
    clock: float | None = None
    since: float | None = None

    @classmethod
    def parse(cls, payload: bytes, fallback_id: str) -> Request:
        """Read the message of the control topic, e.g. {"id": …, "day": …, "speed": …, "vans": […]}: all is optional.

        Raises:
            ValueError: what is wrong, in one line.
        """
        try:
            asked = json.loads(payload or b"{}")
        except (ValueError, RecursionError):
            raise ValueError("the message is not JSON") from None
        if not isinstance(asked, dict):
            raise ValueError("the message is not a JSON object")
        unknown = sorted(set(asked) - set(_FIELDS))
        if unknown:
            raise ValueError(f"unknown field {unknown[0]!r}: {', '.join(_FIELDS)}")
        name, day = asked.get("id", fallback_id), asked.get("day", DAY.isoformat())
        speed, vans = asked.get("speed", SPEED), asked.get("vans") or []
        if not isinstance(name, str) or not _ID.fullmatch(name) or name.startswith(IDLE):
            raise ValueError(f"id: 1 to 64 letters, digits and . _ : -, and not {IDLE}…")
        business_day(day)
        clock, since = (_moment(name, asked.get(name)) for name in ("clock", "since"))
        if isinstance(speed, bool) or not isinstance(speed, int | float) or not 0 <= speed <= FASTEST:
            raise ValueError(f"speed: a number from 0 to {FASTEST:,.0f}")
        known = {message.van_id for message in messages(day)}
        if not isinstance(vans, list) or not all(isinstance(van, str) and van in known for van in vans):
            raise ValueError(f"vans: a list of some of {', '.join(sorted(known))}")
        return cls(name, day, float(speed), tuple(vans), clock, since)

    def chosen(self) -> list[Message]:
        """List the messages to send."""
        least = float("-inf") if self.since is None else self.since - self._opens
        return [m for m in messages(self.day) if m.at >= least and (not self.vans or m.van_id in self.vans)]

    def begin(self) -> float:
        """Find at which `Message.at` the replay begins."""
        if self.clock is not None:
            return self.clock - self._opens
        return next((message.at for message in self.chosen()), 0.0)

    @property
    def _opens(self) -> float:
        return departure(SEED_PLAN, (business_day(self.day) - SEED_PLAN.start).days, 0)


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
        """Return sent, readings (different ones, the cut ones included), and one count for each kind of defect."""
        counts = {name: self.kinds[kind] for kind, name in _DEFECTS.items()}
        return {"sent": self.sent, "readings": self.sent - counts["doubled"], **counts}


def play(
    request: Request,
    publish: Callable[[str, bytes], None],
    pause: Callable[[float], bool],
    clock: Callable[[], float] = time.monotonic,
) -> tuple[Tally, bool]:
    """Send the messages of a replay at its speed, and before the first of a tour which one it is.

    Args:
        publish: takes topic and payload.
        pause: waits up to that many seconds; True means stop now.

    Returns:
        What was sent, and whether that was all of it.
    """
    tally, start, first, on_tour = Tally(), clock(), request.begin(), {}
    for message in request.chosen():
        ahead = start + (message.at - first) / request.speed - clock() if request.speed else 0.0
        if pause(max(0.0, ahead)):
            return tally, False
        tour = tour_of(request.day, message)
        if on_tour.get(message.van_id, "") < tour["departed_at"]:  # a late reading of the morning calls nobody back
            on_tour[message.van_id] = tour["departed_at"]
            publish(DEPARTURES.format(van_id=message.van_id), json.dumps({"run": request.id, **tour}).encode())
        publish(message.topic, message.payload(request.id))
        tally.add(message)
    return tally, True
