"""Exercise 5: a test that returns exactly the orders that must not go on."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

import pandas as pd
from psycopg import Connection

from flow360.checks import scene
from flow360.checks.c04c_sql_transformations.setting import prepare_files
from flow360.checks.draw import draw
from flow360.checks.verdict import NotYet, exercise, expect, expect_type, shown
from flow360.errors import FlowError, ServiceError
from flow360.primeur.manifest import manifest
from flow360.processing import dbt

NAME, ORDERS = "lab_orders_are_fit", "landing.orders"
KINDS = ("duplicate", "missing_key", "orphan", "not_a_number", "wrong_unit", "bad_row")
Row = dict[str, Any]


@exercise
def defects_test(fit: Any) -> None:
    """Check lab_orders_are_fit: of the landed files it returns exactly the spoilt orders, of clean ones none."""
    expect_type("fit", fit, pd.DataFrame)
    prepare_files()
    row = _tested()
    expect(row["status"] != "error", f"fit: {NAME} could not run: {row['message']}")
    expect(row["status"] == "fail", f"fit: {NAME} ended with {row['status']} on the untidy files: it must fail")
    chance, query = draw(), _compiled()
    planted = {
        kind: {str(d.keys["order_id"]) for d in manifest().defects(channel="files", dataset="orders", kind=kind)}
        for kind in KINDS
    }
    with scene.scene("fit") as db:
        _judge(_returned(db, query), planted)
        sound = _sound(db, chance)
        spoilt = _spoilt(db, chance, sound[:30])
        scene.replace(db, ORDERS, _numbered(chance, [*sound[30:], *(row for rows in spoilt.values() for row in rows)]))
        _judge(_returned(db, query), {kind: {row["order_id"] for row in rows} for kind, rows in spoilt.items()})
        scene.replace(db, ORDERS, _numbered(chance, sound))
        accused = _returned(db, query)
    expect(not accused, f"fit: of clean orders {NAME} accuses {shown(len(accused))}: it must pass there")


def _tested() -> pd.Series:
    try:
        return dbt.test(NAME, lab=True).set_index("node").loc[NAME]
    except ServiceError:
        raise
    except FlowError as error:
        raise NotYet(f"fit: {error}") from None


def _compiled() -> str:
    """Read the SQL of the test, as the last run left it."""
    nodes = dbt.manifest(lab=True, built=True)["nodes"].values()
    return next(node["compiled_code"] for node in nodes if node["name"] == NAME).strip().rstrip(";")


def _returned(db: Connection, query: str) -> set[str]:
    found = scene.ask(db, "fit", query)
    expect("order_id" in found.kinds, f"fit: {NAME} must return a column order_id, found {', '.join(found.kinds)}")
    return {str(row["order_id"]) for row in found.rows if row["order_id"] is not None}


def _judge(found: set[str], planted: Mapping[str, set[str]]) -> None:
    for kind, keys in planted.items():
        if lost := keys - found:
            raise NotYet(
                f"fit: orders with the defect {kind} are not found: {len(lost)} of {len(keys)}, such as {min(lost)}"
            )
    if extra := found - set().union(*planted.values()):
        raise NotYet(f"fit: sound orders are accused: {shown(len(extra))}, such as {min(extra)}")


# --- Orders that are drawn --------------------------------------------------------------------------------------------


def _sound(db: Connection, chance: random.Random) -> list[Row]:
    """Draw sixty of the lake's orders as a file would bring them: late, with strange characters, a zero left out."""
    from psycopg.rows import dict_row

    all_of_them = db.cursor(row_factory=dict_row).execute(
        """select o.order_id::text, o.customer_id::text, o.store_id::text, o.ordered_at::text, o.channel, o.status,
                  o.items::text, sum(l.line_total_eur) as total_eur, o.delivery_note
           from lake.orders o join lake.order_lines l using (order_id) group by o.order_id, o.customer_id, o.store_id,
           o.ordered_at, o.channel, o.status, o.items, o.delivery_note order by o.order_id"""
    )
    found = all_of_them.fetchall()
    even = [row for row in found if row["total_eur"] == row["total_eur"].quantize(Decimal("0.1"))]
    short = chance.sample(even, 6)
    rows = [*chance.sample([row for row in found if row not in short], 54), *short]
    for number, row in enumerate(rows):
        total = row["total_eur"]
        row["total_eur"] = f"{total.normalize():f}" if row in short else f"{total:.2f}"
        row["_file"] = f"orders_2026-05-{chance.randint(4, 10):02d}.csv"
        row["_defect"] = row["_rescued"] = None
        if number % 7 == 3:
            row["delivery_note"], row["_defect"] = "l\ufffd\ufffdt\ufffd", "delivery_note: a strange character"
        if number % 11 == 5:
            row["_defect"] = "ordered_at: of another day"
    return rows


def _spoilt(db: Connection, chance: random.Random, rows: list[Row]) -> dict[str, list[Row]]:
    """Draw each kind of defect, in more than one form."""
    (largest,) = db.execute("select max(customer_id) from lake.customers").fetchone()
    totals = [Decimal(row["total_eur"]) for row in rows]
    rescued = [{**row, "_rescued": ";".join(map(str, row.values()))} for row in rows[:3]]
    rescued[1]["total_eur"] = rescued[2]["customer_id"] = None
    other = [total + by for total, by in zip(totals[8:13], map(Decimal, _CENTS), strict=True)]
    return {
        "bad_row": rescued,
        "duplicate": [*rows[3:5] * 2, {**rows[3], "delivery_note": "once more"}],
        "missing_key": [{**row, "customer_id": None} for row in rows[5:7]],
        "orphan": [
            {**rows[7], "customer_id": str(largest + chance.randint(1, 900))},
            {**rows[13], "customer_id": "0"},
        ],
        "wrong_unit": [
            *({**row, "total_eur": f"{total:.2f}"} for row, total in zip(rows[8:13], other, strict=True)),
            {**rows[14], "total_eur": f"{totals[14] * 100:.0f}"},
            {**rows[15], "total_eur": "0.00"},
            {**rows[16], "total_eur": f"-{totals[16]:.2f}"},
        ],
        "not_a_number": [
            {**row, "total_eur": said}
            for row, said in zip(rows[17:23], [None, "NaN", "n.c.", "12,50", "?", "12.50 EUR"], strict=True)
        ],
    }


_CENTS = ("0.01", "-0.01", "1.00", "-1.00", "0.10")
"""How far a total may be off: nothing is too little."""


def _numbered(chance: random.Random, rows: Iterable[Row]) -> list[Row]:
    """Shuffle the rows, and number their lines."""
    mixed = list(rows)
    chance.shuffle(mixed)
    return [{**row, "_line": number} for number, row in enumerate(mixed, 1)]
