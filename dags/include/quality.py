"""The branches' files of orders: each row is held against the contract, so that one bad row costs one row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from flow360.monitoring import lineage
from flow360.primeur.contract import contract
from flow360.primeur.intake import records
from flow360.primeur.snapshot import FILES
from include.interval import replace_day

COLUMNS = ("order_id", "ordered_at", "customer_id", "store_id", "total_eur")
"""What of a good row is published."""
TABLES = """
    create table if not exists staging.file_orders (
        day date, order_id bigint, ordered_at timestamptz, customer_id bigint, store_id int, total_eur numeric(10, 2),
        primary key (day, order_id)
    );
    create table if not exists staging.file_quarantine (
        day date, line int, defect text, content text, original bytea, primary key (day, line)
    );
    alter table staging.file_quarantine add column if not exists original bytea;
"""


@dataclass
class Judged:
    """A file's rows, sorted: each that was read is in one of the two.

    Attributes:
        good: `COLUMNS` of each good row.
        bad: line (where it begins; 1 is the header), defect, content (for people) and original (the bytes) of each bad
            one.
    """

    good: list[dict[str, Any]] = field(default_factory=list)
    bad: list[dict[str, Any]] = field(default_factory=list)

    @property
    def share(self) -> float:
        """Bad rows among all, 0 to 1; an empty file is all bad."""
        total = len(self.good) + len(self.bad)
        return len(self.bad) / total if total else 1.0

    @property
    def defects(self) -> dict[str, int]:
        return dict(Counter(row["defect"] for row in self.bad).most_common())


def judge(path: Path, customers: Collection[int], stores: Collection[int]) -> Judged:
    """Judge each row of a branch's file.

    Args:
        path: `orders_<day>.csv`.
        customers, stores: the ids that exist.

    Raises:
        FileNotFoundError: the file has not come.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path.name} has not come")
    judged, seen = Judged(), set()
    for record in records(contract("orders_csv"), path):
        row, defect = record.right, record.defect
        if row is not None:
            if row["order_id"] in seen:
                defect = "doubled"
            elif row["customer_id"] not in customers:
                defect = "customer_id: unknown"
            elif row["store_id"] not in stores:
                defect = "store_id: unknown"
        if defect:
            bad = {"line": record.line, "defect": defect, "content": record.shown(), "original": record.original}
            judged.bad.append(bad)
        else:
            seen.add(row["order_id"])
            judged.good.append({name: row[name] for name in COLUMNS})
    return judged


def judge_day(shop: psycopg.Connection, day: str) -> Judged:
    """Judge the file of one day (2026-05-07) in the drop zone against what the shop knows."""
    known = [
        {number for (number,) in shop.execute(f"select {key} from {table}")}
        for table, key in (("customers", "customer_id"), ("stores", "store_id"))
    ]
    return judge(FILES / f"orders_{day}.csv", *known)


def set_aside(db: psycopg.Connection, day: str, bad: Sequence[Mapping[str, Any]]) -> int:
    """Keep the bad rows of a day's file, in place of those that were kept of it; how many. The caller commits."""
    return _replace(db, "staging.file_quarantine", day, bad)


def let_in(db: psycopg.Connection, day: str, good: Sequence[Mapping[str, Any]]) -> int:
    """Publish the good rows of a day's file in place of what was published of it; how many. The caller commits."""
    return _replace(db, "staging.file_orders", day, good)


def _replace(db: psycopg.Connection, table: str, day: str, rows: Sequence[Mapping[str, Any]]) -> int:
    # The shop is only asked who exists: nothing of it is carried.
    with lineage.run("nightly_quality", lineage.DEPOT, to=lineage.warehouse(table)) as job:
        count = replace_day(db, table, day, rows)
        job.wrote(lineage.warehouse(table), count)
    return count
