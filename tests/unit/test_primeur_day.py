"""A played day: in what order things happen, and that in the end the shop holds what the generator made."""

from __future__ import annotations

from collections import Counter, defaultdict
from datetime import UTC, date, datetime, timedelta
from functools import cache
from typing import Any

import pytest

from flow360.primeur.clock import PARIS
from flow360.primeur.day import MOVERS, TESTS, Day, Delete, Insert, Update, day
from flow360.primeur.plan import DAY, LAST_DAY, SEED_PLAN, WEEK, Plan
from flow360.primeur.schema import TABLES, load_order
from flow360.primeur.snapshot import seed_table

LIVES = {
    ("placed", "paid", "packed", "shipped", "delivered"),
    ("placed", "paid", "packed", "shipped", "refused", "refunded"),
    ("placed", "paid", "cancelled", "refunded"),
}
PLAYED = ("orders", "order_lines", "payments", "deliveries", "reviews", "temperatures", "weather", "van_routes")


@cache
def seed(name: str) -> list[dict[str, Any]]:
    """The rows of the committed week, in the order of their key."""
    rows = seed_table(name).to_pylist()
    return sorted(rows, key=lambda row: tuple(row[column] for column in TABLES[name].key))


class Shop:
    """The shop's tables in memory, with what PostgreSQL would refuse: a key twice, an orphan, a missing row."""

    def __init__(self) -> None:
        self.tables: dict[str, dict[tuple, dict[str, Any]]] = {name: {} for name in load_order()}
        for name in ("customers", "stores", "products"):
            self.apply(Insert(name, tuple(seed(name))))

    def apply(self, change: Any, must: bool = True) -> None:
        table, rows = TABLES[change.table], self.tables[change.table]
        if isinstance(change, Insert):
            for row in change.rows:
                assert set(row) == set(table.names)
                key = tuple(row[name] for name in table.key)
                if change.unless_there and key in rows:
                    continue
                assert key not in rows, f"{change.table} {key} twice"
                self._check_parents(table, row)
                rows[key] = dict(row)
        elif isinstance(change, Update):
            assert tuple(change.key) == table.key
            found = rows.get(tuple(change.key.values()))
            assert found or not must, f"{change.table} {change.key} is not there"
            if found:
                found.update(change.values)
        else:
            assert isinstance(change, Delete)
            values = set(change.values)
            for key in [key for key, row in rows.items() if row[change.column] in values]:
                del rows[key]

    def _check_parents(self, table: Any, row: dict[str, Any]) -> None:
        for column in table.columns:
            if column.references:
                parent, name = column.references.split(".")
                assert TABLES[parent].key == (name,)
                assert (row[column.name],) in self.tables[parent], f"{table.name}.{column.name} {row[column.name]}"

    def play(self, played: Day, events: int | None = None) -> Shop:
        for change in played.morning:
            self.apply(change, must=False)
        for event in played.events[:events]:
            for change in event.changes:
                self.apply(change)
        return self

    def rows(self, name: str) -> list[dict[str, Any]]:
        return [row for _, row in sorted(self.tables[name].items())]


def seed_rows(name: str, played: Day, orders: set[int]) -> list[dict[str, Any]]:
    """What the committed week has of a day."""
    midnight, after = (datetime.fromtimestamp(second, UTC) for second in (played.opens, played.closes))
    tomorrow = played.date + timedelta(days=1)
    mine = {
        "weather": lambda row: midnight <= row["observed_at"] < after,
        "temperatures": lambda row: midnight <= row["measured_at"] < after,
        "van_routes": lambda row: row["day"] == played.date or (row["day"], row["half"]) == (tomorrow, "am"),
    }
    return [row for row in seed(name) if mine.get(name, lambda row: row["order_id"] in orders)(row)]


@pytest.mark.parametrize("number", range(7))
def test_in_the_end_the_shop_holds_the_day_of_the_seed(number: int) -> None:
    played = day(WEEK + timedelta(days=number))
    midnight, after = (datetime.fromtimestamp(second, UTC) for second in (played.opens, played.closes))
    orders = {r["order_id"] for r in seed("orders") if midnight <= r["ordered_at"] < after}
    assert orders == set(played.numbers)
    shop = Shop().play(played)
    for name in PLAYED:
        assert shop.rows(name) == seed_rows(name, played, orders), name
    both = zip(shop.rows("customers"), seed("customers"), strict=True)
    moved = {now["customer_id"] for now, before in both if now != before}
    assert moved == {move.customer_id for move in played.movers}


def test_each_order_goes_its_way_in_order() -> None:
    played = day(DAY)
    lives, moments = defaultdict(list), defaultdict(list)
    for event in played.events:
        if event.what not in ("reviewed", "observed", "returned", "moved"):
            lives[event.subject].append(event.what)
            moments[event.subject].append(event.at)
    assert {tuple(lives[number]) for number in played.numbers} == LIVES
    assert {tuple(lives[number]) for number in set(lives) - set(played.numbers)} == {("tried", "erased")}
    assert len(lives) == len(played.numbers) + TESTS
    for number in played.numbers:
        # a refund may follow in the same second; nothing else does
        assert moments[number] == sorted(moments[number])
        assert len(set(moments[number][:-1])) == len(moments[number]) - 1
    assert [event.at for event in played.events] == sorted(event.at for event in played.events)
    assert played.opens <= played.events[0].at < played.closes < played.events[-1].at
    assert [played.due(event) for event in (played.events[0], played.events[-1])] == [
        played.events[0].at,
        played.closes,
    ]


def test_money_adds_up() -> None:
    shop = Shop().play(day(DAY))
    kept = Counter()
    for payment in shop.rows("payments"):
        kept[payment["order_id"]] += payment["amount_eur"] * (1 if payment["kind"] == "charge" else -1)
    for order in shop.rows("orders"):
        assert kept[order["order_id"]] == (order["total_eur"] if order["status"] == "delivered" else 0)


@pytest.mark.parametrize("when", [DAY, date(2026, 5, 11), date(2027, 1, 9)])
def test_a_day_is_the_same_each_time_and_can_be_played_from_anywhere(when: date) -> None:
    played = day(when)
    day_again = day(when)
    assert played == day_again
    shop = Shop()
    shop.play(played, events=len(played.events) // 2)
    half = shop.rows("orders")
    assert {row["status"] for row in half} >= {"placed", "shipped", "delivered", "cancelled"}
    whole = Shop().play(played)
    assert shop.play(played).tables == whole.tables
    # a restart in the middle goes on where it was
    on = Shop()
    on.play(played, events=700)
    for event in played.events[700:]:
        for change in event.changes:
            on.apply(change)
    assert on.tables == whole.tables


def test_days_go_on_after_the_week_and_never_collide() -> None:
    shop, numbers, last = Shop(), set(), 0
    for number in range(15):
        played = day(WEEK + timedelta(days=number))
        assert not numbers & set(played.numbers)
        assert played.numbers.start == last + 1 or not last
        numbers |= set(played.numbers)
        last = played.numbers.stop - 1
        shop.play(played)  # would find a key twice
    assert len(shop.rows("orders")) == len(numbers) == sum(SEED_PLAN.until(WEEK + timedelta(days=14)).orders_by_day)
    assert not {row["order_id"] for row in shop.rows("orders")} - numbers  # the staff's are gone
    assert shop.rows("orders")[:2000] == seed("orders")
    assert shop.rows("van_routes")[:180] == seed("van_routes")
    # taking one back leaves the others
    middle = day(WEEK + timedelta(days=9))
    before = {name: shop.rows(name) for name in PLAYED}
    assert {name: shop.play(middle).rows(name) for name in PLAYED} == before


def test_nobody_moves_twice_before_all_have_moved_once() -> None:
    turns = SEED_PLAN.customers // MOVERS
    movers = [move for number in range(0, turns, 37) for move in day(WEEK + timedelta(days=number)).movers]
    assert len({move.customer_id for move in movers}) == len(movers)
    first, second = (day(WEEK + timedelta(days=n)).movers for n in (2, 2 + turns))
    assert [move.customer_id for move in first] == [move.customer_id for move in second]
    assert [move.after for move in first] == [move.before for move in second]
    cities = {row["customer_id"]: row for row in seed("customers")}
    for move in first:
        home = cities[move.customer_id]
        assert move.before == {"street": home["street"], "postcode": home["postcode"]}
        assert move.after["street"] != home["street"]
        assert move.after["postcode"][:2] == home["postcode"][:2]  # the same city, and so the same store


@pytest.mark.parametrize(("when", "hours"), [(date(2026, 10, 25), 25), (date(2027, 3, 28), 23)])
def test_a_day_on_which_the_clocks_change(when: date, hours: int) -> None:
    played = day(when)
    assert played.closes - played.opens == hours * 3600
    placed = [datetime.fromtimestamp(e.at, PARIS) for e in played.events if e.what == "placed"]
    assert {moment.date() for moment in placed} == {when}
    assert len(placed) == len(played.numbers)
    observed = [e for e in played.events if e.what == "observed"]
    assert len(observed) == hours
    shop = Shop()
    for number in (-1, 0, 1):
        shop.play(day(when + timedelta(days=number)))
    assert len(shop.rows("weather")) == (48 + hours) * SEED_PLAN.stores


def test_days_that_there_are_not() -> None:
    for when in (WEEK - timedelta(days=1), LAST_DAY + timedelta(days=1)):
        with pytest.raises(ValueError, match="day: a date from 2026-05-04 to 2035-12-31"):
            day(when)


def test_a_greater_company_can_be_played_too() -> None:
    plan = Plan(scale=0.01)
    played = day(DAY, plan)
    assert len(played.numbers) == plan.orders_by_day[3] > 4 * 400 * 0.9
    assert sum(event.what == "placed" for event in played.events) == len(played.numbers)
    later = day(WEEK + timedelta(days=7), plan)
    assert later.numbers.start == 100_001 + sum(plan.orders_by_day)
