"""The fleet's rows: the shop's keys, odometers that go on, the same rows in a longer plan."""

from __future__ import annotations

import re
from collections import Counter
from datetime import timedelta

import pytest

from flow360.primeur import fleet_load
from flow360.primeur.generate import table
from flow360.primeur.manifest import manifest
from flow360.primeur.plan import SEED_PLAN, Plan
from flow360.primeur.schema import FLEET
from flow360.primeur.snapshot import seed_table

LONGER = SEED_PLAN.until(SEED_PLAN.day(20))
LARGER = Plan(scale=0.5, days=2)
PLANS = pytest.mark.parametrize("plan", [SEED_PLAN, LONGER, LARGER], ids=["seed", "longer", "larger"])


@pytest.mark.parametrize("name", FLEET)
def test_the_seed_is_what_the_generator_makes(name):
    assert seed_table(name).equals(table(name))
    assert manifest().rows(name) == len(table(name))


@PLANS
def test_tours_are_the_shops_and_no_driver_is_in_two_places(plan):
    tours, routes = table("tours", plan), table("van_routes", plan)
    for name in ("route_id", "van_id", "day", "half", "departed_at", "returned_at"):
        assert tours[name] == routes[name]
    rows, shop = tours.to_pylist(), routes.to_pylist()
    home = {row["driver_id"]: row["store_id"] for row in table("drivers", plan).to_pylist()}
    for tour, route in zip(rows, shop, strict=True):
        assert tour["odometer_to_km"] - tour["odometer_from_km"] == pytest.approx(route["distance_km"], abs=1e-6)
        assert home[tour["driver_id"]] == route["store_id"]
    assert max(Counter((row["driver_id"], row["day"]) for row in rows).values()) == 1


@PLANS
def test_an_odometer_goes_on_where_it_stood_and_ends_at_the_vans(plan):
    stood: dict[str, float] = {}
    for tour in table("tours", plan).to_pylist():
        assert stood.setdefault(tour["van_id"], tour["odometer_from_km"]) == tour["odometer_from_km"]
        stood[tour["van_id"]] = tour["odometer_to_km"]
    assert {row["van_id"]: row["odometer_km"] for row in table("vans", plan).to_pylist()} == stood


@PLANS
def test_keys_are_unique_and_parents_are_there(plan):
    tables = {name: table(name, plan).to_pylist() for name in FLEET}
    for name, one in FLEET.items():
        for keys in (one.key, *((column.name,) for column in one.columns if column.unique)):
            values = [tuple(row[key] for key in keys) for row in tables[name]]
            assert len(set(values)) == len(values), f"{name}: {keys}"
        for column in one.columns:
            if column.references:
                parent, key = column.references.split(".")
                assert {row[column.name] for row in tables[name]} <= {row[key] for row in tables[parent]}
    assert all(re.fullmatch("[A-Z]{2}-[0-9]{3}-[A-Z]{2}", row["plate"]) for row in tables["vans"])


def test_a_longer_plan_only_adds_rows():
    for name in ("drivers", "tours", "maintenance"):
        assert {str(row) for row in table(name).to_pylist()} <= {str(row) for row in table(name, LONGER).to_pylist()}


def test_the_van_whose_cooling_failed_was_repaired_before_its_next_tour():
    incident = manifest().incident
    (repair,) = [row for row in table("maintenance").to_pylist() if row["kind"] == "cooling"]
    tours = [row for row in table("tours").to_pylist() if row["van_id"] == incident.van_id]
    at = next(n for n, row in enumerate(tours) if row["route_id"] == incident.route_id)
    assert repair["van_id"] == incident.van_id
    assert tours[at]["returned_at"] < repair["reported_at"] < repair["done_at"] < tours[at + 1]["departed_at"]
    assert repair["done_at"] - repair["reported_at"] == timedelta(hours=9)
    open_ones = [row for row in table("maintenance").to_pylist() if row["done_at"] is None]
    assert open_ones
    assert all(row["cost_eur"] is None for row in open_ones)


def test_the_shape_follows_the_tables():
    assert len(fleet_load.SHAPE) == 12
    assert "foreign key (van_id) references vans (van_id)" in fleet_load.create(FLEET["tours"])
