"""Exercise 4: a profile of the branches' files."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from flow360.checks import liberal
from flow360.checks.compare import expect_untouched, fingerprint_files
from flow360.checks.draw import PARIS, draw
from flow360.checks.verdict import NotYet, exercise, expect_equal, expect_type, limited
from flow360.clients.query import sql
from flow360.primeur.files import ORDER_COLUMNS, csv_line

RULES = ("encoding", "bad_row", "missing_key", "orphan", "not_a_number", "wrong_unit", "duplicate", "late")
NOTES = ("Bâtiment B, digicode 4590", 'sonnez "fort"', "", "l'été, 2e étage", "porte; cour", "")
Planted = Mapping[str, set[int]]


@exercise
def quality_profile(profile: Any) -> None:
    """Check that it finds every planted defect of the order files and of one made here, and no sound order."""
    from flow360.primeur.manifest import manifest
    from flow360.primeur.snapshot import FILES

    ask = limited(liberal.function("profile", profile), 60, "profile")
    files = sorted(FILES.glob("orders_*.csv"), key=lambda path: manifest().day not in path.name)
    before = fingerprint_files(files)
    for path in files:  # the day that the learner knows comes first
        _compare(ask, path, {rule: manifest().keys("order_id", where=path.name, kind=rule) for rule in RULES})
    expect_untouched("profile", "a file of the drop zone", before, fingerprint_files(files))
    with tempfile.TemporaryDirectory(prefix="flow360-") as folder:
        _compare(ask, *_made(Path(folder), draw()))
        empty = Path(folder) / "orders_2026-05-12.csv"
        empty.write_bytes(csv_line(list(ORDER_COLUMNS)) + b"\n")
        _compare(ask, empty, {rule: set() for rule in RULES})


def _compare(ask: Callable[[Path], Any], path: Path, planted: Planted) -> None:
    found = ask(path)
    expect_type(f"profile({path.name})", found, dict)
    expect_equal(f"the rules of profile({path.name})", found=sorted(map(str, found)), expected=sorted(RULES))
    for rule in RULES:
        _compare_rule(rule, found[rule], path.name, planted[rule])


def _compare_rule(rule: str, found: Any, name: str, planted: set[int]) -> None:
    called = f'profile("{name}")["{rule}"]'
    expect_type(called, found, (set, frozenset, list))
    mine = {liberal.whole(f"{called}, an order", number) for number in found}
    if mine == planted:
        return
    missed, wrong = sorted(planted - mine), sorted(mine - planted)
    text = f"{called}: expected {len(planted)} orders, found {len(mine)}"
    text += f", {len(missed)} were missed" if missed else ""
    text += f", {len(wrong)} do not belong there, such as {wrong[0]}" if wrong else ""
    raise NotYet(text)


def _made(folder: Path, chance: random.Random) -> tuple[Path, Planted]:
    """Make a file of another day, with each defect at its boundary and what is still sound beside it."""
    day = datetime(2026, 6, chance.randint(2, 28), tzinfo=PARIS)
    known = sql("select customer_id from customers order by customer_id", db="source")["customer_id"].tolist()
    numbers = chance.sample(range(200_000, 900_000), 60)
    rows = [
        {
            "order_id": number,
            "ordered_at": day + timedelta(seconds=chance.randrange(86_400)),
            "customer_id": chance.choice(known),
            "store_id": chance.randint(1, 12),
            "channel": chance.choice(("web", "app", "phone")),
            "status": "delivered",
            "items": chance.randint(1, 9),
            "total_eur": f"{chance.randint(100, 24_999) / 100:.2f}",
            "delivery_note": chance.choice(NOTES),
        }
        for number in numbers
    ]
    planted: dict[str, set[int]] = {rule: set() for rule in RULES}

    def plant(rule: str, at: int, **values: Any) -> None:
        rows[at] |= values
        planted[rule].add(numbers[at])

    rows[0] |= {"ordered_at": day, "total_eur": "250.00", "customer_id": known[-1]}  # sound, each at its boundary
    rows[1] |= {"ordered_at": day + timedelta(hours=23, minutes=59, seconds=59), "customer_id": known[0]}
    plant("late", 2, ordered_at=day - timedelta(seconds=1))
    plant("late", 3, ordered_at=day - timedelta(days=9))
    plant("wrong_unit", 4, total_eur="251")
    plant("wrong_unit", 5, total_eur="24999")
    plant("not_a_number", 6, total_eur="NaN")
    plant("missing_key", 7, customer_id="")
    plant("orphan", 8, customer_id=known[-1] + 1)
    plant("orphan", 9, customer_id=known[0] - 1)
    plant("late", 10, ordered_at=day - timedelta(hours=5))  # two rules at once
    plant("wrong_unit", 10, total_eur="9900")
    lines = [csv_line([_text(row[column]) for column in ORDER_COLUMNS]) for row in rows]
    for at in (11, 12):
        lines[at] = lines[at].rpartition(b",")[0].rpartition(b",")[0] + (b",1,2,3,4" if at == 12 else b"")
        planted["bad_row"].add(numbers[at])
    for at in (13, 14):
        rows[at]["delivery_note"] = "Allée B"
        cut = csv_line([_text(rows[at][column]) for column in ORDER_COLUMNS])
        lines[at] = cut.replace("é".encode(), b"\xe9" if at == 13 else b"\xc3")
        planted["encoding"].add(numbers[at])
    near, far = lines[20], lines[21]
    chance.shuffle(lines)
    lines.insert(lines.index(near) + 1, near)  # a copy right behind its line, and one at the end of the file
    lines.append(far)
    planted["duplicate"] |= {numbers[20], numbers[21]}
    path = folder / f"orders_{day:%Y-%m-%d}.csv"
    path.write_bytes(b"\n".join([csv_line(list(ORDER_COLUMNS)), *lines]) + b"\n")
    return path, planted


def _text(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value
