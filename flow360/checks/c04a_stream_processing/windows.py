"""Exercises 2 and 4: averages and counts of windows, and who still gets into one."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from flow360.checks import liberal
from flow360.checks.c04a_stream_processing.driven import Sent, Topology, drive, fields_of, some_vans
from flow360.checks.draw import draw
from flow360.checks.verdict import NotYet, exercise, expect, expect_equal
from flow360.ingestion.topics import iso, millis

MINUTE = 60_000
DAY = 24 * 60 * MINUTE
Window = tuple[str, str]  # the van, and where the window begins


@exercise
def average_per_van(averages: Topology) -> None:
    """Check celsius -> averages: {"from", "n", "average"} by van and five minutes, 15 minutes of grace."""
    given = _story(draw(), 5 * MINUTE, 15 * MINUTE)
    counted = _counted(given, 5 * MINUTE, 15 * MINUTE)
    found: dict[Window, int] = {}
    for record in (record for behind in drive("averages", averages, given, "averages") for record in behind):
        value = fields_of("averages", record, "from", "n", "average")
        window, n = _window("averages", record.key, value["from"], counted), liberal.whole("averages: n", value["n"])
        called = f"averages: {_called(window)}"
        expect(
            max(1, found.get(window, 0)) <= n <= len(counted[window]),
            f"{called}: expected at most {len(counted[window])} readings, and never fewer than before, found {n}: "
            "is one counted that came later than 15 minutes after the end, or twice?",
        )
        found[window] = n
        average = liberal.number("averages: average", value["average"])
        right = float(round(_mean(counted[window][:n]), 2))
        expect_equal(f"{called}: average of {n}", found=average, expected=right, why="of all of them, to two decimals")
    for window in _over(counted, given):
        expect(
            window in found, f"averages: nothing for {_called(window)}: is it windows of five minutes, late ones too?"
        )
        expect_equal(
            f"averages: n for {_called(window)}",
            found=found[window],
            expected=len(counted[window]),
            why="what comes up to 15 minutes after the end counts, whichever van is the last",
        )


@exercise
def final_count(counts: Topology) -> None:
    """Check celsius -> counts: one {"from", "n"} for each van and ten minutes, when the grace of five has passed."""
    size, grace = 10 * MINUTE, 5 * MINUTE
    given = _story(draw(), size, grace)
    counted = _counted(given, size, grace)
    found: dict[Window, int] = {}
    clock = 0
    for sent, behind in zip(given, drive("counts", counts, given, "counts"), strict=True):
        clock = max(clock, sent.at)
        for record in behind:
            value = fields_of("counts", record, "from", "n")
            window = _window("counts", record.key, value["from"], counted)
            early = millis(window[1]) + size + grace - clock
            if early > 0:
                raise NotYet(
                    f"counts: an answer for {_called(window)} {early / 1000:g} s before its grace was over: expected "
                    "none while late readings may come"
                )
            expect(window not in found, f"counts: a second answer for {_called(window)}: expected one for each window")
            found[window] = liberal.whole("counts: n", value["n"])
        for window in counted:
            late = clock - millis(window[1]) - size - grace
            expect(
                late <= 0 or window in found,
                f"counts: no answer for {_called(window)} {late / 1000:g} s after its grace was over: does the grace "
                "last longer than 5 minutes?",
            )
    for window, n in found.items():
        why = "all that came before the grace was over, and no other"
        expect_equal(f"counts: n for {_called(window)}", found=n, expected=len(counted[window]), why=why)


def _story(chance: random.Random, size: int, grace: int) -> list[Sent]:
    """Draw readings around the limits of two windows, of which the first ends at a midnight, and of their graces.

    Kafka Streams counts what comes at the very millisecond at which a grace ends as too late; that is not asked.
    """
    begin = millis("2025-01-01T00:00:00Z") + chance.randrange(700) * DAY - size
    one, other, third, last = some_vans(chance, 4)

    def within(window: int) -> int:
        return window * size + chance.randrange(1, size)

    def degrees() -> float:
        # Of multiples of eight hundredths no average of up to 15 lies between two values of two decimals: there, two
        # right answers may round otherwise.
        return round(chance.randint(-60, 180) * 0.08, 2)

    twice = (one, within(0), degrees())
    moments: list[tuple[Any, ...]] = [
        (one, 0, 0.0),
        (other, within(0)),
        twice,
        twice,
        (one, size - 1),
        (one, size),  # the second window begins
        (one, within(0)),  # late
        (other, size + chance.randrange(1, min(size, grace))),
        (other, size + grace - 1),  # the last moment of the first window's grace
        (one, within(0)),
        (third, within(0)),  # its first one, as late as it can be
        (other, size + grace + 1),  # and now it is over, for each van
        (one, within(0)),
        (third, within(0)),
        (one, within(1)),
        (third, size),
        (one, 2 * size - 1),
        (other, 2 * size + grace + 1),
        (one, within(1)),
    ]
    # Step by step, behind which all the others are over: a leap would leave nothing to answer for in some stores.
    moments += [(last, (2 + step) * size + grace + 1) for step in range(1, 4 + grace // size)]
    return [Sent("celsius", van, {"celsius": rest[0] if rest else degrees()}, begin + at) for van, at, *rest in moments]


def _counted(given: Sequence[Sent], size: int, grace: int) -> dict[Window, list[float]]:
    """Collect the values that each window holds, in the order in which they came."""
    windows, clock = defaultdict(list), 0
    for sent in given:
        clock, start = max(clock, sent.at), sent.at - sent.at % size
        if start + size + grace > clock:
            windows[sent.key, iso(start)].append(sent.value["celsius"])
    return dict(windows)


def _over(counted: dict[Window, list[float]], given: Sequence[Sent]) -> list[Window]:
    """List the windows that have closed behind the last record: all but its own."""
    return [window for window in counted if window[0] != given[-1].key]


def _mean(values: Sequence[float]) -> Fraction:
    return sum(Fraction(str(value)) for value in values) / len(values)


def _window(name: str, key: Any, start: Any, counted: dict[Window, list[float]]) -> Window:
    """Find the window that an answer is for.

    Raises:
        NotYet: there is none of this van that begins then.
    """
    vans = sorted({van for van, _ in counted})
    if key not in vans:
        raise NotYet(f"{name}: expected a van as the key, one of {', '.join(vans)}, found {key!r}")
    starts = sorted(begin for van, begin in counted if van == key)
    if start not in starts:
        raise NotYet(f"{name}: the windows (`from`) of {key}: expected {' and '.join(starts)}, found {start!r}")
    return key, start


def _called(window: Window) -> str:
    return f"{window[0]} from {window[1]}"
