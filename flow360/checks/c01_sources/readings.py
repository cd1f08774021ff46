"""Exercise 2: every reading of the vans once."""

from __future__ import annotations

import contextlib
import json
import threading
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from flow360 import clients
from flow360.checks import liberal
from flow360.checks.compare import expect_rows
from flow360.checks.verdict import NotYet, exercise, expect, limited
from flow360.errors import FlowError
from flow360.waiting import wait_for

READINGS = "primeur/vans/+/temperature"
Reading = dict[str, Any]


@exercise
def sensor_subscriber(subscribe: Any) -> None:
    """Check that each reading of a replayed day comes once, the late ones too, whatever else comes over the wire."""
    from flow360.primeur.manifest import manifest

    liberal.function("subscribe", subscribe)
    day, run, readings, end = manifest().day, f"check-{uuid.uuid4().hex[:12]}", [], []
    # A client that the broker remembers: what comes while its link is down is kept, if it was subscribed with QoS 1.
    client = clients.mqtt(run, clean_session=False)
    try:
        with _raised_in_callbacks() as raised:
            limited(subscribe, 10)(client, run, readings)
            client.message_callback_add(f"check/{run}", lambda *_: end.append(True))
            client.subscribe(f"check/{run}", qos=1)
            _replay(f"other-{run}", day, ["VAN-01"])  # so that there surely is something of another run on the wire
            _leave(client)
            sent = _whole(_replay(run, day, []))
            client.reconnect()
            client.loop_start()
            client.publish(f"check/{run}", "end", qos=1)
            # The broker keeps the order, so the end comes last; without it (a broken on_message) the rest says why.
            with contextlib.suppress(FlowError):
                wait_for(lambda: end or raised, deadline=10)
    finally:
        _leave(client)
        _leave(clients.mqtt(run, clean_session=True))  # the broker forgets it
    if raised:
        raise raised[0]
    _compare_readings(list(readings), run, sent)


@contextmanager
def _raised_in_callbacks() -> Iterator[list[BaseException]]:
    """Collect what the learner's callbacks raise: it ends paho's thread, which would say no more than a traceback."""
    raised: list[BaseException] = []
    usual = threading.excepthook

    def keep(about: threading.ExceptHookArgs) -> None:
        if about.thread and about.thread.name.startswith("paho-mqtt-client-"):
            raised.append(about.exc_value)
        else:
            usual(about)

    threading.excepthook = keep
    try:
        yield raised
    finally:
        threading.excepthook = usual


def _leave(client: Any) -> None:
    client.disconnect()
    client.loop_stop()


def _replay(run: str, day: str, vans: list[str]) -> list[bytes]:
    """Have a day of some vans (none named: of all) played as fast as can be; each message that the vans sent for it."""
    ended: list[bool] = []
    payloads: list[bytes] = []

    def on_message(client: Any, userdata: Any, message: Any) -> None:
        if message.topic.startswith("primeur/vans/"):
            payloads.append(message.payload)
        elif json.loads(message.payload)["state"] == "complete":
            ended.append(True)

    client = clients.mqtt(on_message=on_message)
    try:
        client.subscribe([(f"primeur/sensors/replays/{run}", 1), (READINGS, 1)])
        client.publish("primeur/control/replay", json.dumps({"id": run, "day": day, "speed": 0, "vans": vans}), qos=1)
        wait_for(lambda: ended, 60, "the end of the replay")
    finally:
        _leave(client)
    return [payload for payload in payloads if f'"{run}"'.encode() in payload]


def _whole(payloads: list[bytes]) -> dict[int, Reading]:
    """Read the readings among them, by reading_id; those that were cut short are left out."""
    found: dict[int, Reading] = {}
    for payload in payloads:
        with contextlib.suppress(json.JSONDecodeError):
            reading = json.loads(payload)
            found[reading["reading_id"]] = reading
    return found


def _compare_readings(readings: list[Any], run: str, sent: dict[int, Reading]) -> None:
    from flow360.primeur.manifest import manifest

    if not readings:
        raise NotYet(
            "readings: nothing arrived of what was sent while the link was down: is on_message set, and the "
            "subscription to all vans made with qos=1?"
        )
    if not all(isinstance(r, dict) and {"reading_id", "van_id", "value"} <= set(r) for r in readings):
        raise NotYet("readings: expected dicts, the parsed JSON of each message with all its fields")
    others = sum(r.get("run") != run for r in readings)
    expect(not others, f"readings: {others} are not from the run that was asked for: look at the field run")
    counts = Counter(r["reading_id"] for r in readings)
    lost, twice = set(sent) - set(counts), sum(n - 1 for n in counts.values())
    late = manifest().keys("reading_id", channel="mqtt", kind="late")
    empty = {number for number, reading in sent.items() if reading["value"] is None}
    if lost and lost <= late:
        raise NotYet(f"readings: {len(lost)} late readings are missing: late is not duplicated, keep them")
    if lost and lost <= empty:
        raise NotYet(f"readings: {len(lost)} readings without a value are missing: keep them, a gap is a fact too")
    expect(
        not lost,
        f"readings: expected {len(sent):,} different readings, {len(lost):,} are missing: does a cut message end your "
        "on_message, or are readings of two vans taken for one?",
    )
    expect(not twice, f"readings: {twice} readings are in it twice: keep the keys that you have seen")
    expect_rows(
        "readings",
        found=[{"van_id": r["van_id"], "reading_id": r["reading_id"], "reading": r} for r in readings],
        expected=[{"van_id": r["van_id"], "reading_id": r["reading_id"], "reading": r} for r in sent.values()],
        key=("van_id", "reading_id"),
        what="readings",
        why="each is wanted as the dict that its message holds",
    )
