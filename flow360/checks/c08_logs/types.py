"""Exercise 5: a field that changed its type."""

from __future__ import annotations

import random
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from flow360 import clients
from flow360.checks import liberal
from flow360.checks.c08_logs.setting import WINDOW, WORDS, a_name, an_index, gone, held, refusals
from flow360.checks.compare import expect_untouched
from flow360.checks.draw import draw
from flow360.checks.verdict import NotYet, exercise, expect, expect_equal, limited


@exercise
def two_types(repair: Any) -> None:
    """Check that one that takes all replaces an index that refused lines; readers and writers go on by its name."""
    mend = limited(liberal.function("repair", repair), 20, "repair")
    chance, engine = draw(), clients.search()
    old, new, alias = (f"{a_name(chance)}-{suffix}" for suffix in ("000001", "000002", "alias"))
    first, refused = _orders(chance)
    plain = {"properties": {"order_id": {"type": "long"}, "celsius": {"type": "float"}, "at": {"type": "date"}}}
    with an_index(old, first, plain):
        try:
            engine.post(
                "/_aliases", json={"actions": [{"add": {"index": old, "alias": alias, "is_write_index": True}}]}
            )
            before = held(old)
            with refusals("repair", "the search engine refuses it"):
                mend(engine, old, new, alias, [{"id": key, "document": doc} for key, doc in refused.items()])
            expect(clients.search().head(f"/{new}").status_code == 200, f"repair: there is no index {new[-6:]!r}…")
            expect_untouched("repair", "the old index", before, held(old))
            _all_there(new, first | refused)
            _goes_on(alias, old, new)
        finally:
            gone(clients.search(), new)


def _orders(chance: random.Random) -> tuple[dict[str, Any], dict[str, Any]]:
    def some(order: Any) -> dict[str, Any]:
        at = datetime(2026, 5, 7, chance.randrange(24), chance.randrange(60), tzinfo=UTC).isoformat()
        return {"order_id": order, "celsius": chance.randrange(-200, 200) / 10, "at": at, "note": chance.choice(WORDS)}

    numbers = chance.sample(range(100_001, 109_999), 40)
    first = {f"n{n}": some(n) for n in numbers}
    first["big"] = some(2**53 + 1)  # a float would not hold it
    refused = {f"t{n}": some(f"A-{n}") for n in numbers[:15]}
    refused["zero"] = some("A-007")
    refused["lower"] = some("a-007")
    return first, refused


def _all_there(new: str, documents: Mapping[str, Any]) -> None:
    engine = clients.search()
    engine.post(f"/{new}/_refresh")
    body = {"query": {"match_all": {}}, "size": WINDOW}
    found = {hit["_id"]: hit["_source"] for hit in engine.post(f"/{new}/_search", json=body).json()["hits"]["hits"]}
    if lost := [key for key in documents if key not in found]:
        raise NotYet(
            f"repair: {len(lost)} of {len(documents)} documents are not in the new index, such as id {lost[0]!r}, "
            f"order_id {documents[lost[0]]['order_id']!r}"
        )
    if more := [key for key in found if key not in documents]:
        raise NotYet(f"repair: {len(more)} documents too many in the new index: do the ids stay what they were?")
    for key, document in documents.items():
        expect_equal(f"repair: document {key!r}", found=found[key], expected=document)
    for key in ("big", "zero", "lower", next(iter(documents))):
        order = documents[key]["order_id"]
        hits = _hits(new, {"term": {"order_id": order}})
        expect_equal(f"repair: a term query for order_id {order!r}", found=hits, expected=[key])
    warm = sorted(key for key, document in documents.items() if document["celsius"] > 9.5)
    expect_equal("repair: celsius > 9.5", found=_hits(new, {"range": {"celsius": {"gt": 9.5}}}), expected=warm)
    noon = sorted(key for key, one in documents.items() if one["at"] >= "2026-05-07T12:00:00+00:00")
    late = _hits(new, {"range": {"at": {"gte": "2026-05-07T12:00:00Z"}}})
    expect_equal("repair: at noon and after", found=late, expected=noon)


def _hits(index: str, query: Any) -> list[str]:
    with refusals("repair", "a query of the new index"):
        found = clients.search().post(f"/{index}/_search", json={"query": query, "size": WINDOW}).json()
    return sorted(hit["_id"] for hit in found["hits"]["hits"])


def _goes_on(alias: str, old: str, new: str) -> None:
    """Check that the name leads to the new index alone, for readers and for writers of both kinds."""
    engine = clients.search()
    with refusals("repair", f"the name …{alias[-6:]}"):
        there = sorted(engine.get(f"/_alias/{alias}").json())
    expect(
        there == [new],
        f"repair: the name leads to {' and '.join(f'…{one[-6:]}' for one in there)}, expected …{new[-6:]} alone",
    )
    for order in (200_001, "B-1"):
        with refusals("repair", f"a line with order_id {order!r}, written by the name"):
            engine.post(f"/{alias}/_doc", json={"order_id": order, "celsius": 4, "at": "2026-05-08T00:00:00Z"})
