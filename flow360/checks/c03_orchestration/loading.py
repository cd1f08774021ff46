"""Exercise 2: a load that may run twice."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from flow360 import clients
from flow360.checks.c03_orchestration.dags import lab_file, succeed
from flow360.checks.c03_orchestration.reviews import OF_DAY, expect_each_once, of_shop
from flow360.checks.compare import expect_untouched, fingerprint, rows
from flow360.checks.verdict import NotYet, exercise, expect
from flow360.orchestration import pipelines
from flow360.primeur.clock import PARIS

DAYS = ["2026-05-06", "2026-05-07"]
BEGIN, END = datetime(2026, 5, 6, tzinfo=PARIS), datetime(2026, 5, 8, tzinfo=PARIS)
BESIDE = [
    BEGIN - timedelta(microseconds=1),
    END,
    END + timedelta(hours=1),
    BEGIN - timedelta(days=1),
    BEGIN - timedelta(days=4_000),
    END + timedelta(days=40_000),
]
"""Moments just outside the two days, and so far from them that no run of this DAG's own is ever theirs."""
TABLE = "staging.lab_reviews"
SENTINELS = f"select * from {TABLE} where order_id < 0"
MADE = f"""
    select attrelid, attname, format_type(atttypid, atttypmod), attnotnull from pg_attribute
    where attrelid = '{TABLE}'::regclass and attnum > 0
"""
KEYS = f"""
    select indexrelid::regclass::text as index, conname as rule from pg_index
    left join pg_constraint on conindid = indexrelid where indrelid = '{TABLE}'::regclass
"""


@exercise
def idempotent_load(load_file: Any) -> None:
    """Check that runs for two days, and each again, leave each review once, and other days as they were."""
    lab_file("load_file", load_file)
    if pipelines.loaded("lab_reviews") is None:
        raise NotYet("load_file: the DAG lab_reviews is not there: do exercise 1 first")
    _keys_away()
    with clients.postgres() as db:  # what earlier attempts have left twice is not this load's doing
        db.execute(f"delete from {TABLE} where {OF_DAY} or order_id < 0", (DAYS,))
        db.cursor().executemany(
            f"insert into {TABLE} values (%s, -1, 3, %s)", [(-n, at) for n, at in enumerate(BESIDE, 1)]
        )
    made = fingerprint(MADE)
    try:
        _runs()
        expect_untouched("load_file", f"{TABLE}, as its owner made it,", made, fingerprint(MADE))
    finally:
        with clients.postgres() as db:
            db.execute(f"delete from {TABLE} where order_id < 0")


def _keys_away() -> list[str]:
    """Take away the keys that a load has made, which would stand in the next one's way, and return their names."""
    found = rows(KEYS)
    with clients.postgres() as db:
        for one in found:
            rule = f'alter table {TABLE} drop constraint "{one["rule"]}"'
            db.execute(rule if one["rule"] else f"drop index {one['index']}")
    return [one["index"] for one in found]


def _spoil(day: str) -> None:
    """Leave a day as a bad load would: as many rows, but some lost, doubled, changed, and one that the shop has not."""
    first = of_shop([day])
    lost, doubled, changed = ([row["review_id"] for row in first[n : n + 3]] for n in (0, 3, 5))
    mine = f"{OF_DAY} and review_id = any(%s)"
    with clients.postgres() as db:
        db.execute(f"delete from {TABLE} where {mine}", ([day], lost))
        db.execute(f"update {TABLE} set rating = coalesce(rating, 0) %% 5 + 1 where {mine}", ([day], changed))
        db.execute(f"insert into {TABLE} select * from {TABLE} where {mine}", ([day], doubled[:2]))
        db.execute(f"insert into {TABLE} values (-1, 1, 3, %s)", (first[0]["written_at"],))


def _run_both() -> None:
    """Run 6 May and 7 May side by side."""
    both = [pipelines.rerun("lab_reviews", f"2026-05-0{morning}T06:00Z") for morning in (7, 8)]
    for run in both:
        succeed("load_file", "lab_reviews", run)


def _runs() -> None:
    """Run neighbours side by side, then each again: what one has left, the other must not take away."""
    beside = fingerprint(SENTINELS)
    _run_both()
    expect_each_once("load_file", DAYS, "after a run for each day")
    keys = _keys_away()
    expect(not keys, f"load_file: it has given {TABLE} a key ({', '.join(keys)}), and its owner wants none")
    _spoil("2026-05-07")
    _run_both()
    spoilt = "7 May (some of whose rows were lost, doubled or changed)"
    expect_each_once("load_file", DAYS, f"after 6 May and {spoilt} were run again")
    what = "after these runs, rows of other days (some at the very edge of a day)"
    expect_untouched("load_file", what, beside, fingerprint(SENTINELS))
