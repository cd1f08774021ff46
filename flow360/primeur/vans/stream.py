"""What the vans say over MQTT in the course of a day: messages in the order in which they are sent.

On the known day the stream is untidy (doubled, late, cut, without a value, in a wrong unit); on others it is clean.
VAN-08 has a thermometer that measures in °F and says so: its messages are true, and must be converted.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timedelta

from flow360.primeur.defects import Chooser, Defect, fahrenheit
from flow360.primeur.plan import DAY, Plan, van_name
from flow360.primeur.records import Record, utc
from flow360.primeur.tours import MINUTES
from flow360.primeur.vans import TOPIC

FAHRENHEIT_VAN = van_name(7)
MISLABELLED_VAN = van_name(4)
MISLABELLED = 30
"""Readings in a row that VAN-05 gives in °F with the label C."""
SHARES = {"duplicate": 50, "late": 100, "not_a_number": 700, "bad_row": 900}
"""One reading in so many gets the defect."""


@dataclass(frozen=True)
class Message:
    """One message: `at` is seconds of the day's own time after the first reading; `kind` is "" for a regular one."""

    at: float
    van_id: str
    body: Record
    kind: str = ""

    @property
    def topic(self) -> str:
        return TOPIC.format(van_id=self.van_id)

    def payload(self, run: str) -> bytes:
        """Write the bytes to publish. The replay's id comes first, so that even a cut message says where it belongs."""
        text = json.dumps({"run": run, **self.body})
        return (text[: len(text) * 3 // 5] if self.kind == "bad_row" else text).encode()


def _body(row: Record) -> Record:
    hot = row["van_id"] == FAHRENHEIT_VAN
    return {
        "reading_id": row["reading_id"],
        "van_id": row["van_id"],
        "sequence": row["sequence"],
        "measured_at": utc(row["measured_at"]),
        "value": fahrenheit(row["celsius"]) if hot else row["celsius"],
        "unit": "F" if hot else "C",
    }


def stream(plan: Plan, day: str, rows: list[Record]) -> tuple[list[Message], list[Defect]]:
    """Build the messages of a day.

    Args:
        plan: the seed that decides what is spoilt.
        day: ISO date; only on `DAY` something is.
        rows: the day's readings as records with datetimes.

    Returns:
        The messages in the order in which they are sent, and the planted defects.
    """
    rows = sorted(rows, key=lambda r: (r["measured_at"], r["van_id"]))
    if not rows:
        return [], []
    start: datetime = rows[0]["measured_at"]
    sent, defects = [], []
    spoilt = _spoilt(plan, rows) if day == DAY.isoformat() else {}
    for n, row in enumerate(rows):
        at = (row["measured_at"] - start).total_seconds() + (n % 60) / 60
        body, (kind, delay, note) = _body(row), spoilt.get(n, ("", 0, ""))
        column, was, now = "", None, None
        if kind == "wrong_unit":
            column, was, now = "value", body["value"], fahrenheit(body["value"])
            body["value"] = now
        elif kind == "not_a_number":
            column, was = "value", body["value"]
            body["value"] = None
        sent_at = at + (delay if kind == "late" else 0)
        body["sent_at"] = utc(start + timedelta(seconds=sent_at))
        message = Message(sent_at, row["van_id"], body, kind)
        if kind == "duplicate":
            sent.append(Message(at, row["van_id"], body))
            message = Message(at + delay, row["van_id"], body, kind)
        sent.append(message)
        if kind:
            keys = {"reading_id": row["reading_id"], "van_id": row["van_id"]}
            defects.append(Defect("mqtt", "temperatures", kind, message.topic, keys, day, column, was, now, note=note))
    return sorted(sent, key=lambda m: m.at), defects


def _spoilt(plan: Plan, rows: list[Record]) -> dict[int, tuple[str, int, str]]:
    """Return for each spoilt row the kind, the seconds by which its message (or the copy) comes later, and a note."""
    chooser = Chooser.of(plan.seed, "mqtt")
    mine = [n for n, row in enumerate(rows) if row["van_id"] == MISLABELLED_VAN]
    first = chooser.between(60, len(mine) - 120)
    result = dict.fromkeys(mine[first : first + MISLABELLED], ("wrong_unit", 0, "°F with the label C"))
    chooser.taken.update(result)
    for n in chooser.rows(len(rows) // SHARES["duplicate"], range(len(rows))):
        result[n] = ("duplicate", chooser.between(2, 90), "the same message again")
    # not in the last half hour of a tour, where no later reading would go before it
    early = [n for n, row in enumerate(rows) if (row["sequence"] - 1) % MINUTES < MINUTES - 30]
    for n in chooser.rows(len(rows) // SHARES["late"], early):
        result[n] = ("late", chooser.between(120, 900), "sent after later readings of the same van")
    for n in chooser.rows(len(rows) // SHARES["not_a_number"], range(len(rows))):
        result[n] = ("not_a_number", 0, "the value is null")
    for n in chooser.rows(len(rows) // SHARES["bad_row"], range(len(rows))):
        result[n] = ("bad_row", 0, "the JSON text is cut")
    return result
