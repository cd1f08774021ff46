"""Exercise 2: a load that may run twice."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from flow360 import clients
from flow360.checks.c03_orchestration.dags import lab_file, run_morning, succeed
from flow360.checks.c03_orchestration.reviews import OF_DAY, expect_each_once
from flow360.checks.compare import expect_untouched, fingerprint
from flow360.checks.verdict import NotYet, exercise
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
SENTINELS = "select * from staging.lab_reviews where review_id < 0"


@exercise
def idempotent_load(load_file: Any) -> None:
    """Check that runs for two days, and each again, leave each review once, and other days as they were."""
    lab_file("load_file", load_file)
    if pipelines.loaded("lab_reviews") is None:
        raise NotYet("load_file: the DAG lab_reviews is not there: do exercise 1 first")
    with clients.postgres() as db:  # what earlier attempts have left twice is not this load's doing
        db.execute(f"delete from staging.lab_reviews where {OF_DAY} or review_id < 0", (DAYS,))
        db.cursor().executemany(
            "insert into staging.lab_reviews values (%s, %s, 3, %s)", [(-n, -n, at) for n, at in enumerate(BESIDE, 1)]
        )
    try:
        _runs()
    finally:
        with clients.postgres() as db:
            db.execute("delete from staging.lab_reviews where review_id < 0")


def _runs() -> None:
    """Run neighbours side by side, then each again: what one has left, the other must not take away."""
    beside = fingerprint(SENTINELS)
    both = [pipelines.rerun("lab_reviews", f"2026-05-0{morning}T06:00Z") for morning in (7, 8)]
    for run in both:
        succeed("load_file", "lab_reviews", run)
    expect_each_once("load_file", DAYS, "after a run for each day")
    for again, morning in (("7 May", "2026-05-08"), ("6 May", "2026-05-07")):
        run_morning("load_file", "lab_reviews", morning)
        expect_each_once("load_file", DAYS, f"after {again} was run again")
    what = "after these runs, rows of other days (some at the very edge of a day)"
    expect_untouched("load_file", what, beside, fingerprint(SENTINELS))
