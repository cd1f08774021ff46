"""Exercise 5: an alarm that goes off once, and survives a kill."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Iterable, Sequence

from flow360.checks.draw import draw
from flow360.checks.verdict import NotYet, exercise, expect, expect_equal, expect_type
from flow360.errors import FlowError, ServiceError
from flow360.processing.streams import Live, topics
from flow360.waiting import wait_for

APPLICATION, READINGS, ALARMS = "lab-04a", "lab-04a.readings", "lab-04a.alarms"
VALUES = (9.0, 8.01, 12, 8.5, 8.0, 8, 7.99, 4.2, 0.0, -3.5)
WARM, COLD = VALUES[:4], VALUES[4:]
TRANSACTION = 6.0
"""Seconds between two commits while the check wants to kill the program between its work and its commit."""
PAUSE = 60_000
"""Milliseconds between two readings, by their own time: a row may last for as long as it likes."""
KILLS = 3
"""So often it is tried: a commit may just have come first."""
Story = Sequence[tuple[str, float]]


@exercise
def door_alarm(live: Live) -> None:
    """Check a live program: three warm readings in a row raise one alarm on lab-04a.alarms; a kill changes nothing."""
    expect_type("live", live, Live)
    expect_equal("live: the program's name", found=live.application, expected=APPLICATION)
    expect(live.alive, f"live: the program is not running: start it with streams.run(door, {APPLICATION!r})")
    chance = draw()
    run = f"CHECK-{time.time_ns()}"
    _send(live, run, story := _stories(run, chance))
    _expect_alarms(story)
    guarantee = live.health()["guarantee"]
    expect(
        guarantee == "exactly_once_v2",
        f"live: it runs with {guarantee}: what it has sent and not yet committed, it sends once more after a kill",
    )
    killed = _killed_in_time(live, run, chance)
    live.start()
    _send(live, run, [])
    told = _told()[killed]
    expect(
        told,
        "live: killed behind the third warm reading, before Kafka Streams had committed it: the third passes once "
        "more, and raised no alarm: was it counted outside of Kafka's transaction?",
    )
    expect_equal("live: alarms of three warm readings and two kills", found=told, expected=1, why="once is enough")
    _send(live, run, story := [(killed, value) for value in (9.5, 8.0, 8.01, 9.0, 12)])
    _expect_alarms([*((killed, 9.0) for _ in range(3)), *story])


def _stories(run: str, chance: random.Random) -> list[tuple[str, float]]:
    """Draw the readings of some vans: each rule has one, and three take what comes; one after the other, mixed."""
    warm, cold = (lambda: chance.choice(WARM)), (lambda: chance.choice(COLD))
    own = {
        "two": [warm(), warm()],
        "long": [warm() for _ in range(chance.randint(6, 9))],
        "limit": [9.0, 9.0, 8.0, 9.0, 9.0],
        "again": [warm(), warm(), warm(), cold(), warm(), warm(), warm()],
        "broken": [warm(), cold(), warm(), warm()],
        "equal": [8.01, 8.01, 8.01],
    }
    own |= {f"any-{number}": [chance.choice(VALUES[:7]) for _ in range(20)] for number in range(3)}
    turns = [van for van, values in own.items() for _ in values]
    chance.shuffle(turns)
    left = {van: iter(values) for van, values in own.items()}
    return [(f"{run}-{van}", next(left[van])) for van in turns]


def _expect_alarms(story: Story) -> None:
    """Compare the alarms so far with those that are due after these readings, van by van."""
    told, readings = _told(), {}
    for van, value in story:
        readings.setdefault(van, []).append(value)
    for van, values in readings.items():
        due = _due(values)
        if told[van] == due:
            continue
        said = " ".join(map(str, values[-9:]))
        why = "the third in a row above 8.0, and once is enough" if told[van] > due else "a new incident is a new alarm"
        raise NotYet(f"live: alarms of a van that has sent {said}: expected {due}, found {told[van]}: {why}")


def _due(values: Iterable[float]) -> int:
    warm = due = 0
    for value in values:
        warm = warm + 1 if value > 8.0 else 0
        due += warm == 3
    return due


def _killed_in_time(live: Live, run: str, chance: random.Random) -> str:
    """Kill the program twice: between the second warm reading of a van and its third, and behind that before a commit.

    Returns:
        The van: its alarm was written, and its transaction was not committed.
    """
    vans = [f"{run}-kill-{number}" for number in range(KILLS)]
    _send(live, run, [(van, chance.choice(WARM)) for van in vans for _ in range(2)])
    for van in vans:
        live.kill()
        try:
            live.start(commit_every=TRANSACTION)
        except ServiceError:
            raise
        except FlowError as error:
            raise NotYet(f"live: killed, and it does not start again: {error}") from error
        _send(live, run, [(van, chance.choice(WARM))], "read_uncommitted")
        expect(
            _told("read_uncommitted")[van],
            "live: killed after two warm readings and started again: no alarm at the third, the count was lost",
        )
        live.kill()
        if not _told()[van]:
            return van
    raise ServiceError(f"{APPLICATION}: it committed {KILLS} times before it could be killed: check it once more")


def _send(live: Live, run: str, readings: Story, isolation: str = "read_committed") -> None:
    """Send readings, and behind them, on every partition, three warm ones of other vans: when these have raised their
    alarms, the others were processed."""
    now = time.time_ns() // 1_000_000
    others = [f"{run}-behind-{now}-{number}" for number in range(12)]
    behind = [(other, 12.0) for _ in range(3) for other in others]
    begun = now - PAUSE * len(readings)
    told = [(van, value, begun + PAUSE * n) for n, (van, value) in enumerate(readings)]
    told += [(van, value, now) for van, value in behind]
    topics.publish(READINGS, [(van, {"celsius": value}, at) for van, value, at in told])
    try:
        wait_for(lambda: not live.alive or set(others) <= set(_told(isolation)), 45, "the alarms", every=0.1)
    except FlowError as error:
        raise NotYet(f"live: three warm readings of a new van raised no alarm on {ALARMS} within 45 s") from error
    expect(live.alive, f"live: the program has ended: {live.problem() or 'live.log() has its last lines'}")


def _told(isolation: str = "read_committed") -> Counter[str]:
    """Count the alarms by van; "read_uncommitted" also has those of a transaction that is not over."""
    return Counter(str(record.key) for record in topics.read(ALARMS, isolation))
