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


def test_a_day_that_nobody_played_is_neither_equal_nor_different():
    """The shop's customers came all the same; of an order nobody knows, and no branch leaves a file."""
    day = date(2026, 11, 27)
    entries = (Entry("customers", "shop", "customers.csv", "clean", None, 2_000),)
    nothing = Reconciled(day, {"shop": {}, "mart": {}}, Ledger(day, entries), ())
    assert (nothing.idle, nothing.equal) == (True, False)
    assert nothing.verdict == "nothing happened on 2026-11-27, in no layer: flow360 play 2026-11-27 plays it"
    heard = Entry("orders", "api", "orders-0001.json", "quarantined", "the shop has none of this key", 1)
    cut = "shop: customers.csv had 2,001 rows, 2,000 were read"
    for layers, more, differ in (({"mart": SAME}, (), ()), ({"mart": {}}, (heard,), ()), ({"mart": {}}, (), (cut,))):
        assert not Reconciled(day, layers, Ledger(day, (*entries, *more)), differ).idle


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
