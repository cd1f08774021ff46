"""Exercise 4: errors by service and minute."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd

from flow360.checks import liberal
from flow360.checks.c08_logs.setting import SECONDS, WINDOW, a_name, an_index, held, moment_of, refusals, watched
from flow360.checks.compare import expect_rows, expect_untouched
from flow360.checks.draw import draw
from flow360.checks.verdict import NotYet, exercise, expect, limited, shown


@exercise
def per_minute(count_errors: Any) -> None:
    """Check errors by service and minute, counted where the lines are: there are more than a search returns."""
    ask = limited(liberal.function("count_errors", count_errors), SECONDS, "count_errors")
    chance = draw()
    begin = datetime(2026, chance.randint(1, 12), chance.randint(1, 28), chance.randrange(24), tzinfo=UTC)
    minutes = chance.randint(12, 25)
    documents, truth = _errors(chance, begin, minutes)
    engine, sent = watched()
    with (
        an_index(a_name(chance), documents, window=WINDOW) as name,
        refusals("count_errors", "the search engine refuses it"),
    ):
        before = held(name)
        found = ask(engine, name, begin, begin + timedelta(minutes=minutes))
        expect_untouched("count_errors", "the index", before, held(name))
    expect(
        len(sent) <= 5,
        f"count_errors: it asked {len(sent)} times: who should count, you or the search engine?",
    )
    rows = rows_of("count_errors", found, ("service", "minute", "errors"))
    for row in rows:
        row["minute"] = _whole_minute("count_errors", row["minute"])
        row["errors"] = liberal.whole("count_errors: errors", row["errors"])
        row["service"] = liberal.text("count_errors: service", row["service"])
    expect_rows("count_errors", found=rows, expected=truth, key=("service", "minute"))


def _whole_minute(name: str, value: Any) -> datetime:
    """Read a moment with its zone: a datetime, a text, or milliseconds since 1970."""
    if not isinstance(value, str | datetime):
        value = pd.Timestamp(liberal.whole(f"{name}: minute", value), unit="ms", tz="UTC")
    found = moment_of(value)
    if found is None:
        raise NotYet(f"{name}: minute: expected a moment with its zone, found {shown(value)}")
    return found.astimezone(UTC)


def rows_of(name: str, found: Any, columns: Sequence[str]) -> list[dict[str, Any]]:
    """Read a DataFrame, a list of dicts or a list of tuples as dicts of these columns."""
    if isinstance(found, pd.DataFrame):
        found = found.reset_index(drop=True).to_dict("records")
    if isinstance(found, str | Mapping) or not isinstance(found, Iterable):
        raise NotYet(f"{name}: expected a list of rows, found {type(found).__name__}")
    rows = []
    for one in found:
        if isinstance(one, Mapping):
            missing = [column for column in columns if column not in one]
            expect(not missing, f"{name}: a row has no {missing[0] if missing else ''}: {shown(dict(one))}")
            rows.append({column: one[column] for column in columns})
        else:
            expect(
                isinstance(one, list | tuple) and len(one) == len(columns),
                f"{name}: expected rows of {', '.join(columns)}, found {shown(one)}",
            )
            rows.append(dict(zip(columns, one, strict=True)))
    return rows


def _errors(
    chance: random.Random, begin: datetime, minutes: int
) -> tuple[dict[str, dict[str, Any]], list[dict[str, Any]]]:
    services = [f"{word}-{chance.randrange(100)}" for word in "abcdefghijklmnopqrst"[: chance.randint(14, 20)]]
    counts: dict[tuple[str, datetime], int] = {}
    documents = {}

    def plant(service: str, at: datetime, level: str, spoken: str = "failed") -> None:
        documents[str(len(documents))] = {
            "@timestamp": at.isoformat(timespec="milliseconds"),
            "service": {"name": service},
            "log": {"level": level},
            "message": spoken,
        }
        if level in BAD and begin <= at < begin + timedelta(minutes=minutes):
            key = service, at.replace(second=0, microsecond=0)
            counts[key] = counts.get(key, 0) + 1

    for number in range(2 * WINDOW):
        service = services[min(int(chance.expovariate(0.4)), len(services) - 1)]
        at = begin + timedelta(milliseconds=chance.randrange(minutes * 60_000))
        level = chance.choice(BAD) if number % 3 else chance.choice(["INFO", "WARN", "DEBUG"])
        plant(service, at, level, chance.choice(["failed", "ERROR of yesterday", "done"]))
    for service in services:  # each at least once, and at the edges
        plant(service, begin + timedelta(seconds=chance.randrange(60)), "ERROR")
    step = timedelta(milliseconds=1)
    end = begin + timedelta(minutes=minutes)
    for at in (begin - step, begin, begin + timedelta(minutes=1) - step, begin + timedelta(minutes=1), end - step, end):
        plant(services[0], at, "FATAL")
    truth = [{"service": s, "minute": m, "errors": n} for (s, m), n in counts.items()]
    return documents, truth


BAD = ("ERROR", "FATAL", "CRITICAL")
