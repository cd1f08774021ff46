"""Cases that the answer has not seen: drawn at each check from a seed, which is printed, so that it can be drawn again.

    chance = draw()              # "hidden cases of seed 81230"
    chance.choice(MONEY), chance.randint(3, 9)

`FLOW360_CHECK_SEED=81230` draws the same cases once more.
"""

from __future__ import annotations

import os
import random
import string
from datetime import UTC, datetime, timedelta

from flow360.primeur.clock import PARIS

SEED = "FLOW360_CHECK_SEED"
MONEY = ("0.01", "0.10", "0.29", "1.15", "19.99", "1000000.01", "99999999.99")
"""Amounts of numeric(10, 2): the smallest, the largest, and some that a float holds only nearly."""
TEXTS = ("refunded", "paid, late", 'said "no"', "l'été", "half; paid", "0")
"""Texts that a reader of CSV may spoil: a comma, quotes, an accent, a semicolon, a text that looks like a number."""


def draw() -> random.Random:
    """Begin a draw: by FLOW360_CHECK_SEED, else by the clock; the seed is printed."""
    seed = int(os.environ.get(SEED) or random.SystemRandom().randrange(10**6))
    print(f"(hidden cases of seed {seed})")
    return random.Random(seed)


def a_word(chance: random.Random, length: int = 20) -> str:
    """Draw a word of letters and digits that nobody can guess."""
    return "".join(chance.choices(string.ascii_letters + string.digits, k=length))


def clock_changes(year: int) -> tuple[datetime, datetime]:
    """Find the midnights in Paris that begin the day of 23 hours and the day of 25 hours."""
    days = [datetime(year, 1, 1, tzinfo=PARIS) + timedelta(days=n) for n in range(366)]

    def hours(day: datetime) -> float:
        return ((day + timedelta(days=1)).astimezone(UTC) - day.astimezone(UTC)).total_seconds() / 3600

    short, long = ([day for day in days if hours(day) == wanted and day.year == year] for wanted in (23, 25))
    return short[0], long[0]
