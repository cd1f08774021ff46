"""Orders and all that hangs on them: lines, payments, deliveries and reviews of the same chunk.

`business(plan, chunk)` draws a chunk once as plain numpy columns; each table is a view of it. That is why the total of
an order is the sum of its lines, and why an order that was refused at the door has a refund and an angry review.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pyarrow as pa

from flow360.primeur import tours
from flow360.primeur.catalogue import FIRST_PRODUCT, PRODUCTS, popularity, prices
from flow360.primeur.customers import store_of
from flow360.primeur.draws import moments, money, pick, rng, take, texts
from flow360.primeur.places import holiday
from flow360.primeur.plan import (
    CHUNK,
    FAILING_MINUTE,
    FAILING_VAN,
    FIRST_CUSTOMER,
    FIRST_ORDER,
    Plan,
)
from flow360.primeur.pools import NOTES, review_texts
from flow360.primeur.schema import TABLES
from flow360.primeur.weather import wet

CHANNELS = ("web", "app", "phone")
STATUSES = ("delivered", "cancelled", "refunded")
"""What an order has become in the end."""
DELIVERED, CANCELLED, REFUNDED = range(3)
METHODS = ("card", "wallet", "transfer", "voucher")
_HOURS = (4, 2, 1, 1, 2, 8, 25, 50, 55, 45, 40, 50, 60, 45, 35, 35, 45, 70, 90, 95, 80, 55, 30, 12)
"""Demand by the hour of the day in Paris."""
_LINES = (0, 10, 18, 20, 17, 12, 9, 6, 4, 2, 1, 1)
"""How many orders have 0, 1, 2 … lines."""
_SLOTS = ((11, 12, 13), (17, 18, 19))
"""First hour of the promised hours of a morning and an evening tour."""


@dataclass(frozen=True)
class Business:
    """One chunk of orders, each array of shape (orders,), each `line_*` of shape (lines,). Stores, products and vans
    count from 0, money is in cents, moments in seconds since 1970. A cancelled order has a route that nobody drove."""

    order_id: np.ndarray
    customer_id: np.ndarray
    store: np.ndarray
    ordered_at: np.ndarray
    channel: np.ndarray
    status: np.ndarray
    items: np.ndarray
    total: np.ndarray
    note: np.ndarray
    method: np.ndarray
    route_id: np.ndarray
    promised_from: np.ndarray
    delivered_at: np.ndarray
    door_hundredths: np.ndarray
    line_order: np.ndarray
    line_no: np.ndarray
    line_product: np.ndarray
    line_quantity: np.ndarray
    line_discount: np.ndarray
    line_total: np.ndarray
    draw: np.random.Generator

    @property
    def late(self) -> np.ndarray:
        return self.delivered_at > self.promised_from + 3600


def chunks(plan: Plan) -> list[tuple[int, int, int]]:
    """List the chunks of orders as (day, first order within the day, number of orders)."""
    return [
        (day, first, min(CHUNK, n - first)) for day, n in enumerate(plan.orders_by_day) for first in range(0, n, CHUNK)
    ]


def _clock(plan: Plan, day: int, first: int, n: int, draw: np.random.Generator) -> np.ndarray:
    """Draw the second of the day of each order, rising: the i-th of N has the i-th of N equal shares of the demand."""
    edges = np.cumsum(np.repeat(np.array(_HOURS, np.int64), 3600))
    share = (np.arange(first, first + n) << 8) + draw.integers(0, 256, n)
    return np.searchsorted(edges, share * edges[-1] // (plan.orders_by_day[day] << 8), side="right")


def _baskets(draw: np.random.Generator, items: np.ndarray) -> tuple[np.ndarray, ...]:
    """Draw the orders' lines: position of the order, line number, product, quantity, discount, total.

    An order names a product once: its lines walk over the catalogue by a step that has no common divisor with its
    length.
    """
    order = np.repeat(np.arange(len(items)), items)
    line = np.arange(len(order)) - np.repeat(np.cumsum(items) - items, items)
    start = np.repeat(pick(draw, len(items), popularity()), items)
    product = (start + line * np.repeat(draw.choice(np.array([7, 13, 37, 73, 89, 111]), len(items)), items)) % PRODUCTS
    quantity = 1 + pick(draw, len(order), (70, 20, 7, 3))
    gross = prices()[product] * quantity
    discount = np.where(draw.integers(0, 20, len(order)) == 0, gross // 10, 0)
    return order, line + 1, product, quantity, discount, gross - discount


@lru_cache(maxsize=2)
def business(plan: Plan, chunk: int) -> Business:
    """Draw one chunk of orders with all its consequences. The two last ones are kept: five tables ask for each."""
    day, first, n = chunks(plan)[chunk]
    draw = rng(plan.seed, "orders", day, first)
    clock = _clock(plan, day, first, n, draw)
    # when the clocks change, the three hours of the night are two or four; else this is the identity
    change = plan.midnight(day + 1) - plan.midnight(day) - 86_400
    passed = np.where(clock < 10_800, clock * (10_800 + change) // 10_800, clock + change)
    customer = np.minimum(draw.integers(0, plan.customers, n), draw.integers(0, plan.customers, n)) + FIRST_CUSTOMER
    store = store_of(plan, customer)
    items = pick(draw, n, _LINES)
    line_order, line_no, product, quantity, discount, line_total = _baskets(draw, items)
    starts = np.cumsum(items) - items
    order_id = FIRST_ORDER + sum(plan.orders_by_day[:day]) + first + np.arange(n)

    # until 10:00 the morning's tour, until 16:00 the evening's, later the next morning's
    wave = day * 2 + (clock >= 10 * 3600) + (clock >= 16 * 3600)
    van = tours.van_of(plan, store, order_id)
    slot = pick(draw, n, (30, 40, 30))
    slot_hour = np.array(_SLOTS)[wave % 2, slot]
    midnight = np.array([plan.second(d, 0) for d in range(day, day + 2)])
    promised = midnight[wave // 2 - day] + slot_hour * 3600
    rain = wet(plan, store, wave // 2)
    eve = np.array([holiday(plan.day(d + 1)) is not None for d in (day, day + 1)])[wave // 2 - day]
    risk = 30 + 60 * (slot == 2) + 12 * items + 130 * rain + 70 * eve
    late = draw.integers(0, 1000, n) < risk
    minutes = np.where(late, draw.integers(61, 85, n), draw.integers(2, 60, n))
    delivered = promised + minutes * 60 + draw.integers(0, 60, n)

    # the van's cooling fails: what it brings from 30 minutes later on is warm, and is refused
    broken = np.zeros(n, bool)
    for w in np.unique(wave):
        if tours.failed(plan, int(w) // 2, int(w) % 2):
            when = tours.departure(plan, int(w) // 2, 1) + (FAILING_MINUTE + 30) * 60
            broken |= (wave == w) & (van == FAILING_VAN) & (delivered >= when)
    cancelled = draw.integers(0, 1000, n) < 22
    status = np.where(cancelled, CANCELLED, np.where(broken, REFUNDED, DELIVERED))
    door = draw.integers(320, 690, n) + 700 * broken
    return Business(
        order_id=order_id,
        customer_id=customer,
        store=store,
        ordered_at=plan.midnight(day) + passed,
        channel=pick(draw, n, (45, 48, 7)),
        status=status,
        items=items,
        total=np.add.reduceat(line_total, starts) if n else line_total,
        note=pick(draw, n, [3] * len(NOTES) + [70]),
        method=pick(draw, n, (62, 25, 6, 7)),
        route_id=tours.route_id(plan, wave, van),
        promised_from=promised,
        delivered_at=delivered,
        door_hundredths=door,
        line_order=line_order,
        line_no=line_no,
        line_product=product,
        line_quantity=quantity,
        line_discount=discount,
        line_total=line_total,
        draw=draw,
    )


def orders(plan: Plan, chunk: int) -> pa.Table:
    """Build one row an order, in order of time."""
    b = business(plan, chunk)
    columns = [
        b.order_id,
        b.customer_id,
        b.store + 1,
        moments(b.ordered_at),
        take(texts(CHANNELS), b.channel),
        take(texts(STATUSES), b.status),
        b.items,
        money(b.total),
        take(texts([*NOTES, None]), b.note),
    ]
    return TABLES["orders"].build(columns)


def order_lines(plan: Plan, chunk: int) -> pa.Table:
    """Build the lines of the same orders."""
    b = business(plan, chunk)
    columns = [
        b.order_id[b.line_order],
        b.line_no,
        b.line_product + FIRST_PRODUCT,
        b.line_quantity,
        money(prices()[b.line_product]),
        money(b.line_discount),
        money(b.line_total),
    ]
    return TABLES["order_lines"].build(columns)


def payments(plan: Plan, chunk: int) -> pa.Table:
    """Build a charge for each order, and a refund for each that was cancelled or refused."""
    b, draw = business(plan, chunk), rng(plan.seed, "payments", chunk)
    n = len(b.order_id)
    charged = b.ordered_at + draw.integers(5, 400, n)
    after = draw.integers(1_800, 14_400, n)
    given_back = np.where(b.status == CANCELLED, charged + after, b.delivered_at + after)
    back = np.flatnonzero(b.status != DELIVERED)
    which = np.concatenate([np.arange(n), back])
    refund = np.repeat([0, 1], [n, len(back)])
    order = np.lexsort([refund, which])
    which, refund = which[order], refund[order]
    columns = [
        b.order_id[which] * 10 + 1 + refund,
        b.order_id[which],
        take(texts(["charge", "refund"]), refund),
        take(texts(METHODS), b.method[which]),
        money(b.total[which]),
        moments(np.where(refund == 1, given_back[which], charged[which])),
    ]
    return TABLES["payments"].build(columns)


def deliveries(plan: Plan, chunk: int) -> pa.Table:
    """Build one row for each order that left the store."""
    b = business(plan, chunk)
    out = np.flatnonzero(b.status != CANCELLED)
    columns = [
        b.order_id[out] * 10 + 4,
        b.order_id[out],
        b.route_id[out],
        moments(b.promised_from[out]),
        moments(b.promised_from[out] + 3600),
        moments(b.delivered_at[out]),
        take(texts(["delivered", "refused"]), (b.status[out] == REFUNDED).astype(np.int8)),
        b.door_hundredths[out] / 100,
    ]
    return TABLES["deliveries"].build(columns)


def reviews(plan: Plan, chunk: int) -> pa.Table:
    """Build a review of about one order in five; the late get fewer stars, the refused one or two."""
    b, draw = business(plan, chunk), rng(plan.seed, "reviews", chunk)
    n = len(b.order_id)
    chance = np.where(b.status == REFUNDED, 70, np.where(b.late, 35, 18))
    told = np.flatnonzero((draw.integers(0, 100, n) < chance) & (b.status != CANCELLED))
    happy = pick(draw, n, (3, 5, 12, 35, 45))
    angry = pick(draw, n, (35, 40, 20, 5))
    rating = 1 + np.where(b.status == REFUNDED, draw.integers(0, 2, n), np.where(b.late, angry, happy))[told]
    pools = [review_texts(stars) for stars in range(1, 6)]
    sizes = np.array([len(p) for p in pools])
    first = np.cumsum(sizes) - sizes
    text = first[rating - 1] + draw.integers(0, 1 << 30, len(told)) % sizes[rating - 1]
    product = b.line_product[(np.cumsum(b.items) - b.items)[told]]
    columns = [
        b.order_id[told] * 10 + 3,
        b.order_id[told],
        b.customer_id[told],
        product + FIRST_PRODUCT,
        rating,
        take(pa.concat_arrays(pools), text),
        moments(b.delivered_at[told] + draw.integers(1_800, 130_000, len(told))),
    ]
    return TABLES["reviews"].build(columns)
