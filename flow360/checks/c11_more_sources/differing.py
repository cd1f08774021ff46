"""Exercise 6: what three sources do not agree about."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from bson import ObjectId

from flow360.checks import liberal
from flow360.checks.c11_more_sources.setting import collections, fleet, in_mysql, in_postgres, insert, rows_of
from flow360.checks.draw import draw
from flow360.checks.verdict import NotYet, exercise, expect_type, limited

SHOP = (
    "create table deliveries (order_id bigint primary key, route_id bigint not null)",
    "create table reviews (review_id bigint primary key, order_id bigint not null, rating integer not null)",
)
FLEET = ("create table tours (route_id bigint primary key, van_id varchar(9) not null)",)
WHATS = ("no order", "no tour", "another van", "other stars", "not in MongoDB", "twice")


@dataclass
class _Sources:
    """What the three hold, and what they do not agree about."""

    deliveries: list[dict[str, Any]] = field(default_factory=list)
    reviews: list[dict[str, Any]] = field(default_factory=list)
    tours: list[dict[str, Any]] = field(default_factory=list)
    documents: list[dict[str, Any]] = field(default_factory=list)
    truth: list[tuple[str, Any]] = field(default_factory=list)


@exercise
def differences(compare: Any) -> None:
    """Compare what is found in drawn sources that contradict each other, and in some that do not."""
    call = limited(liberal.function("compare", compare), 15, "compare")
    chance = draw()
    for number in range(3):
        drawn = _drawn(chance, spoilt=number < 2)
        with in_mysql(*FLEET) as tours, in_postgres("source", *SHOP) as shop, collections("reviews") as (reviews,):
            insert(tours, "tours", drawn.tours)
            insert(shop, "deliveries", drawn.deliveries)
            insert(shop, "reviews", drawn.reviews)
            reviews.insert_many(drawn.documents)
            before = _held(shop, tours, reviews)
            with fleet() as session:
                found = call(shop, session, reviews)
            _expect(found, drawn.truth)
            if _held(shop, tours, reviews) != before:
                raise NotYet("compare: it has changed a source, and is only to look")


def _held(shop: Any, tours: Any, reviews: Any) -> list[Any]:
    tables = (rows_of(shop, f"select * from {name}") for name in ("deliveries", "reviews"))
    return [*map(_sorted, tables), _sorted(rows_of(tours, "select * from tours")), _sorted(reviews.find())]


def _sorted(rows: Iterable[Any]) -> list[str]:
    return sorted(map(repr, rows))


def _expect(found: Any, truth: list[tuple[str, Any]]) -> None:
    expect_type("compare", found, list | set | tuple)
    pairs = []
    for one in found:
        if not (isinstance(one, tuple | list) and len(one) == 2):
            raise NotYet(f"compare: expected pairs (what, key), found {one!r}")
        pairs.append((one[0], one[1]))
    mine, theirs = Counter(pairs), Counter(truth)
    for what in WHATS:
        lost = sorted((key for (name, key), n in (theirs - mine).items() if name == what), key=str)
        more = sorted((key for (name, key), n in (mine - theirs).items() if name == what), key=str)
        if lost:
            raise NotYet(f"compare: {what}: {lost[0]!r} is not found ({len(lost)} are missing)")
        if more:
            again = "is found more than once" if (what, more[0]) in theirs else "is found, and is not one"
            raise NotYet(f"compare: {what}: {more[0]!r} {again}")
    if strange := [name for name, _ in pairs if name not in WHATS]:
        raise NotYet(f"compare: {strange[0]!r} was not asked for")


def _drawn(chance: random.Random, spoilt: bool) -> _Sources:
    s = _Sources()
    routes = chance.sample(range(1, 10**5), 12)
    s.tours = [{"route_id": route, "van_id": f"VAN-{chance.randrange(1, 60):02d}"} for route in routes]
    van = {one["route_id"]: one["van_id"] for one in s.tours}
    orders = chance.sample(range(10**5, 10**9), 60)
    for order in orders:
        route, stars = chance.choice(routes), chance.randrange(1, 6)
        s.deliveries.append({"order_id": order, "route_id": route})
        s.reviews.append({"review_id": order * 10 + 3, "order_id": order, "rating": stars})
        s.documents.append(_document(order, stars, van[route], route))
    for _ in range(20):  # delivered, and nobody wrote a word
        s.deliveries.append({"order_id": chance.randrange(10**9, 10**10), "route_id": chance.choice(routes)})
    # Of two of these there is a document, of which the shop has no review.
    silent = [_document(one["order_id"], 3, van[one["route_id"]], one["route_id"]) for one in s.deliveries[-2:]]
    s.documents += silent
    if spoilt:
        _spoil(s, chance, van)
        silent[0]["delivery"]["van_id"] = "VAN-62"
        s.truth.append(("another van", silent[0]["_id"]))
    for rows in (s.deliveries, s.reviews, s.tours, s.documents):
        chance.shuffle(rows)
    return s


def _document(order: int, stars: Any, van: str, route: int) -> dict[str, Any]:
    return {
        "_id": order * 10 + 3,
        "schema_version": 3,
        "order": {"id": order},
        "stars": stars,
        "delivery": {"van_id": van, "route_id": route},
    }


def _spoil(s: _Sources, chance: random.Random, van: dict[int, str]) -> None:
    spare = chance.sample(s.documents[:60], 25)
    take = iter(spare).__next__
    route_of = {one["order_id"]: one["route_id"] for one in s.deliveries}

    def note(what: str, key: Any) -> None:
        s.truth.append((what, key))

    for other in ("VAN-61", None):  # another van; and the right one in other letters, which MySQL takes for the same
        one = take()
        one["delivery"]["van_id"] = other or one["delivery"]["van_id"].lower()
        note("another van", one["_id"])
    one = take()  # its own note of the tour is another one's, too: the order's tour is what counts
    wrong = chance.choice([route for route in van if van[route] != van[route_of[one["order"]["id"]]]])
    one["delivery"] = {"van_id": van[wrong], "route_id": wrong}
    note("another van", one["_id"])
    del take()["delivery"]  # one of an older generation says nothing of a van
    for wrong in (chance.randrange(6, 90), None):
        one = take()
        one["stars"] = str(one["stars"]) if wrong is None else wrong
        note("other stars", one["_id"])
    for _ in range(2):
        one = take()
        again = {**one, "_id": ObjectId()}
        s.documents.append(again)
        note("twice", one["order"]["id"])
    one = take()  # three times, and one of them with other stars
    s.documents += [{**one, "_id": ObjectId()}, {**one, "_id": ObjectId(), "stars": one["stars"] % 5 + 1}]
    note("twice", one["order"]["id"])
    note("other stars", s.documents[-1]["_id"])
    for _ in range(3):
        one = take()
        s.documents.remove(one)
        note("not in MongoDB", one["_id"])
    for _ in range(2):  # an order that the shop does not know: then nobody knows its tour or its stars either
        one = take()
        s.documents.remove(one)
        note("not in MongoDB", one["_id"])
        stranger = {**one, "_id": ObjectId(), "order": {"id": chance.randrange(10**11, 10**12)}}
        s.documents.append(stranger)
        note("no order", stranger["_id"])
    lost = chance.randrange(10**6, 10**7)  # a tour that the fleet does not know; one delivery has no review
    one = take()
    next(row for row in s.deliveries if row["order_id"] == one["order"]["id"])["route_id"] = lost
    note("no tour", one["order"]["id"])
    quiet = chance.randrange(10**10, 10**11)
    s.deliveries.append({"order_id": quiet, "route_id": lost + 1})
    note("no tour", quiet)
