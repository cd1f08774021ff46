"""Exercise 1: patterns for three writers."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from flow360.checks import liberal
from flow360.checks.c08_logs.setting import WORDS, expect_document, field_of, simulated
from flow360.checks.draw import draw
from flow360.checks.verdict import exercise, expect, expect_equal, expect_type, shown
from flow360.primeur.clock import PARIS


@exercise
def every_format(patterns: Any) -> None:
    """Check that a grok processor with these patterns takes three writers' lines apart, and leaves strangers' alone."""
    if isinstance(patterns, str):
        patterns = [patterns]
    expect_type("patterns", patterns, (list, tuple))
    texts = [liberal.text("patterns: one of them", one) for one in patterns]
    expect(texts, "patterns: expected at least one pattern, found none")
    chance = draw()
    good = [_line(chance, kind) for kind in (*range(3), *(chance.randrange(3) for _ in range(15)))]
    good += [_line(chance, kind, text) for kind in range(3) for text in WORDS]
    strange = list(_strange(chance))
    grok = {
        "grok": {"field": "message", "patterns": texts, "on_failure": [{"set": {"field": "fits", "value": "none"}}]}
    }
    pipeline = {"processors": [{"set": {"field": "line", "value": "{{{message}}}"}}, grok]}
    found = simulated("patterns", pipeline, [{"message": line} for line, _ in good] + [{"message": s} for s in strange])
    for (line, wanted), document in zip(good, found, strict=False):
        expect_document("patterns", line, document)
        expect("fits" not in document, f"patterns: none fits {shown(line)}")
        for field, value in wanted.items():
            found_value = field_of(document, field)
            blanks = isinstance(found_value, str) and found_value.strip() == value
            why = "blanks beside it are not part of it" if blanks else ""
            expect_equal(f"patterns: {field} of {shown(line)}", found=found_value, expected=value, why=why)
    for line, document in zip(strange, found[len(good) :], strict=True):
        expect_document("patterns", line, document)
        expect("fits" in document, f"patterns: one fits {shown(line)}, which is not a line of the three")


def _line(chance: random.Random, kind: int, text: str = "") -> tuple[str, dict[str, str]]:
    """Draw a line of one of the three writers, and what its fields are."""
    at = datetime(2026, chance.randint(1, 12), chance.randint(1, 28), tzinfo=UTC) + timedelta(
        seconds=chance.randrange(86_400)
    )
    van, level = f"VAN-{chance.randrange(100):02}", chance.choice(["DEBUG", "INFO", "WARN", "ERROR"])
    text = text or f"{chance.choice(WORDS)} {chance.randrange(1000)}"
    if kind == 0:
        when = at.strftime("%Y-%m-%dT%H:%M:%SZ")
        line = f"{when} {level:<5} van={van} {text}"
    elif kind == 1:
        when = at.astimezone(PARIS).strftime("%d/%b/%Y:%H:%M:%S %z")
        line = f"[{when}] {van} {level}: {text}"
    else:
        when = str(int(at.timestamp()))
        line = f"{when} {van} <{level}> {text}"
    return line, {"when": when, "log.level": level, "van_id": van, "message": text}


def _strange(chance: random.Random) -> Iterator[str]:
    for kind in range(3):
        line, wanted = _line(chance, kind, "engine off")
        yield f"retry: {line}"  # something stands before it
        yield line.replace(wanted["van_id"], wanted["van_id"] + "7")
        yield line.replace(wanted["van_id"], "VAN-X1")
        yield line.replace(wanted["log.level"], "NOTICE")
        yield line.replace(wanted["van_id"], "BUS-04")
        yield line.removesuffix("engine off").rstrip()
    yield "12 VAN-03 <INFO> engine off"
    yield "2026-05-07 10:15:02 INFO van=VAN-03 engine off"
    yield ""
