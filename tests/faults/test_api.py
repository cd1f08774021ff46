"""A REST service at its worst: limits, errors, time-outs, slow bodies, doubled, reordered and spoilt items."""

from __future__ import annotations

import pytest

from flow360 import clients
from flow360.ingestion.paging import GaveUp, fetch_all
from flow360.primeur.manifest import manifest
from flow360.primeur.records import outward
from flow360.primeur.snapshot import seed_table
from tests.faults.support import report

SERVICES = ("market-api",)

WORST = {"errors": 0.25, "slow": 0.1, "trickle": 0.1, "delay": 1.0, "rate": 20.0, "burst": 10}
PATIENCE = 0.5  # seconds for one answer: less than a slow or trickling one takes


@pytest.fixture
def api(started):
    """The service at its worst; its usual self again afterwards."""
    started("market-api")
    with clients.api() as session:
        session.headers["X-Client-Id"] = "faults"
        assert session.post("/chaos", json=WORST).status_code == 200
        yield session
        session.post("/chaos", json={})


def euros(order: dict) -> str | None:
    total = order["total_eur"]
    if not isinstance(total, int | float):
        return "not a number"
    # Nobody carries home more than 250 euros of groceries; in cents even a small order looks like more.
    return "wrong unit" if total > 250 else None


def celsius(delivery: dict) -> str | None:
    found = delivery["celsius_at_door"]
    if not isinstance(found, int | float):
        return "not a number"
    # A refrigerated crate at the door; in Fahrenheit, the coldest of them is beyond 32.
    return "wrong unit" if found > 30 else None


@pytest.mark.timeout(200)
@pytest.mark.parametrize(
    ("name", "key", "check"), [("orders", "order_id", euros), ("deliveries", "delivery_id", celsius)]
)
def test_api_at_its_worst(api, name, key, check):
    """Fault 6: the final set is the truth, and the rejected are the planted, each with its reason."""
    found = fetch_all(api, f"/{name}", key, {"limit": 40}, check, seconds=PATIENCE)
    planted = {
        defect.keys[key]: defect.kind.replace("not_a_number", "not a number").replace("wrong_unit", "wrong unit")
        for kind in ("not_a_number", "wrong_unit")
        for defect in manifest().defects(channel="api", dataset=name, kind=kind)
    }
    twice = manifest().count(channel="api", dataset=name, kind="duplicate")
    truth = {row[key]: row for row in outward(seed_table(name))}
    rejected = {item[key]: reason for item, reason in found.rejected}
    pages = -(-(len(truth) + twice) // 40)
    report(
        f"6 API at its worst (/{name})",
        truth=len(truth),
        got=len(found.items),
        lost=len(truth.keys() - found.items.keys() - rejected.keys()),
        changed=sum(truth.get(number) != item for number, item in found.items.items()),
        doubled_dropped=found.doubled,
        rejected=len(rejected),
        planted=len(planted),
        pages=pages,
        requests=found.requests,
        retries=",".join(f"{cause}:{count}" for cause, count in sorted(found.retries.items())),
    )
    assert rejected == planted
    assert found.items == {number: row for number, row in truth.items() if number not in planted}
    assert found.doubled == twice
    assert found.requests == pages + sum(found.retries.values())
    assert found.requests <= pages * 6
    assert {"500", "timeout"} <= set(found.retries)


def test_the_limit_is_met_and_obeyed(api):
    """A client that asks faster than it may is told to wait, waits, and loses nothing."""
    calm = {"errors": 0, "slow": 0, "trickle": 0, "rate": 5.0, "burst": 3}
    assert api.post("/chaos", json=calm).status_code == 200
    found = fetch_all(api, "/products", "product_id", {"limit": 20})
    report("6 API's rate limit", got=len(found.items), requests=found.requests, waited_after_429=found.retries["429"])
    assert len(found.items) == manifest().rows("products")
    assert found.retries["429"] > 0


@pytest.mark.timeout(60)
def test_a_service_that_never_recovers_is_given_up_in_bounded_time(api):
    """Patience has an end: so many requests for a page, and a message that says what came."""
    with pytest.raises(GaveUp, match="404"):
        fetch_all(api, "/no/such/list", "id")
    assert api.post("/chaos", json={"rate": 0.5, "burst": 1, "delay": 2.0, "slow": 1, "errors": 0}).status_code == 200
    with pytest.raises(GaveUp, match="2 attempts, the last one: "):
        fetch_all(api, "/orders", "order_id", attempts=2, seconds=PATIENCE)
    assert api.post("/chaos", json={"rate": 0.001, "burst": 1, "slow": 0, "trickle": 0}).status_code == 200
    with pytest.raises(GaveUp, match="429 Too Many Requests: it asks to wait 1000 s"):
        fetch_all(api, "/orders", "order_id", {"limit": 1}, seconds=PATIENCE)
