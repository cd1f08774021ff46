"""What the vans say over MQTT, and what becomes of it in Kafka: a record of its channel, or dead letters."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache

from flow360.ingestion.dead_letters import BadRecord, error_headers
from flow360.ingestion.topics import millis
from flow360.primeur.contract import AHEAD, Contract, contract
from flow360.primeur.intake import parse
from flow360.primeur.vans import READINGS, ROUTES

DEAD = "vans.readings.dead"
LARGEST = 900_000
"""Bytes of one record's value; a larger dead letter comes in several."""


@dataclass(frozen=True)
class Channel:
    """What vans say on one kind of topic: its contract, the moment that a record gets, and where records go."""

    contract: str
    moment: str
    into: str
    outcome: str


CHANNELS = {
    "temperature": Channel("readings", "measured_at", READINGS, "reading"),
    "tour": Channel("tours", "departed_at", ROUTES, "tour"),
}
"""By the last word of the MQTT topic."""
INTO = {channel.outcome: channel.into for channel in CHANNELS.values()}
"""Where a message of an outcome went; any other outcome is a dead letter's cause."""


# [START judge]
def judge(topic: str, payload: bytes) -> tuple[str, int]:
    """Read the van and the moment (milliseconds since 1970) of a reading, or of a van that leaves.

    Raises:
        BadRecord: it cannot be one: "too large", "bad json", "wrong schema", "wrong van", or "ahead of its time".
    """
    if len(payload) > LARGEST:
        raise BadRecord("too large", f"{len(payload)} bytes, {LARGEST} allowed")
    try:
        values = parse(payload.decode())
    except Exception as error:  # noqa: BLE001 - a parser has many ways to refuse
        raise BadRecord("bad json", f"{type(error).__name__}: {error}") from None
    if not isinstance(values, dict):
        raise BadRecord("wrong schema", f"a {type(values).__name__} instead of an object")
    channel = channel_of(topic)
    needed = {name: values.get(name) for name in envelope(channel).columns}
    if "sent_at" in needed and needed["sent_at"] is None:
        needed["sent_at"] = datetime.now(UTC)
    right, why = envelope(channel).judge(needed)
    if right is None:
        raise BadRecord("ahead of its time" if AHEAD in why else "wrong schema", why)
    if right["van_id"] != van_of(topic):
        raise BadRecord("wrong van", f"{right['van_id']} on the topic of {van_of(topic)!r:.100}")
    return right["van_id"], millis(right[channel.moment])


# [END judge]


def channel_of(topic: str) -> Channel:
    """Look up what is said on an MQTT topic."""
    return CHANNELS[topic.rpartition("/")[2]]


@cache
def envelope(channel: Channel) -> Contract:
    """Make the contract of what the bridge needs of a message."""
    promised = contract(channel.contract)
    names = ("van_id", channel.moment, promised.columns[channel.moment].not_after)
    return promised.only(*filter(None, names))


def van_of(topic: str) -> str:
    """Read the van that an MQTT topic names."""
    return topic.split("/")[2]


def letters(topic: str, payload: bytes, error: BadRecord) -> Iterator[tuple[bytes, list[tuple[str, bytes]]]]:
    """Yield a message's dead letters, (value, headers): one, or for a message that is too large its pieces in order."""
    parts = range(0, max(len(payload), 1), LARGEST)
    about = {"topic": topic, "cause": error.cause, "message": error, "bytes": len(payload)}
    about["sha256"] = hashlib.sha256(payload).hexdigest()
    for number, begin in enumerate(parts, 1):
        yield payload[begin : begin + LARGEST], error_headers(about | {"part": f"{number}/{len(parts)}"})
