"""Exercise 3: the missing day and the wrong one."""

from __future__ import annotations

from typing import Any

from flow360 import clients
from flow360.checks.c03_orchestration.reviews import expect_each_once, of_shop
from flow360.checks.verdict import NotYet, exercise, expect
from flow360.clients.query import sql
from flow360.orchestration import pipelines

DAYS = [f"2026-05-0{day}" for day in (4, 5, 6, 7, 8)]
MISSING, WRONG = "2026-05-06", "2026-05-08"
"""Days of the five, as the learner finds them."""


def as_it_was_left() -> None:
    """Put staging.lab_reviews into the state that the learner finds, one day missing and one wrong, with no run of May.

    The wrong day has as many rows as it should: one of its reviews is there twice, and another is not there.
    """
    if pipelines.loaded("lab_reviews"):
        pipelines.forget("lab_reviews")
    shop = of_shop(DAYS)
    wrong = [row for row in shop if row["day"] == WRONG]
    left = [row for row in shop if row["day"] not in (MISSING, WRONG)] + wrong[:-1] + wrong[:1]
    with clients.postgres() as db, db.cursor() as cursor:
        cursor.execute("truncate staging.lab_reviews")
        cursor.executemany(
            "insert into staging.lab_reviews values (%(review_id)s, %(order_id)s, %(rating)s, %(written_at)s)", left
        )


@exercise
def repaired_days(repaired: Any) -> None:
    """Check that the missing and the wrong day ran again with success, and no other; that all five are complete."""
    days = list(repaired) if hasattr(repaired, "__iter__") and not isinstance(repaired, str) else [repaired]
    named = sorted(str(day)[:10] for day in days)
    if MISSING in named and WRONG not in named:
        raise NotYet(f"repaired: {MISSING} is one of two; another day has the right number of reviews: the right ones?")
    expect(
        named == [MISSING, WRONG],
        f"repaired: expected the day that was missing and the one that was wrong, found {', '.join(named) or 'none'}",
    )
    runs = sql(
        """select state, (data_interval_start at time zone 'Europe/Paris')::date::text as day,
             exists (select from task_instance t where (t.dag_id, t.run_id) = (dag_run.dag_id, dag_run.run_id)
                     and task_id = 'load_day' and t.state = 'success' and hostname <> '') as loaded
           from dag_run
           where dag_id = 'lab_reviews' and run_type <> 'scheduled' and data_interval_start is not null
           order by data_interval_start""",
        db="airflow",
    )
    if more := sorted(set(runs["day"]) - set(named)):
        raise NotYet(
            f"repaired: lab_reviews also ran for {', '.join(more)}, which nobody asked for: run its cells again"
        )
    for day in named:
        states = list(runs.loc[runs["day"] == day, "state"])
        expect(states, f"repaired: {day} has no run of lab_reviews: when, in UTC, does it begin in Paris?")
        expect("success" in states, f"repaired: the run for {day} is {states[-1]}: wait for it, or look at its log")
        loaded = runs.loc[(runs["day"] == day) & (runs["state"] == "success"), "loaded"]
        expect(loaded.any(), f"repaired: the run for {day} is marked as a success, and its load_day never ran")
    expect_each_once("repaired", DAYS, "after it")
