"""Exercise 1: a report with one shuffle."""

from __future__ import annotations

import random
import re
from decimal import Decimal
from typing import Any

from flow360.checks.c04b_big_data.tables import LAKE, NUMBER, TEXT, duck, expect_columns, expect_given, frame, more_rows
from flow360.checks.compare import Row, expect_rows
from flow360.checks.draw import MONEY, draw
from flow360.checks.verdict import NotYet, exercise, expect
from flow360.processing.spark import operators

REVENUE = f"""
    select category, sum(line_total_eur) as euros
    from '{LAKE}/order_lines/*.parquet' join '{LAKE}/products/*.parquet' using (product_id) group by category
"""
_CENT = Decimal("0.01")


@exercise
def fewer_shuffles(fast: Any) -> None:
    """Check a question (category, euros) to the lines and products of the moment: a single shuffle in its plan."""
    fast = frame("fast", fast)
    expect_given("fast", "order_lines", "products")
    expect_columns("fast", fast, {"category": TEXT, "euros": NUMBER}, only=True)
    _expect_one_shuffle(operators(fast))
    with more_rows(_more(draw())):
        truth, mine = duck(REVENUE), fast.collect()
    expect_rows(
        "fast, after new lines and products came in",
        found=[_in_cents(row.asDict()) for row in mine],
        expected=[_in_cents(row) for row in truth],
        key=("category",),
        why="does it ask both tables, each time it is computed, for the lines of articles that they know?",
    )


def _expect_one_shuffle(steps: list[str]) -> None:
    """Raise NotYet unless one exchange by the category, and what feeds it, is on as many tasks as there are."""
    found = [n for n, step in enumerate(steps) if step.startswith("Exchange ")]
    squeezed = [n for n, step in enumerate(steps) if re.match(r"Coalesce 1\b|Exchange SinglePartition", step)]
    if squeezed and (not found or max(squeezed) >= max(found)):
        raise NotYet("fast: all rows go through one task now: that is not a shuffle, but no other core can help either")
    if not found:
        leaves = {step.split(" ")[0] for step in steps if "Scan" in step}
        raise NotYet(
            f"fast: a plan without a shuffle, which reads {', '.join(sorted(leaves)) or 'no table'}: was the sum "
            "computed before, and put here as rows?"
        )
    kinds = ", ".join(re.sub(r"\(.*", "", steps[n].removeprefix("Exchange ")) for n in found)
    expect(len(found) == 1, f"fast: expected one shuffle in the plan, found {len(found)}: {kinds}")


def _in_cents(row: Row) -> Row:
    euros = row["euros"]
    return {"category": row["category"], "euros": None if euros is None else Decimal(str(euros)).quantize(_CENT)}


def _more(chance: random.Random) -> dict[str, list[Row]]:
    """Draw new articles of an old shelf and a new one, one that nobody buys; lines of these, old ones, and none."""
    shelf, idle = (f"shelf {chance.randrange(10**6)}-{n}" for n in range(2))
    first = chance.randrange(10**5, 10**6)
    shelves = (shelf, shelf, "dairy", idle)
    products = [{"product_id": first + n, "category": category} for n, category in enumerate(shelves)]
    of = [first, first + 1, first + 2, first + 9, *chance.sample(range(1, 200), 6)]
    amounts = [*map(Decimal, MONEY), *(Decimal(chance.randrange(1, 9999)) / 100 for _ in range(23))]
    lines = [
        {"order_id": 10**12 + n // 3, "line_no": n % 3 + 1, "product_id": of[n % len(of)], "line_total_eur": amount}
        for n, amount in enumerate(amounts)
    ]
    return {"products": products, "order_lines": [*lines, *lines[:12]]}
