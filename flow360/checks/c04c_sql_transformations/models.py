"""Exercises 1 and 2: a staging model, and a fact at the stated grain."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

import pandas as pd
from psycopg import Connection

from flow360.checks import scene
from flow360.checks.compare import expect_rows
from flow360.checks.draw import MONEY, PARIS, clock_changes, draw
from flow360.checks.scene import Asked
from flow360.checks.verdict import NotYet, exercise, expect, expect_equal, expect_type
from flow360.clients.query import sql
from flow360.errors import FlowError, ServiceError
from flow360.primeur.schema import ORDER_STATUSES
from flow360.processing import dbt

YEAR = 2026
"""The year of the days that are drawn."""


# --- What the exercises with a model ask ------------------------------------------------------------------------------


def built(variable: str, frame: Any, model: str, **options: Any) -> pd.Series:
    """Return the model's row of a fresh build; NotYet when it failed, or the learner's table is of something else."""
    expect_type(variable, frame, pd.DataFrame)
    expect(
        "node" in frame and model in set(frame["node"]),
        f"{variable}: expected what dbt.build({model!r}, lab=True) returns",
    )
    scene.free(f"lab.{model}")
    try:
        fresh = dbt.build(model, lab=True, **options)
    except ServiceError:
        raise
    except FlowError as error:
        raise NotYet(f"{variable}: {error}") from None
    for row in fresh.itertuples():
        if row.status in dbt.BAD:
            raise NotYet(f"{variable}: {row.node} ended with {row.status}: {row.message}")
    return fresh[fresh["node"] == model].iloc[0]


def node(model: str) -> dict[str, Any]:
    """Return what dbt knows of the model that was built last: `compiled_code`, `depends_on` …"""
    return dbt.manifest(lab=True, built=True)["nodes"][f"model.primeur.{model}"]


def compare(variable: str, found: Asked, truth: Asked, key: Sequence[str], why: str = "") -> None:
    """Raise NotYet unless both have the same columns, of the same kinds, and the same rows."""
    scene.expect_kinds(variable, found, truth, exact=True)
    expect_rows(variable, found=found.rows, expected=truth.rows, key=key, why=why)


def _parents(model: str) -> list[str]:
    return node(model)["depends_on"]["nodes"]


def _relation(model: str) -> str:
    kinds = {"r": "table", "v": "view", "m": "materialized view", "p": "partitioned table"}
    kind = sql("select relkind::text from pg_class where oid = to_regclass(%s)", [f"lab.{model}"])
    return kinds.get(kind.iat[0, 0], "something else") if len(kind) else "nothing"


def moments(chance: random.Random) -> Iterator[datetime]:
    """Yield moments around midnights in Paris, both clock changes among them, and some at any hour; without end."""
    second = timedelta(seconds=1)
    days = [
        *clock_changes(YEAR),
        datetime(YEAR, 1, 1, tzinfo=PARIS),
        datetime(YEAR, 7, chance.randint(2, 30), tzinfo=PARIS),
    ]
    for day in days:
        yield from (day - second, day, day + timedelta(minutes=30), day + timedelta(days=1) - second)
    while True:
        yield datetime(YEAR, 2, 1, tzinfo=PARIS) + timedelta(minutes=chance.randrange(300 * 24 * 60))


# --- The exercises ----------------------------------------------------------------------------------------------------

PAYMENTS = """
    select payment_id, order_id, kind as payment_kind, method as payment_method,
           case kind when 'refund' then -amount_eur else amount_eur end as signed_eur,
           paid_at, (paid_at at time zone 'Europe/Paris')::date as paid_on
    from lake.payments
"""


@exercise
def staging_model(payments: Any) -> None:
    """Check view lab.lab_stg_payments: the source's rows, renamed, with a signed amount and the day in Paris."""
    model = "lab_stg_payments"
    built("payments", payments, model)
    if _parents(model) != ["source.primeur.lake.payments"]:
        shown = ", ".join(p.rpartition(".")[2] for p in _parents(model)) or "nothing"
        raise NotYet(f"payments: expected source('lake', 'payments') as its only parent, found {shown}")
    expect_equal("payments", found=_relation(model), expected="view", why=f"how lab.{model} is materialized")
    chance = draw()
    with scene.scene("payments") as db:
        for drawn in (None, _payments(chance)):
            if drawn:
                scene.replace(db, "lake.payments_by_day", drawn)
            found = scene.ask(db, "payments", f"select * from lab.{model}")
            compare("payments", found, scene.ask(db, "payments", PAYMENTS), ["payment_id"])


def _payments(chance: random.Random) -> list[dict[str, Any]]:
    """Draw charges and refunds of any amount, also of none, and by a method that nobody has seen yet."""
    methods = ["card", "wallet", "transfer", "voucher", f"method-{chance.randint(1, 99)}"]
    paid = moments(chance)
    return [
        {
            "payment_id": 10_000_000 + n, "order_id": chance.randint(1, 999),
            "kind": chance.choice(["charge", "refund"]), "method": methods[n % len(methods)],
            "amount_eur": chance.choice(["0.00", *MONEY]),
            "paid_at": next(paid), "_day": "2026-05-07", "_source": "shop",
        }
        for n in chance.sample(range(1000), 60)
    ]  # fmt: skip


PRODUCT_DAYS = """
    select l.product_id, (o.ordered_at at time zone 'Europe/Paris')::date as ordered_on,
           count(distinct o.order_id) as orders, sum(l.quantity) as quantity, sum(l.line_total_eur) as sales_eur
    from lake.order_lines l join lake.orders o using (order_id)
    where o.status <> 'cancelled'
    group by 1, 2
"""


@exercise
def fact_at_grain(product_days: Any) -> None:
    """Check table lab.lab_fct_product_days: one row for each product and day (Paris), without cancelled orders."""
    model, key = "lab_fct_product_days", ["product_id", "ordered_on"]
    built("product_days", product_days, model)
    parents = [parent.rpartition(".")[2] for parent in _parents(model)]
    if not parents or not all(parent.startswith("stg_") for parent in parents):
        shown = ", ".join(parents) or "nothing"
        raise NotYet(f"product_days: expected staging models of the project as its parents, found {shown}")
    expect_equal("product_days", found=_relation(model), expected="table", why=f"how lab.{model} is materialized")
    columns = set(sql(f"select * from lab.{model} limit 0").columns)
    if set(key) <= columns:
        doubled = sql(f"select 1 as n from lab.{model} group by product_id, ordered_on having count(*) > 1")
        expect(doubled.empty, f"product_days: the grain is broken: {len(doubled)} products have a day several times")
    chance, compiled = draw(), node(model)["compiled_code"]
    with scene.scene("product_days") as db:
        found = scene.ask(db, "product_days", f"select * from lab.{model}")
        compare("product_days", found, scene.ask(db, "product_days", PRODUCT_DAYS), key)
        _sold(db, chance)
        found, truth = (scene.ask(db, "product_days", query) for query in (compiled, PRODUCT_DAYS))
        compare("product_days", found, truth, key)


def _sold(db: Connection, chance: random.Random) -> None:
    """Insert orders in each state, also on days of 23 or 25 hours, that name an article once, twice, or not."""
    products = [number for (number,) in db.execute("select product_id from lake.products order by 1").fetchall()]
    some, ordered = chance.sample(products, 4), moments(chance)
    kept = {"_day": "2026-05-07", "_source": "shop"}
    orders, lines = [], []
    for number in chance.sample(range(1000, 9999), 84):
        status = ORDER_STATUSES[len(orders) % len(ORDER_STATUSES)]
        named = chance.choices(some, k=chance.randint(1, 5))
        orders.append(
            {
                "order_id": number, "customer_id": chance.randint(1, 99), "store_id": chance.randint(1, 5),
                "ordered_at": next(ordered), "channel": chance.choice(["web", "app", "phone"]), "status": status,
                "items": len(named), "total_eur": chance.choice(MONEY), **kept,
            }
        )  # fmt: skip
        lines += [
            {
                "order_id": number, "line_no": at, "product_id": product, "quantity": chance.choice([1, 2, 2, 7]),
                "unit_price_eur": chance.choice(MONEY), "discount_eur": "0.00",
                "line_total_eur": chance.choice(["0.00", "4.20", "4.20", *MONEY]), **kept,
            }
            for at, product in enumerate(named, 1)
        ]  # fmt: skip
    scene.replace(db, "lake.orders_by_day", orders)
    scene.replace(db, "lake.order_lines_by_day", lines)
