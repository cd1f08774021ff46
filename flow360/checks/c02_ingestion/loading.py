"""Exercise 4: a batch load that can run three times."""

from __future__ import annotations

import csv
import random
import tempfile
from decimal import Decimal
from pathlib import Path
from typing import Any

from flow360.checks import liberal
from flow360.checks.c02_ingestion.topic import SECONDS
from flow360.checks.compare import Row, expect_rows, expect_untouched, fingerprint, rows
from flow360.checks.draw import MONEY, TEXTS, draw
from flow360.checks.verdict import NotYet, exercise, expect, limited
from flow360.clients.query import sql

TABLE = "staging.lab02_load"
COLUMNS = "order_id bigint primary key, status text not null, total_eur numeric(10,2) not null"
FOUND = f"select order_id, status, total_eur from {TABLE}"
MADE = f"""
    select attname, format_type(atttypid, atttypmod), attnotnull,
           array(select pg_get_constraintdef(oid) as rule from pg_constraint where conrelid = attrelid order by rule)
    from pg_attribute where attrelid = '{TABLE}'::regclass and attnum > 0
"""
STATUSES = (*TEXTS, " Held at Customs ")
LEFT_OPEN = """
    with idle as materialized (
        select pid from pg_stat_activity join pg_locks using (pid)
        where relation = to_regclass(%s) and state = 'idle in transaction' group by pid
    )
    select pg_terminate_backend(pid, 5000) from idle
"""


@exercise
def idempotent_load(load_orders: Any) -> None:
    """Check `staging.lab02_load` after the same file twice, corrections, an empty file, and one that is cut in half."""
    load = limited(liberal.function("load_orders", load_orders), SECONDS, "load_orders")
    chance = draw()
    first = _orders(chance, chance.randint(180, 220))
    later = _orders(chance, chance.randint(3, 9), above=first[-1]["order_id"])
    corrected = [_changed(order, n) for n, order in enumerate(chance.sample(first, 12))]
    second = [*corrected, *later]
    final = list(({one["order_id"]: one for one in first} | {one["order_id"]: one for one in second}).values())
    steps = (
        (first, first, "the first file"),
        (first, first, "the same file again"),
        (second, final, "the corrections"),
        ([], final, "a file with a header and no order"),
    )
    _left_open()
    sql(f"drop table if exists {TABLE}")
    sql(f"create table {TABLE} ({COLUMNS})")
    made = fingerprint(MADE)
    with tempfile.TemporaryDirectory() as folder:
        for orders, truth, what in steps:
            _load(load, _write(Path(folder) / "orders.csv", orders))
            expect_rows(
                f"load_orders, after {what}",
                found=rows(FOUND),
                expected=truth,
                key=("order_id",),
                why="each order has the values of the last file that named it",
            )
        expect_untouched("load_orders", f"columns or constraints of {TABLE}", made, fingerprint(MADE))
        _refuses_what_is_cut(load, Path(folder) / "orders_cut.csv", first)
    sql(f"drop table {TABLE}")


def _orders(chance: random.Random, count: int, above: int = 0) -> list[Row]:
    numbers = sorted(chance.sample(range(above + 1, above + 90_000), count))
    return [
        {
            "order_id": number,
            "status": STATUSES[n // 5 % len(STATUSES)] if n % 5 == 0 else "delivered",
            "total_eur": Decimal(chance.choice(MONEY)) if n % 7 == 0 else Decimal(chance.randrange(100, 99999)) / 100,
        }
        for n, number in enumerate(numbers)
    ]


def _changed(order: Row, n: int) -> Row:
    """Draw a correction of the status, of the total, or of both."""
    status = f"corrected {n}" if n % 3 != 1 else order["status"]
    total = Decimal(f"{n}.29") if n % 3 else order["total_eur"]
    return {"order_id": order["order_id"], "status": status, "total_eur": total}


def _write(path: Path, orders: list[Row], end: str = "") -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        out = csv.writer(file, lineterminator="\n")
        out.writerow(["order_id", "status", "total_eur"])
        out.writerows(order.values() for order in orders)
        file.write(end)
    return path


def _load(load: Any, path: Path) -> None:
    try:
        load(path)
    finally:
        left_open = _left_open()  # also before a refusal: its locks would hold up whatever comes next
    expect(
        not left_open,
        "load_orders: when it returned, its transaction was still open: nobody else sees its rows, and its locks "
        "hold others up. Who commits? (The check has ended that session.)",
    )


def _refuses_what_is_cut(load: Any, path: Path, first: list[Row]) -> None:
    """Check that new orders and a correction, and then half a line, are refused as a whole."""
    new = [{"order_id": 900_000 + n, "status": "delivered", "total_eur": Decimal("7.50")} for n in range(50)]
    _write(path, [*new, {**first[0], "status": "cut"}], end="900050,deliv\n")
    before, refused = fingerprint(FOUND), False
    try:
        _load(load, path)
    except NotYet:
        raise
    except Exception:  # noqa: BLE001 - that it fails is what we want to see; how, is the learner's choice
        refused = True
    extra = rows(f"select count(*) as n from {TABLE} where order_id >= 900000")[0]["n"]
    expect(
        not extra, f"load_orders: a file whose last line is cut left {extra} of its rows in the table: all or nothing"
    )
    expect(refused, "load_orders: a file whose last line is cut was taken without an error, and nothing of it is there")
    expect_untouched("load_orders", f"after a file whose last line is cut, rows of {TABLE}", before, fingerprint(FOUND))


def _left_open() -> int:
    """End the sessions that hold a lock on the table and do nothing; how many there were."""
    return len(sql(LEFT_OPEN, [TABLE]))
