"""A day of the business: all that happens to the orders of one day, in order, as changes of the shop's tables.

Pure: the same day of the same plan is always the same list of events, so a program that knows how many of them it has
applied needs to remember nothing else. Once all are applied, the shop holds what the generator made of that day.

    from flow360.primeur.day import day
    [event for event in day(date(2026, 5, 7)).events if event.what == "refused"]
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from flow360.primeur import orders, tours, weather
from flow360.primeur.catalogue import FIRST_PRODUCT, prices
from flow360.primeur.customers import customers, store_of
from flow360.primeur.draws import below, money, rng
from flow360.primeur.places import cities
from flow360.primeur.plan import CHUNK, FIRST_CUSTOMER, FIRST_ORDER, SEED_PLAN, Plan
from flow360.primeur.pools import people

Row = Mapping[str, Any]

TESTS = 3
"""Orders that the staff places each day to try the shop, and erases minutes later."""
FIRST_TEST = 1_000_000_000
"""Their numbers are far above those of customers."""
TEST_NOTE = "Commande d'essai, ne pas préparer"
MOVERS = 3
"""Customers who move each day. Nobody moves twice before everybody has moved once."""


@dataclass(frozen=True)
class Insert:
    """New rows. With `unless_there` a row whose key is there already stays as it is."""

    table: str
    rows: tuple[Row, ...]
    unless_there: bool = False


@dataclass(frozen=True)
class Update:
    """New values for the one row with this key."""

    table: str
    key: Row
    values: Row


@dataclass(frozen=True)
class Delete:
    """All rows in which a column has one of these values."""

    table: str
    column: str
    values: tuple[Any, ...]


Change = Insert | Update | Delete


@dataclass(frozen=True)
class Event:
    """One thing that happens: `at` is in seconds since 1970, `subject` the number of the order, customer or tour."""

    at: int
    what: str
    subject: int
    changes: tuple[Change, ...]


@dataclass(frozen=True)
class Move:
    """A customer's new address, within the city; `before` and `after` hold street and postcode."""

    at: int
    customer_id: int
    before: Row
    after: Row


@dataclass(frozen=True)
class Day:
    """One day of the shop.

    Attributes:
        opens, closes: its midnights in Paris, in seconds since 1970.
        vans_from, vans_to: when the first van leaves and the last one is back.
        numbers: of its orders.
        movers: who moves; nothing else differs from the generator's rows in the end.
        morning: takes back what was played of this day, and plans its tours; it may be applied again and again.
        events: in order. Those after `closes` are what the day's orders still have to come: the next morning's tour,
            refunds, reviews.
    """

    date: date
    opens: int
    closes: int
    vans_from: int
    vans_to: int
    numbers: range
    movers: tuple[Move, ...]
    morning: tuple[Change, ...]
    events: tuple[Event, ...]

    def due(self, event: Event) -> int:
        """Return the second at which to apply the event: at the end of the day, in order, if it comes after it."""
        return min(event.at, self.closes)


def day(when: date, plan: Plan = SEED_PLAN) -> Day:
    """Collect all that happens on a day.

    Args:
        when: a day of the plan, or a later one: numbers go on where the plan's end.
        plan: the company that the shop was loaded with.

    Raises:
        ValueError: the day is before the plan's first, or too far away.
    """
    longer, n = plan.until(when), (when - plan.start).days
    chunks = [number for number, (day, _, _) in enumerate(orders.chunks(longer)) if day == n]
    first = FIRST_ORDER + sum(longer.orders_by_day[:n])
    numbers = range(first, first + longer.orders_by_day[n])
    tests = tuple(range(FIRST_TEST + n * TESTS, FIRST_TEST + (n + 1) * TESTS))
    read, sky, movers = tuple(tours.readings(plan, when)), _weather(plan, longer, n), _movers(plan, n)
    events = [
        *_staff(longer, n, tests),
        *(Event(m.at, "moved", m.customer_id, (_moving(m.customer_id, m.after),)) for m in movers),
        *_observed(sky),
        *_returned(longer, n, read),
        *chain.from_iterable(_lives(longer, n, chunk) for chunk in chunks),
    ]
    ours = (*numbers, *tests)
    morning = [
        *(Delete(table, "order_id", ours) for table in ("reviews", "deliveries", "payments", "order_lines", "orders")),
        Delete("temperatures", "route_id", tuple(dict.fromkeys(row["route_id"] for row in read))),
        Delete("weather", "observed_at", tuple(dict.fromkeys(row["observed_at"] for row in sky))),
        *(_moving(m.customer_id, m.before) for m in movers),
        Insert("van_routes", _rows(tours.van_routes(longer, wave) for wave in _waves(n, 3)), unless_there=True),
    ]
    return Day(
        date=when,
        opens=plan.midnight(n),
        closes=plan.midnight(n + 1),
        vans_from=tours.departure(longer, n, 0),
        vans_to=tours.departure(longer, n, 1) + tours.MINUTES * 60,
        numbers=numbers,
        movers=movers,
        morning=tuple(morning),
        events=tuple(sorted(events, key=lambda event: event.at)),
    )


def _rows(tables: Iterable[pa.Table]) -> tuple[Row, ...]:
    return tuple(row for table in tables for row in table.to_pylist())


def _second(moment: datetime) -> int:
    return int(moment.timestamp())


def _waves(n: int, count: int = 2) -> range:
    """Return the numbers of a day's tours: its morning, its evening, the next morning."""
    return range(n * 2, n * 2 + count)


# --- orders -----------------------------------------------------------------------------------------------------------


def _lives(plan: Plan, n: int, chunk: int) -> Iterable[Event]:
    """Yield what happens to the orders of a chunk, order by order."""
    lines, payments = (_by_order(make(plan, chunk)) for make in (orders.order_lines, orders.payments))
    deliveries, reviews = (_by_order(make(plan, chunk)) for make in (orders.deliveries, orders.reviews))
    leaves = {
        tours.route_id(plan, wave, van): tours.departure(plan, *plan.waves()[wave])
        for wave in _waves(n, 3)
        for van in range(plan.vans)
    }
    routes = orders.business(plan, chunk).route_id.tolist()
    draw = rng(plan.seed, "day", chunk)
    for order, route in zip(orders.orders(plan, chunk).to_pylist(), routes, strict=True):
        number = order["order_id"]
        yield from _life(
            order,
            lines[number],
            {payment["kind"]: payment for payment in payments[number]},
            next(iter(deliveries[number]), None),
            next(iter(reviews[number]), None),
            leaves[route],
            float(draw.random()),
        )


def _by_order(data: pa.Table) -> Mapping[int, list[Row]]:
    found: dict[int, list[Row]] = defaultdict(list)
    for row in data.to_pylist():
        found[row["order_id"]].append(row)
    return found


def _life(
    order: Row,
    lines: list[Row],
    payments: Mapping[str, Row],
    delivery: Row | None,
    review: Row | None,
    leaves: int,
    chance: float,
) -> Iterable[Event]:
    """Yield the events of one order, in order.

    Args:
        leaves: when its van leaves; a cancelled order is cancelled before that.
        chance: from 0 to 1, decides when it is packed or cancelled.
    """
    number = order["order_id"]

    def event(at: int, what: str, *changes: Change, status: str | None = None) -> Event:
        became = [Update("orders", {"order_id": number}, {"status": status})] if status else []
        return Event(at, what, number, (*changes, *became))

    placed = Insert("orders", ({**order, "status": "placed"},))
    yield event(_second(order["ordered_at"]), "placed", placed, Insert("order_lines", tuple(lines)))
    charge, refund = payments["charge"], payments.get("refund")
    paid = _second(charge["paid_at"])
    yield event(paid, "paid", Insert("payments", (charge,)))
    if delivery is None:
        last = min(leaves, _second(refund["paid_at"]))
        yield event(_between(paid, last, chance), "cancelled", status="cancelled")
    else:
        yield event(_between(max(paid, leaves - 2 * 3600), leaves, chance), "packed", status="packed")
        yield event(leaves, "shipped", status="shipped")
        yield event(
            _second(delivery["delivered_at"]),
            delivery["status"],
            Insert("deliveries", (delivery,)),
            status=delivery["status"],
        )
    if refund:
        became = "refunded" if delivery else None
        yield event(_second(refund["paid_at"]), "refunded", Insert("payments", (refund,)), status=became)
    if review:
        yield event(_second(review["written_at"]), "reviewed", Insert("reviews", (review,)))


def _between(first: int, last: int, chance: float) -> int:
    """Pick a moment after the first and not after the last."""
    return first + max(1, int((last - first) * chance))


def _staff(plan: Plan, n: int, numbers: tuple[int, ...]) -> Iterable[Event]:
    """Yield the orders by which the staff tries the shop: placed with one line, erased after some minutes."""
    draw = rng(plan.seed, "staff", n)
    for number in numbers:
        at = plan.second(n, 7) + int(draw.integers(0, 12 * 3600))
        customer, product = int(draw.integers(plan.customers)) + FIRST_CUSTOMER, int(draw.integers(len(prices())))
        price = money(prices()[[product]])[0].as_py()
        order = {
            "order_id": number,
            "customer_id": customer,
            "store_id": int(store_of(plan, np.array([customer]))[0]) + 1,
            "ordered_at": datetime.fromtimestamp(at, UTC),
            "channel": "web",
            "status": "placed",
            "items": 1,
            "total_eur": price,
            "delivery_note": TEST_NOTE,
        }
        line = {
            "order_id": number,
            "line_no": 1,
            "product_id": product + FIRST_PRODUCT,
            "quantity": 1,
            "unit_price_eur": price,
            "discount_eur": price - price,
            "line_total_eur": price,
        }
        yield Event(at, "tried", number, (Insert("orders", (order,)), Insert("order_lines", (line,))))
        gone = (Delete("order_lines", "order_id", (number,)), Delete("orders", "order_id", (number,)))
        yield Event(at + int(draw.integers(120, 540)), "erased", number, gone)


# --- customers --------------------------------------------------------------------------------------------------------


def _movers(plan: Plan, n: int) -> tuple[Move, ...]:
    """Draw the customers who move on the n-th day. Where to follows from how often they have moved before."""
    everybody = rng(plan.seed, "movers").permutation(plan.customers)
    moved, turn = divmod(n, len(everybody) // MOVERS)
    draw = rng(plan.seed, "moves", n)
    found = []
    for index in everybody[turn * MOVERS : (turn + 1) * MOVERS].tolist():
        chunk, place = divmod(index, CHUNK)
        row = customers(plan, chunk).slice(place, 1).to_pylist()[0]
        at = plan.second(n, 8) + int(draw.integers(0, 12 * 3600))
        found.append(Move(at, row["customer_id"], _address(plan, row, moved), _address(plan, row, moved + 1)))
    return tuple(found)


def _address(plan: Plan, customer: Row, moves: int) -> Row:
    """Find where somebody lives after so many moves: always in the same city, whose store goes on serving them."""
    if not moves:
        return {name: customer[name] for name in ("street", "postcode")}
    streets = people(plan.seed).streets
    postcodes = next(city.postcodes for city in cities() if city.name == customer["city"])
    number = np.array([customer["customer_id"]])
    return {
        "street": streets[int(below(plan.seed, f"street {moves}", number, len(streets))[0])].as_py(),
        "postcode": postcodes[int(below(plan.seed, f"postcode {moves}", number, len(postcodes))[0])],
    }


def _moving(customer: int, address: Row) -> Update:
    return Update("customers", {"customer_id": customer}, address)


# --- weather and vans -------------------------------------------------------------------------------------------------


def _weather(plan: Plan, longer: Plan, n: int) -> tuple[Row, ...]:
    """Return the weather of a day: that of the plan, as far as it goes."""
    if n > plan.days:
        return tuple(weather.later(longer, n).to_pylist())
    known = weather.weather(plan)
    opens, closes = (datetime.fromtimestamp(plan.midnight(k), UTC) for k in (n, n + 1))
    today = pc.and_(
        pc.greater_equal(known["observed_at"], pa.scalar(opens, known["observed_at"].type)),
        pc.less(known["observed_at"], pa.scalar(closes, known["observed_at"].type)),
    )
    return tuple(known.filter(today).to_pylist())


def _observed(rows: tuple[Row, ...]) -> Iterable[Event]:
    """Yield each hour's weather at the hour's end, when it is known."""
    hours: dict[datetime, list[Row]] = defaultdict(list)
    for row in rows:
        hours[row["observed_at"]].append(row)
    for begin, stores in hours.items():
        at = _second(begin + timedelta(hours=1))
        yield Event(at, "observed", at, (Insert("weather", tuple(stores)),))


def _returned(plan: Plan, n: int, read: tuple[Row, ...]) -> Iterable[Event]:
    """Yield the return of each van, which hands its thermometer's readings to the shop."""
    tour: dict[int, list[Row]] = defaultdict(list)
    for row in read:
        tour[row["route_id"]].append(row)
    for route in _rows(tours.van_routes(plan, wave) for wave in _waves(n)):
        rows = tuple(tour[route["route_id"]])
        yield Event(_second(route["returned_at"]), "returned", route["route_id"], (Insert("temperatures", rows),))
