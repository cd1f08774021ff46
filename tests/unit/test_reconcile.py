"""A day in every layer, without the layers."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

from flow360.storage.ledger import Entry, Ledger
from flow360.storage.reconcile import Reconciled, differences, summary

SAME = {1: Decimal("7.50"), 2: Decimal("9.00")}


def test_layers_that_hold_the_same_have_no_difference():
    assert differences({"shop": SAME, "clean": {2: Decimal("9.0"), 1: Decimal("7.5")}, "mart": SAME}) == []


def test_each_order_that_differs_is_named_with_both_layers():
    other = {1: Decimal("7.51"), 3: Decimal("1.00")}
    assert differences({"shop": SAME, "clean": other}) == [
        "order 2: in shop, not in clean",
        "order 3: in clean, not in shop",
        "order 1: 7.50 EUR in shop, 7.51 EUR in clean",
    ]


def test_where_many_differ_some_are_named_and_the_others_counted():
    many = dict.fromkeys(range(1, 1_013), Decimal(1))
    found = differences({"shop": many, "clean": {}})
    assert len(found) == 11
    assert found[-1] == "1,002 more orders differ between shop and clean"


def test_the_account_of_a_night_adds_up_in_a_line_a_table():
    entries = (
        Entry("orders", "shop", "orders.csv", "clean", None, 400),
        Entry("orders", "api", "orders-0001.json", "doubled", None, 390),
        Entry("orders", "api", "orders-0001.json", "quarantined", "total_eur: missing", 10),
    )
    found = Reconciled(date(2026, 5, 7), {"shop": SAME, "mart": SAME}, Ledger(date(2026, 5, 7), entries), ())
    assert summary(found) == ["orders: 800 delivered = 400 clean, 390 doubled, 10 quarantined"]
    assert found.equal
    assert found.frame().values.tolist() == [["shop", 2, Decimal("16.50")], ["mart", 2, Decimal("16.50")]]
