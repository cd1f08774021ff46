"""Exercise 4: an aggregation over reviews, a document for each van."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

from bson import Int64, ObjectId

from flow360.checks.c11_more_sources.setting import collections
from flow360.checks.compare import expect_rows
from flow360.checks.draw import draw
from flow360.checks.verdict import NotYet, exercise, expect, expect_type

LEAST = 3
WRITES = {"$out", "$merge"}
SECONDS = 8


@exercise
def van_scores(pipeline: Any) -> None:
    """Compare what the pipeline makes of drawn reviews; nothing else may change."""
    import pymongo

    expect_type("pipeline", pipeline, list)
    for stage in pipeline:
        expect_type("pipeline: a stage", stage, dict)
    if writes := sorted(WRITES & set(_names(pipeline))):
        raise NotYet(f"pipeline: {writes[0]} writes; it is only to answer")
    chance = draw()
    with collections("reviews") as (reviews,):
        for _ in range(2):
            drawn = _drawn(chance)
            reviews.delete_many({})
            reviews.insert_many(drawn)
            try:
                with pymongo.timeout(SECONDS):
                    found = list(reviews.aggregate(pipeline))
            except pymongo.errors.PyMongoError as error:
                said = (
                    (error.details or {}).get("errmsg") if isinstance(error, pymongo.errors.OperationFailure) else None
                )
                raise NotYet(f"pipeline: MongoDB refuses it: {said or error}") from None
            truth = _truth(drawn)
            expect_rows("pipeline", found=found, expected=truth, key=("van",), what="vans")
            order = [one["van"] for one in found]
            expect(order == sorted(order), f"pipeline: expected the vans in the order of their names, found {order}")
        reviews.delete_many({})
        expect(list(reviews.aggregate(pipeline)) == [], "pipeline: expected nothing where there are no reviews")


def _names(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        for key, value in part.items():
            yield str(key)
            yield from _names(value)
    elif isinstance(part, list):
        for one in part:
            yield from _names(one)


def _drawn(chance: random.Random) -> list[dict[str, Any]]:
    """Draw reviews of vans with many, with just enough, with one too few, and with none that counts."""
    found: list[dict[str, Any]] = []
    order = chance.randrange(10**5, 10**6)

    def write(van: str | None, stars: Any, **more: Any) -> None:
        nonlocal order
        order += chance.randrange(1, 9)
        one: dict[str, Any] = {"_id": order * 10 + 3, "order": {"id": order}, "stars": stars}
        if van:
            one["delivery"] = {"van_id": van, "route_id": chance.randrange(200)}
            if chance.random() < 0.4:
                one["delivery"]["late_minutes"] = chance.choice((0, 3, 40))
        articles = chance.choice((None, [], chance.choices(range(101, 109), k=3), [chance.randrange(101, 109)]))
        if articles is not None:
            one["articles"] = [{"product_id": number, "stars": chance.randrange(1, 6)} for number in articles]
        if chance.random() < 0.4:
            one["answers"] = [{"by": "Karim"}] * chance.randrange(3)
        found.append(one | more)

    vans = [f"VAN-{number:02d}" for number in chance.sample(range(1, 60), 6)]
    for van, n in zip(vans, (chance.randrange(8, 15), LEAST, LEAST - 1, 6, 0, 0), strict=True):
        for _ in range(n):
            # Which kind of whole number it is was up to who wrote it.
            write(van, chance.choice((int, Int64))(chance.randrange(1, 6)))
    for stars in ("5", 80, 6, 0, -1, None, 4.5):  # of a van that has others, and of one that has none but these
        write(vans[0], stars)
        write(vans[4], stars)
    for _ in range(4):
        write(None, 3)
    for one in chance.sample([one for one in found if one.get("delivery", {}).get("van_id") == vans[0]], 2):
        found.append(one | {"_id": ObjectId()})  # imported a second time
    once = next(one for one in found if one.get("delivery", {}).get("van_id") == vans[2])
    found.append(once | {"_id": ObjectId()})  # two of one too few: still one too few
    # One that is late, named its articles twice, and was answered twice: each counts once.
    write(vans[3], 2, delivery={"van_id": vans[3], "late_minutes": 7}, answers=[{"by": "Claire"}, {"by": "Karim"}])
    write(
        vans[3],
        5,
        articles=[{"product_id": 101, "stars": 5}, {"product_id": 101, "stars": 4}],
        delivery={"van_id": vans[3]},
    )
    chance.shuffle(found)
    return found


def _truth(drawn: list[dict[str, Any]]) -> list[dict[str, Any]]:
    by_order = {one["order"]["id"]: one for one in drawn}
    vans: dict[str, list[dict[str, Any]]] = {}
    for one in by_order.values():
        if "delivery" in one and isinstance(one["stars"], int) and 1 <= one["stars"] <= 5:
            vans.setdefault(one["delivery"]["van_id"], []).append(one)
    return [
        {
            "van": van,
            "reviews": len(rows),
            "stars": round(sum(one["stars"] for one in rows) / len(rows), 2),
            "late": sum(one["delivery"].get("late_minutes", 0) > 0 for one in rows),
            "answered": sum(bool(one.get("answers")) for one in rows),
            "articles": len({article["product_id"] for one in rows for article in one.get("articles", ())}),
        }
        for van, rows in vans.items()
        if len(rows) >= LEAST
    ]
