"""Exercise 1: a producer that keeps the order of each van."""

from __future__ import annotations

import json
import random
import zlib
from typing import Any

from flow360.checks import liberal
from flow360.checks.c02_ingestion.topic import SECONDS, lab_topic
from flow360.checks.compare import expect_rows
from flow360.checks.draw import draw
from flow360.checks.verdict import NotYet, Verdict, exercise, expect, limited
from flow360.ingestion import topics
from flow360.ingestion.groups import partition_of
from flow360.ingestion.topics import Record

PARTITIONS = 4
Reading = dict[str, Any]


@exercise
def keyed_producer(send_readings: Any) -> None:
    """Check that readings of many vans are in a topic: each once, whole, keyed by van, in order of sequence."""
    send = limited(liberal.function("send_readings", send_readings), SECONDS)
    readings = _readings(draw())
    with lab_topic("readings", partitions=PARTITIONS) as topic:
        send(topic, [dict(reading) for reading in readings])
        records = topics.read_all(topic)
    sent = [(record, _reading(record)) for record in records]
    expect_rows(
        "send_readings",
        found=[reading for _, reading in sent],
        expected=readings,
        key=("van_id", "sequence"),
        what="records in the topic",
    )
    _expect_order(sent)
    _expect_keys(sent)
    _raises_when_refused(send, readings[-1])


def _readings(chance: random.Random) -> list[Reading]:
    """Draw readings of all vans mixed, each in its order; one without a value and one below zero are among them."""
    vans = [f"VAN-{number}" for number in chance.sample(range(10, 100), 12)]
    turns = [van for van in vans for _ in range(40)]
    chance.shuffle(turns)
    at = {van: chance.randrange(500) for van in vans}
    readings = []
    for van in turns:
        at[van] += chance.choice((1, 1, 1, 7))
        readings.append({"van_id": van, "sequence": at[van], "celsius": round(chance.uniform(-3, 12), 2)})
    readings[chance.randrange(len(readings))]["celsius"] = None
    # This topic takes the reading that another one refuses. No client's compression makes it small enough there.
    return [*readings, {**readings[0], "van_id": f"VAN-{chance.randrange(10**3999, 10**4000)}"}]


def _reading(record: Record) -> Reading:
    try:
        reading = json.loads(record.value)
        reading["van_id"], reading["sequence"]
    except (ValueError, TypeError, KeyError):
        raise NotYet(
            f"send_readings: the value of offset {record.offset} is not JSON of a reading: {record.value!r:.60}"
        ) from None
    return reading


def _expect_order(sent: list[tuple[Record, Reading]]) -> None:
    places: dict[str, set[int]] = {}
    newest: dict[str, int] = {}
    late = 0
    for record, reading in sent:  # partition by partition, in the order of the offsets
        van = reading["van_id"]
        places.setdefault(van, set()).add(record.partition)
        late += reading["sequence"] < newest.get(van, -1)
        newest[van] = max(newest.get(van, -1), reading["sequence"])
    if scattered := [van for van, found in places.items() if len(found) > 1]:
        raise NotYet(
            f"send_readings: {len(scattered)} vans are in more than one partition, {scattered[0]} in "
            f"{len(places[scattered[0]])}: no order holds between partitions"
        )
    if late:
        raise NotYet(
            f"send_readings: {late} readings come after a later one of their van: in which order were they sent?"
        )
    used = {next(iter(found)) for found in places.values()}
    expect(len(used) > 1, "send_readings: all vans are in one partition: order holds, but one consumer must read all")


def _expect_keys(sent: list[tuple[Record, Reading]]) -> None:
    for record, reading in sent:
        van = reading["van_id"].encode()
        if record.key != van:
            raise NotYet(f"send_readings: expected the van as key ({van!r}), found {record.key!r}")
        if record.partition not in _partitions(reading["van_id"]):
            raise NotYet(
                f"send_readings: {reading['van_id']} is in partition {record.partition}, which no client chooses for "
                "that key: leave the choice to it, or other programs' readings of this van go elsewhere"
            )


def _raises_when_refused(send: Any, large: Reading) -> None:
    """Send three readings: one is too large for the topic; the last is taken, so asking about it is not enough."""
    mine = _partitions(large["van_id"])
    small = [{**large, "van_id": van} for n in range(10, 100) if not mine & _partitions(van := f"VAN-{n}")]
    with lab_topic("refused", partitions=PARTITIONS, max_message_bytes=1000) as topic:
        try:
            send(topic, [small[0], large, small[1]])
        except Verdict:
            raise
        except Exception:  # noqa: BLE001 - whichever error it is: the caller knows
            return
    raise NotYet(
        "send_readings: the broker refused one reading, and no error was raised: what does each send() return?"
    )


def _partitions(van: str) -> set[int]:
    """Return where clients put a van's readings: kafka-python and Java choose by murmur2, librdkafka by CRC-32."""
    return {partition_of(van, PARTITIONS), zlib.crc32(van.encode()) % PARTITIONS}
