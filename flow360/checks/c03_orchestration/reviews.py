"""The reviews of a day, in the shop and in staging.lab_reviews, compared row by row."""

from __future__ import annotations

from flow360.checks.compare import Row, expect_rows, rows
from flow360.checks.verdict import expect

OF_DAY = "(written_at at time zone 'Europe/Paris')::date::text = any(%s)"
REVIEWS = f"""
    select review_id, order_id, rating, written_at, (written_at at time zone 'Europe/Paris')::date::text as day
    from {{}} where {OF_DAY} order by review_id
"""


def of_shop(days: list[str]) -> list[Row]:
    """Read the shop's reviews of these days in Paris, with their day."""
    return rows(REVIEWS.format("reviews"), (days,), db="source")


def expect_each_once(name: str, days: list[str], after: str) -> None:
    """Raise NotYet unless staging.lab_reviews holds each review of these days as it is in the shop, once."""
    shop, ours = of_shop(days), rows(REVIEWS.format("staging.lab_reviews"), (days,))
    for day in days:
        truth, mine = ([row for row in side if row["day"] == day] for side in (shop, ours))
        there = {row["review_id"] for row in mine}
        kept = len([row for row in truth if row["review_id"] in there])
        expect(
            kept == len(truth),
            f"{name}: {after}, {day} has {kept} of its {len(truth)} reviews: what took the others away?",
        )
        expect(len(mine) == len(truth), f"{name}: {after}, {day} has {len(mine)} rows for its {len(truth)} reviews")
        expect_rows(f"{name}: {after}, {day}", found=mine, expected=truth, key=("review_id",), what="reviews")
