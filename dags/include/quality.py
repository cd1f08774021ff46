"""The branches' files of orders: read line by line, each line judged, so that one bad line costs one line."""

from __future__ import annotations

import csv
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

import psycopg

from flow360.settings import ROOT

FILES = ROOT / "data" / "seed" / "files"
"""The drop zone."""
COLUMNS = ("order_id", "ordered_at", "customer_id", "store_id", "channel", "status", "items", "total_eur")
TABLES = """
    create table if not exists staging.file_orders (
        day date, order_id bigint, ordered_at timestamptz, customer_id bigint, store_id int, total_eur numeric(10, 2),
        primary key (day, order_id)
    );
    create table if not exists staging.file_quarantine (
        day date, line int, defect text, content text, primary key (day, line)
    );
"""


@dataclass
class Judged:
    """A file's lines, sorted.

    Attributes:
        good: order_id, ordered_at, customer_id, store_id, total_eur of each good line.
        bad: line (1 is the header), defect, content of each bad one.
    """

    good: list[dict[str, Any]] = field(default_factory=list)
    bad: list[dict[str, Any]] = field(default_factory=list)

    @property
    def share(self) -> float:
        """Bad lines among all, 0 to 1; an empty file is all bad."""
        total = len(self.good) + len(self.bad)
        return len(self.bad) / total if total else 1.0

    @property
    def defects(self) -> dict[str, int]:
        return dict(Counter(row["defect"] for row in self.bad).most_common())


def judge(path: Path, customers: set[int]) -> Judged:
    """Judge each line of a branch's file.

    Args:
        path: `orders_<day>.csv`.
        customers: the ids that exist.

    Raises:
        FileNotFoundError: the file has not come.
    """
    judged, seen = Judged(), set()
    for number, raw in enumerate(path.read_bytes().splitlines(), start=1):
        if number == 1:
            continue
        row, defect = _line(raw, customers, seen)
        if defect:
            content = raw.decode("utf-8", "backslashreplace")
            judged.bad.append({"line": number, "defect": defect, "content": content})
        else:
            judged.good.append(row)
    return judged


def judge_day(db: psycopg.Connection, day: str) -> Judged:
    """Judge the file of one day (2026-05-07) in the drop zone against the customers that the warehouse knows."""
    customers = {number for (number,) in db.execute("select customer_id from primeur.customers")}
    return judge(FILES / f"orders_{day}.csv", customers)


def _line(raw: bytes, customers: set[int], seen: set[int]) -> tuple[dict[str, Any], str | None]:
    try:
        fields = next(csv.reader([raw.decode("utf-8")]))
    except UnicodeDecodeError:
        return {}, "not UTF-8"
    if len(fields) != len(COLUMNS) + 1:  # and the delivery note
        return {}, "wrong number of fields"
    text = dict(zip(COLUMNS, fields, strict=False))
    try:
        row = {
            "order_id": int(text["order_id"]),
            "ordered_at": datetime.fromisoformat(text["ordered_at"]),
            "customer_id": int(text["customer_id"] or 0),
            "store_id": int(text["store_id"]),
            "total_eur": Decimal(text["total_eur"]),
        }
    except (ValueError, InvalidOperation):
        return {}, "not a number"
    if row["order_id"] in seen:
        return row, "doubled"
    if not row["customer_id"]:
        return row, "no customer"
    if row["customer_id"] not in customers:
        return row, "unknown customer"
    if not row["total_eur"].is_finite():
        return row, "not a number"
    if "." not in text["total_eur"]:  # the branches write 7.00 for seven euros; 700 is cents
        return row, "cents, not euros"
    seen.add(row["order_id"])
    return row, None
