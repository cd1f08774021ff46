"""The catalogue's documents: the shop's keys, three versions, the planted defects and no others."""

from __future__ import annotations

from collections import Counter

import pytest

from flow360.primeur import documents, documents_spoilt
from flow360.primeur.generate import table
from flow360.primeur.manifest import manifest
from flow360.primeur.plan import SEED_PLAN, Plan
from flow360.primeur.snapshot import document_line, seed_documents

LONGER = SEED_PLAN.until(SEED_PLAN.day(9))


@pytest.fixture(scope="module")
def clean() -> dict:
    return documents.make(SEED_PLAN)


@pytest.fixture(scope="module")
def spoilt(clean) -> dict:
    return {name: documents_spoilt.SPOIL[name](SEED_PLAN, rows) for name, rows in clean.items()}


def test_each_product_and_each_review_has_a_document_that_says_what_the_shop_says(clean):
    products = {row["product_id"]: row for row in table("products").to_pylist()}
    assert [one["_id"] for one in clean["sheets"]] == list(products)
    for one in clean["sheets"]:
        row, name, storage = products[one["_id"]], one["name"], one["storage"]
        assert (name["fr"] if isinstance(name, dict) else name) == row["name"]
        assert (storage["kind"] if isinstance(storage, dict) else storage) == row["storage"]
        assert (one["shelf"], one["weight_g"]) == (row["category"], row["weight_g"])
    shop = {row["review_id"]: row for row in table("reviews").to_pylist()}
    vans = {row["route_id"]: row["van_id"] for row in table("tours").to_pylist()}
    routes = {row["order_id"]: row["route_id"] for row in table("deliveries").to_pylist()}
    assert [one["_id"] for one in clean["reviews"]] == list(shop)
    for one in clean["reviews"]:
        row = shop[one["_id"]]
        order, customer = (one["order"]["id"], one["customer"]["id"]) if "order" in one else one_flat(one)
        found = (order, customer, one["stars"], one["text"], one.get("written_at", one.get("at")))
        assert found == tuple(row[key] for key in ("order_id", "customer_id", "rating", "body", "written_at"))
        if "delivery" in one:
            assert one["delivery"]["route_id"] == routes[order]
            assert one["delivery"]["van_id"] == vans[routes[order]], "and so says the fleet"


def one_flat(review: dict) -> tuple[int, int]:
    return review["order_id"], review["customer_id"]


def test_there_are_three_versions_and_fields_that_only_some_have(clean):
    for rows in clean.values():
        versions = Counter(map(documents.version_of, rows))
        assert set(versions) == {1, 2, 3}
        assert min(versions.values()) > 30
        assert all("schema_version" in one for one in rows if documents.version_of(one) > 1)
    for name, version, fields in (
        ("sheets", 1, ("allergens",)),
        ("sheets", 3, ("media",)),
        ("reviews", 2, ("photos",)),
        ("reviews", 3, ("photos", "edits", "answers")),
    ):
        rows = [one for one in clean[name] if documents.version_of(one) == version]
        for field in fields:
            assert 0 < sum(field in one for one in rows) < len(rows), f"{name} {version}: {field}"
    refunds = [answer["refund_eur"] for one in clean["reviews"] for answer in one.get("answers", ()) if len(answer) > 3]
    assert refunds


def test_the_seed_is_what_the_generator_makes(spoilt):
    for name, (rows, _) in spoilt.items():
        assert seed_documents(name) == rows
        assert manifest().head["documents"][name] == len(rows)
        assert "".join(map(document_line, rows)) == "".join(map(document_line, seed_documents(name)))


def test_what_is_not_as_it_was_is_in_the_manifest_and_nothing_else(clean, spoilt):
    for name, (rows, defects) in spoilt.items():
        before = {one["_id"]: one for one in clean[name]}
        after = {one["_id"]: one for one in rows}
        changed = {key for key in before.keys() & after.keys() if before[key] != after[key]}
        told = {kind: {d.keys["_id"] for d in defects if d.kind == kind} for kind in {d.kind for d in defects}}
        assert told.pop("absent", set()) == before.keys() - after.keys()
        new = {str(key) if not isinstance(key, int) else key for key in after.keys() - before.keys()}
        assert told.pop("duplicate", set()) | {key for key in told.get("orphan", set()) if key not in before} == new
        assert set().union(*told.values()) & before.keys() == changed
        assert sum(map(len, told.values())) == len(set().union(*told.values())), "no document has two"
        assert [d.as_dict() for d in defects] == [
            d.as_dict() for d in manifest().defects(channel="documents", dataset=name)
        ]
        for d in defects:
            if d.column:
                value = next(one for one in rows if str(one["_id"]) == str(d.keys["_id"]))
                for step in d.column.split("."):
                    value = value[step]
                assert value == d.now
    assert len(spoilt["sheets"][0]) == len(clean["sheets"]), "as many as there are products: a count finds nothing"


def test_what_was_imported_twice_differs_in_its_id_alone(spoilt):
    rows = {str(one["_id"]): one for one in spoilt["reviews"][0]}
    twice = manifest().defects(channel="documents", kind="duplicate")
    assert len(twice) == 4
    for d in twice:
        assert rows[d.keys["_id"]] | {"_id": d.was} == rows[str(d.was)]


def test_a_longer_plan_keeps_its_documents(clean):
    longer = documents.make(LONGER)
    assert longer["sheets"] == clean["sheets"]
    known = {one["_id"]: one for one in longer["reviews"]}
    assert all(known[one["_id"]] == one for one in clean["reviews"])
    assert len(known) > len(clean["reviews"])


def test_a_tiny_plan_is_spoilt_as_far_as_it_goes():
    plan = Plan(scale=0.0003, days=1)
    for name, rows in documents.make(plan).items():
        spoilt, defects = documents_spoilt.SPOIL[name](plan, rows)
        assert len(spoilt) == len(rows) + sum(d.kind == "duplicate" for d in defects) + (
            sum({"orphan": 1, "absent": -1}.get(d.kind, 0) for d in defects) if name == "sheets" else 0
        )
