"""Exercise 3: a product's sheet of any generation in the warehouse's tables, again and again."""

from __future__ import annotations

import copy
import random
from datetime import UTC, datetime, timedelta
from typing import Any

from flow360.checks import liberal
from flow360.checks.c11_more_sources.setting import in_postgres, rows_of
from flow360.checks.compare import Row, expect_rows
from flow360.checks.draw import a_word, draw
from flow360.checks.scene import transaction_of
from flow360.checks.verdict import NotYet, exercise, expect, limited

FRENCH = {
    "lait": "milk", "gluten": "gluten", "œufs": "eggs", "poisson": "fish", "soja": "soy", "crustacés": "crustaceans",
    "mollusques": "molluscs",
}  # fmt: skip
TABLES = (
    """create table sheets (product_id bigint primary key, name text not null, weight_g integer not null,
         allergens text[])""",
    """create table suppliers (product_id bigint references sheets, supplier_no integer, name text not null,
         pack_size integer not null, primary key (product_id, supplier_no))""",
    """create table certificates (product_id bigint, supplier_no integer, certificate_no integer, kind text not null,
         number text not null, valid_until timestamptz not null,
         primary key (product_id, supplier_no, certificate_no),
         foreign key (product_id, supplier_no) references suppliers)""",
)
KEYS = {
    "sheets": ("product_id",),
    "suppliers": ("product_id", "supplier_no"),
    "certificates": ("product_id", "supplier_no", "certificate_no"),
}


@exercise
def land_sheet(land: Any) -> None:
    """Compare three tables after drawn sheets have been landed, changed, and landed again."""
    call = limited(liberal.function("land", land), 15, "land")
    chance = draw()
    sheets = {number: _sheet(chance, number) for number in chance.sample(range(100, 10**6), 9)}
    with in_postgres("warehouse", *TABLES) as db:
        for sheet in sheets.values():
            _land(call, db, sheet)
        _expect(db, sheets, "after the first time")
        for sheet in sheets.values():
            _land(call, db, sheet)
        _expect(db, sheets, "after the same sheets once more")
        for number in chance.sample(sorted(sheets), 7):  # the others stay as they are
            sheets[number] = _sheet(chance, number)
            _land(call, db, sheets[number])
        _expect(db, sheets, "after some of them have changed")
        number = min(sheets)
        for sheet in (_new(chance, number, 3), _new(chance, number, 1), _old(chance, number)):
            sheets[number] = sheet
            _land(call, db, sheet)
            _expect(db, sheets, "after a sheet that has fewer suppliers and certificates than it had")


def _land(call: Any, db: Any, sheet: dict[str, Any]) -> None:
    given = copy.deepcopy(sheet)
    whose = transaction_of(db)
    call(db, given)
    if transaction_of(db) != whose:
        raise NotYet("land: the transaction is the caller's, and land has ended it")
    expect(given == sheet, "land: it has changed the document that it was given")


def _old(chance: random.Random, number: int) -> dict[str, Any]:
    words = chance.sample(sorted(FRENCH), chance.randrange(3))
    sheet = {"_id": number, "name": a_word(chance, 8), "shelf": "dairy", "weight_g": chance.randrange(1, 9000)}
    return sheet | ({"allergens": ", ".join(words)} if words else {})


def _middle(chance: random.Random, number: int) -> dict[str, Any]:
    return _old(chance, number) | {
        "schema_version": 2,
        "allergens": chance.sample(sorted(FRENCH), chance.randrange(3)),
        "suppliers": [_supplier(chance) for _ in range(chance.randrange(3))],
    }


def _new(chance: random.Random, number: int, suppliers: int | None = None) -> dict[str, Any]:
    codes = chance.sample(sorted(FRENCH.values()), chance.randrange(3))
    sheet = _middle(chance, number) | {
        "schema_version": 3,
        "name": {"fr": f"{a_word(chance, 6)} à l'ail", "en": "garlic"},
        "allergens": [{"code": one, "traces": False} for one in codes] + [{"code": "nuts", "traces": True}],
        "suppliers": [_supplier(chance) for _ in range(chance.randrange(3) if suppliers is None else suppliers)],
    }
    for supplier in sheet["suppliers"]:
        supplier["certificates"] = [
            _certificate(chance) for _ in range(chance.randrange(3) if suppliers is None else 2)
        ]
    return sheet


def _sheet(chance: random.Random, number: int) -> dict[str, Any]:
    return chance.choice((_old, _middle, _new, _new))(chance, number)


def _supplier(chance: random.Random) -> dict[str, Any]:
    return {"name": a_word(chance, 7), "pack_size": chance.choice((1, 6, 12))}


def _certificate(chance: random.Random) -> dict[str, Any]:
    until = datetime(2027, 1, 1, tzinfo=UTC) + timedelta(days=chance.randrange(700))
    return {"kind": chance.choice(("AB", "HVE")), "number": a_word(chance, 9), "valid_until": until}


def _rows(sheets: dict[int, dict[str, Any]]) -> dict[str, list[Row]]:
    """Say what the tables are to hold."""
    found: dict[str, list[Row]] = {"sheets": [], "suppliers": [], "certificates": []}
    for number, sheet in sheets.items():
        version, said = sheet.get("schema_version", 1), sheet.get("allergens", [])
        if version == 3:
            codes = [one["code"] for one in said if not one["traces"]]
        else:
            codes = [FRENCH[word] for word in (said if version == 2 else said.split(", ") if said else [])]
        name = sheet["name"]["fr"] if version == 3 else sheet["name"]
        found["sheets"].append(
            {"product_id": number, "name": name, "weight_g": sheet["weight_g"], "allergens": sorted(codes)}
        )
        for n, supplier in enumerate(sheet.get("suppliers", [])):
            place = {"product_id": number, "supplier_no": n}
            found["suppliers"].append({**place, "name": supplier["name"], "pack_size": supplier["pack_size"]})
            found["certificates"] += [
                {**place, "certificate_no": m, **one} for m, one in enumerate(supplier.get("certificates", []))
            ]
    return found


def _expect(db: Any, sheets: dict[int, dict[str, Any]], when: str) -> None:
    for table, truth in _rows(sheets).items():
        found = rows_of(db, f"select * from {table}")
        if table == "sheets":
            for row in found:
                row["allergens"] = None if row["allergens"] is None else sorted(row["allergens"])
        expect_rows(f"land, {when}", found=found, expected=truth, key=KEYS[table], what=f"rows of {table}")
