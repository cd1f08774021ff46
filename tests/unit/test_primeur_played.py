"""What others see of a day that was played: the shop stands in as lists of rows."""

from __future__ import annotations

import csv
import io
from collections import Counter
from datetime import date, timedelta

import pytest

from flow360.primeur import played
from flow360.primeur.api.feed import KEYS, UNTIDY
from flow360.primeur.api.market import Market
from flow360.primeur.day import Insert, Update, day
from flow360.primeur.plan import SEED_PLAN
from flow360.primeur.records import outward_row
from flow360.primeur.schema import TABLES
from flow360.primeur.snapshot import dropped

LATER = date(2026, 6, 3)


class Shop:
    """The shop after some days were played."""

    def __init__(self, *days: date) -> None:
        self.orders: dict[int, dict] = {}
        self.other: dict[str, list[dict]] = {"deliveries": [], "reviews": []}
        self.play = 1
        for when in days:
            self._play(when)

    def _play(self, when: date) -> None:
        for event in day(when).events:
            for change in event.changes:
                if isinstance(change, Insert) and change.table == "orders":
                    self.orders |= {row["order_id"]: dict(row) for row in change.rows}
                elif isinstance(change, Insert) and change.table in self.other:
                    self.other[change.table] += change.rows
                elif isinstance(change, Update) and change.table == "orders":
                    self.orders[change.key["order_id"]].update(change.values)
                elif not isinstance(change, Insert | Update) and change.table == "orders":
                    for number in change.values:
                        del self.orders[number]

    def rows(self, _shop: object, table: str, when: date) -> list[dict]:
        found = list(self.orders.values()) if table == "orders" else self.other[table]
        out = sorted((outward_row(row) for row in found), key=lambda row: row[KEYS[table]])
        return [row for row in out if row[TABLES[table].moment][:10] == when.isoformat()]

    def __enter__(self) -> Shop:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to close."""


@pytest.fixture(scope="module")
def shop() -> Shop:
    return Shop(LATER - timedelta(days=1), LATER)


def test_the_branches_file_lacks_three_orders_which_come_a_day_late(shop, monkeypatch, tmp_path):
    monkeypatch.setattr(played, "rows", shop.rows)
    before = played.drop(None, SEED_PLAN, LATER - timedelta(days=1), tmp_path)
    path = played.drop(None, SEED_PLAN, LATER, tmp_path)
    assert path.name == "orders_2026-06-03.csv"
    first = path.read_bytes()
    assert played.drop(None, SEED_PLAN, LATER, tmp_path).read_bytes() == first

    def numbers(data: bytes) -> Counter:
        lines = csv.reader(io.StringIO(data.decode("latin-1")))
        return Counter(int(line[0]) for line in lines if line and line[0].isdigit())

    due = {row["order_id"] for row in shop.rows(None, "orders", LATER)}
    yesterday = {row["order_id"] for row in shop.rows(None, "orders", LATER - timedelta(days=1))}
    come = numbers(first)
    assert len(due - set(come)) == 3, "they come tomorrow"
    assert len(set(come) & yesterday) == 3, "they were missing yesterday"
    assert set(come) & yesterday == yesterday - set(numbers(before.read_bytes()))
    assert set(come) <= due | yesterday
    assert come.total() - len(come) == 5, "the same line again"


def test_the_first_day_after_the_committed_week_gets_nothing_late(monkeypatch, tmp_path):
    first = SEED_PLAN.day(SEED_PLAN.days)
    monkeypatch.setattr(played, "rows", Shop(first).rows)
    text = played.drop(None, SEED_PLAN, first, tmp_path).read_bytes().decode("latin-1")
    days = {line[1][:10] for line in csv.reader(io.StringIO(text)) if len(line) > 1} - {"ordered_at"}
    assert days == {"2026-05-11"}


@pytest.mark.parametrize("name", sorted(UNTIDY))
def test_the_api_lists_a_later_day_once_it_is_over_and_again_when_it_was_played_again(name, shop, monkeypatch):
    asked = []
    monkeypatch.setattr(played, "rows", lambda *words: asked.append(words) or shop.rows(*words))
    monkeypatch.setattr("flow360.primeur.api.market.loaded_plan", lambda _shop: SEED_PLAN)
    monkeypatch.setattr(played, "finished", lambda conn, _day: conn.play)
    market = Market(lambda: shop)
    truth = {row[KEYS[name]]: row for row in shop.rows(None, name, LATER)}
    found = market.items(name, "2026-06-03")
    assert {row[KEYS[name]] for row in found} == set(truth)
    assert len(found) > len(truth), "some come twice"
    assert sum(row != truth[row[KEYS[name]]] for row in found) >= 2, "some are not as they should be"
    assert market.items(name, "2026-06-03") is found
    assert len(asked) == 1
    monkeypatch.setattr(shop, "play", 2)
    assert market.items(name, "2026-06-03") == found
    assert len(asked) == 2
    monkeypatch.setattr(shop, "play", None)
    assert market.items(name, "2026-06-03") == []
    assert market.items(name, "2026-05-07") == Market().items(name, "2026-05-07")


def test_the_drop_zone_holds_the_committed_week_and_the_days_that_were_played(tmp_path):
    week, later = tmp_path / "week", tmp_path / "later"
    for folder, names in (
        (week, ("orders_2026-05-10.csv",)),
        (later, ("orders_2026-05-11.csv", "orders_2026-05-10.csv")),
    ):
        folder.mkdir()
        for name in names:
            (folder / name).touch()
    assert dropped("orders_*.csv", (week, later)) == [week / "orders_2026-05-10.csv", later / "orders_2026-05-11.csv"]
    assert dropped("orders_2026-05-12.csv", (week, tmp_path / "not made yet")) == []
