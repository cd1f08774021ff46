"""Exercise 3: an incremental model that is equal to its full refresh, with less work."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from flow360.checks import scene
from flow360.checks.c04c_sql_transformations.models import YEAR, built, compare
from flow360.checks.c04c_sql_transformations.setting import READINGS, deliver, only_readings
from flow360.checks.compare import rows
from flow360.checks.draw import draw
from flow360.checks.verdict import NotYet, exercise, expect, expect_equal, shown

MODEL = "lab_fct_van_hours"
KEY = ["van_id", "hour"]
VAN_HOURS = f"""
    select van_id, date_trunc('hour', measured_at) as hour, count(*) as readings,
           max(celsius) as warmest_celsius, max(arrived_at) as last_arrived_at
    from {READINGS} group by 1, 2
"""
HOUR, HOURS = timedelta(hours=1), 6
Reading = dict[str, Any]


@exercise
def incremental_model(van_hours: Any) -> None:
    """Check lab.lab_fct_van_hours: after new and late readings equal to its full refresh, with less work."""
    first, second = _deliveries(draw())
    only_readings(first)
    row = built("van_hours", van_hours, MODEL, full_refresh=True)
    expect_equal("van_hours", found=row["kind"], expected="incremental", why="how it is materialized")
    _same("after its first run")
    deliver(second)
    before = rows("select pg_current_xact_id()::text::bigint as number")[0]["number"]
    built("van_hours", van_hours, MODEL)
    doubled = rows(f"select 1 from lab.{MODEL} group by van_id, hour having count(*) > 1")
    expect(not doubled, f"van_hours: {len(doubled)} hours stand there twice after the second run: what is their key?")
    _same("some readings came late: which hours do they belong to?")
    _spared(before, first, second)


def _same(why: str) -> None:
    with scene.scene("van_hours") as db:
        found, truth = (scene.ask(db, "van_hours", query) for query in (f"select * from lab.{MODEL}", VAN_HOURS))
    compare("van_hours", found, truth, KEY, why)


def _spared(before: int, first: list[Reading], second: list[Reading]) -> None:
    """Check that rows of untouched hours keep the number of the transaction that wrote them: an older one."""
    written = rows(f"select van_id, hour from lab.{MODEL} where xmin::text::bigint > %s", [before])
    last = max(reading["arrived_at"] for reading in first)
    # Whoever reads from the last arrival on, and not from behind it, misses nothing and writes its hours once more.
    touched = {_place(reading) for reading in [*second, *(one for one in first if one["arrived_at"] == last)]}
    idle = sorted({(row["van_id"], row["hour"]) for row in written} - touched)
    if idle:
        van, hour = idle[0]
        raise NotYet(
            f"van_hours: the second run wrote {shown(len(written))} hours, {shown(len(idle))} of which no new reading "
            f"touches, such as {van}, {hour.astimezone(UTC):%d %B %H:%M} UTC"
        )


def _place(reading: Reading) -> tuple[str, datetime]:
    return reading["van_id"], reading["measured_at"].replace(minute=0, second=0)


def _deliveries(chance: random.Random) -> tuple[list[Reading], list[Reading]]:
    """Draw what arrived by the fortieth minute of an hour; and what came later, some of it late by hours.

    One van begins only then, one has a whole early hour to bring, one half of it, colder than the other half; and one
    is silent. Some readings have no temperature, nor has a whole hour, and two are of the same second.
    """
    begin = datetime(YEAR, chance.randint(1, 12), chance.randint(1, 28), chance.randint(0, 12), tzinfo=UTC)
    vans = [f"VAN-{number}" for number in chance.sample(range(20, 99), 6)]
    begins, all_late, half_late, silent, unmeasured = vans[:5]
    late_at = begin + chance.randrange(HOURS - 2) * HOUR
    cut = begin + HOURS * HOUR - timedelta(minutes=20)
    first: list[Reading] = []
    second: list[Reading] = []
    for van in vans:
        for reading in _readings(van, begin, chance):
            at = reading["measured_at"]
            late = late_at <= at < late_at + HOUR and (van == all_late or (van == half_late and at.minute >= 30))
            if van == unmeasured and at < begin + HOUR:
                reading["celsius"] = None
            if van == half_late and late_at <= at < late_at + HOUR:
                reading["celsius"] = round(chance.uniform(7, 9) if not late else chance.uniform(-4, 5), 1)
            if at >= cut or late or van == begins:
                if van == silent:
                    continue
                second.append({**reading, "arrived_at": max(at, cut) + timedelta(minutes=30)})
            else:
                first.append({**reading, "arrived_at": at + timedelta(seconds=20)})
    return first, second


def _readings(van: str, begin: datetime, chance: random.Random) -> Iterator[Reading]:
    """Draw six in each hour, the first minute of an hour and its last second among them."""
    for number in range(HOURS):
        hour = begin + number * HOUR
        seconds = [0, 3599, *chance.sample(range(60, 1700), 2), *chance.sample(range(1800, 2300), 2)]
        for second in [*seconds, seconds[-1]] if number == 2 else seconds:
            celsius = None if chance.random() < 0.1 else round(chance.uniform(-3, 9), chance.randint(0, 2))
            yield {"van_id": van, "measured_at": hour + timedelta(seconds=second), "celsius": celsius}
