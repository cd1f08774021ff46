"""Exercise 6: lines without people."""

from __future__ import annotations

import random
import string
from collections.abc import Iterator, Mapping
from typing import Any

from flow360.checks.c08_logs.setting import field_of, people, simulated
from flow360.checks.draw import draw
from flow360.checks.verdict import NotYet, exercise, expect, expect_equal, expect_type, shown


@exercise
def no_people(pipeline: Any) -> None:
    """Check that addresses and telephone numbers are masked in each of the fields, and all else is as it was."""
    expect_type("pipeline", pipeline, Mapping)
    chance = draw()
    cases = list(_spoken(chance))
    chance.shuffle(cases)
    documents = []
    for number, (text, _) in enumerate(cases):
        other = {"message": "x"} if number % 2 else {}
        documents += [{"message": text, "n": 1}, {**other, "n": 1, "error": {"stack_trace": f"Error\n{text}"}}]
    found = simulated("pipeline", pipeline, documents)
    for number, (text, wanted) in enumerate(cases):
        for after, field in zip(found[2 * number :], ("message", "error.stack_trace"), strict=False):
            if not isinstance(after, Mapping):
                raise NotYet(f"pipeline: {field} {shown(text)}: {after or 'the document was dropped'}")
            said = field_of(after, field)
            whole = wanted if field == "message" else f"Error\n{wanted}"
            expect(said == whole, f"pipeline: {field} {shown(text)}: expected {shown(wanted)}, found {shown(said)}")
            expect_equal(f"pipeline: the other field of {shown(text)}", found=after.get("n"), expected=1)
    extra = sorted({key for one in found for key in (*one, *_within(one))} - {"message", "error", "n", "stack_trace"})
    expect(not extra, f"pipeline: a field more than before: {', '.join(extra)}: does it hold a copy?")


def _within(document: Mapping[str, Any]) -> Mapping[str, Any]:
    error = document.get("error")
    return error if isinstance(error, Mapping) else {}


def _spoken(chance: random.Random) -> Iterator[tuple[str, str]]:
    """Yield a text, and the same without people."""
    for address in people(chance, 6):
        yield f"no answer from {address}", "no answer from <e-mail>"
        yield f"<{address}>, {address.upper()}: twice", "<<e-mail>>, <e-mail>: twice"
        yield f"GET /reset?mail={address.replace('@', '%40')}&n=1", "GET /reset?mail=<e-mail>&n=1"
        yield f'{{"to": "{address}", "order_id": 100933}}', '{"to": "<e-mail>", "order_id": 100933}'
        yield f"wrote to {address}.", "wrote to <e-mail>."
    for _ in range(4):
        pairs = [f"{chance.randrange(100):02}" for _ in range(4)]
        first = chance.choice("1234567")
        for number in (
            f"0{first} {' '.join(pairs)}",
            f"0{first}{''.join(pairs)}",
            f"0{first}.{'.'.join(pairs)}",
            f"+33 {first} {' '.join(pairs)}",
            f"+33{first}{''.join(pairs)}",
        ):
            yield f"call {number} at once", "call <telephone> at once"
            yield f"({number}),", "(<telephone>),"
    many = "".join(chance.choices(string.digits, k=9))
    for text in (
        f"order 10{many[:4]} at 12:30",
        f"batch 06{many}12",  # too long for a telephone
        f"ean 3306{many}",
        f"offset 1{many}",
        "VAN-03@depot is 4.50 € off",
        "2026-05-07T10:15:02.123Z 0.6 12.5 06",
        "postgresql://127.0.0.1:15433/shop",
        "user@host is not an address: its host has no dot",
    ):
        yield text, text
