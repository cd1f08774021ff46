"""The catalogue's documents: a sheet for each product, and what customers wrote. MongoDB owns them.

Both have been written by three versions of the shop's software, one after the other, and nobody ever converted the old
ones: a document of the first version does not even say which it is. Their keys are the shop's: a product's number, a
review's, an order's, a customer's, a van's. What stands in a document follows from the seed and its number alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
from bson import Decimal128

from flow360.primeur.draws import below
from flow360.primeur.generate import table
from flow360.primeur.plan import Plan
from flow360.primeur.pools import review_texts

Document = dict[str, Any]
VERSIONS = (1, 2, 3)

_ALLERGENS = (
    # a word of the name, what the product has in it
    ("Beurre", "milk"), ("Brioche", "gluten milk eggs"), ("Baguette", "gluten"), ("Camembert", "milk"),
    ("Chocolat", "milk soy"), ("Comté", "milk"), ("Crevettes", "crustaceans"), ("Croissants", "gluten milk eggs"),
    ("Crème", "milk"), ("Dos de cabillaud", "fish"), ("Farine", "gluten"), ("Glace", "milk eggs"), ("Lait", "milk"),
    ("Moules", "molluscs"), ("Pain", "gluten"), ("Pavé de saumon", "fish"), ("Pizza", "gluten milk"),
    ("Pâtes", "gluten"), ("Yaourts", "milk"), ("Œufs", "eggs"),
)  # fmt: skip
_FRENCH = {
    "crustaceans": "crustacés", "eggs": "œufs", "fish": "poisson", "gluten": "gluten", "milk": "lait",
    "molluscs": "mollusques", "soy": "soja",
}  # fmt: skip
_NUTRITION = {
    # shelf: kcal, then tenths of a gram of fat, carbohydrates, protein and salt, in 100 g
    "fruit": (52, 2, 114, 6, 0), "vegetables": (29, 3, 45, 15, 1), "dairy": (190, 140, 40, 95, 6),
    "fish": (140, 60, 5, 190, 8), "meat": (210, 140, 8, 195, 12), "bakery": (310, 90, 480, 88, 13),
    "grocery": (330, 40, 580, 95, 2), "frozen": (170, 70, 210, 48, 6),
}  # fmt: skip
_COUNTRIES = ("FR", "ES", "IT", "MA", "PT")
_COLD = {"ambient": (8, 25), "chilled": (0, 4), "frozen": (-25, -18)}
_VERSION_TWO, _VERSION_THREE = timedelta(days=2), timedelta(days=4)  # after the plan's start
_SERVICE = ("Claire du service client", "Karim du service client", "Élise du service client")
_ANSWER = "Merci de nous l'avoir signalé, nous en parlons au magasin."


@dataclass(frozen=True)
class Shop:
    """The shop's rows that documents are about, each list in the order of its key."""

    products: list[Document]
    suppliers: dict[int, tuple[str, int]]
    reviews: list[Document]
    orders: dict[int, Document]
    lines: dict[int, list[Document]]
    deliveries: dict[int, Document]
    vans: dict[int, str]
    loyalty: dict[int, str]
    refunds: dict[int, Any]

    @classmethod
    def of(cls, plan: Plan) -> Shop:
        """Make the tables of a plan, and keep what the documents need of them."""
        reviews = table("reviews", plan).to_pylist()
        reviewed = {row["order_id"] for row in reviews}
        lines: dict[int, list[Document]] = {}
        for row in table("order_lines", plan).to_pylist():
            if row["order_id"] in reviewed:
                lines.setdefault(row["order_id"], []).append(row)
        prices = table("price_lists", plan).to_pylist()
        return cls(
            table("products", plan).to_pylist(),
            {row["product_id"]: (row["supplier"], row["pack_size"]) for row in prices},
            reviews,
            {row["order_id"]: row for row in table("orders", plan).to_pylist() if row["order_id"] in reviewed},
            lines,
            {row["order_id"]: row for row in table("deliveries", plan).to_pylist() if row["order_id"] in reviewed},
            {row["route_id"]: row["van_id"] for row in table("van_routes", plan).to_pylist()},
            {row["customer_id"]: row["loyalty"] for row in table("customers", plan).to_pylist()},
            {
                row["order_id"]: row["amount_eur"]
                for row in table("payments", plan).to_pylist()
                if row["kind"] == "refund"
            },
        )


def _draw(plan: Plan, name: str, number: int, n: int) -> int:
    return int(below(plan.seed, f"documents {name}", np.array([number]), n)[0])


def version_of(document: Document) -> int:
    """Return a document's version; the first one does not say it."""
    return document.get("schema_version", VERSIONS[0])


# --- sheets -----------------------------------------------------------------------------------------------------------


def sheets(plan: Plan, shop: Shop) -> list[Document]:
    """Make a sheet for each product, in the order of their numbers."""
    makers = (_sheet_1, _sheet_2, _sheet_3)
    return [makers[_draw(plan, "version", row["product_id"], 3)](plan, row, shop) for row in shop.products]


def _allergens(name: str) -> list[str]:
    return [code for word, codes in _ALLERGENS if name.startswith(word) for code in codes.split()]


def _facts(plan: Plan, row: Document) -> dict[str, int | float]:
    """Draw what 100 g of a product hold: kcal, and grams with one decimal."""
    kcal, *tenths = _NUTRITION[row["category"]]
    spread = [80 + _draw(plan, f"nutrition {n}", row["product_id"], 41) for n in range(5)]
    grams = [value * percent // 100 / 10 for value, percent in zip(tenths, spread[1:], strict=True)]
    return {"energy_kcal": kcal * spread[0] // 100} | dict(
        zip(("fat_g", "carbohydrate_g", "protein_g", "salt_g"), grams, strict=True)
    )


def _countries(plan: Plan, number: int) -> list[str]:
    first = _draw(plan, "country", number, len(_COUNTRIES))
    return [_COUNTRIES[(first + n) % len(_COUNTRIES)] for n in range(1 + (_draw(plan, "mixed", number, 4) == 0))]


def _sheet_1(plan: Plan, row: Document, _shop: Shop) -> Document:
    """Make one of the first version: flat, and every list a text with commas."""
    number = row["product_id"]
    sheet = {
        "_id": number,
        "name": row["name"],
        "shelf": row["category"],
        "storage": row["storage"],
        "weight_g": row["weight_g"],
        "origin": ", ".join(_countries(plan, number)),
        "energy_kcal": _facts(plan, row)["energy_kcal"],
    }
    if codes := _allergens(row["name"]):
        sheet["allergens"] = ", ".join(_FRENCH[code] for code in codes)
    return sheet


def _sheet_2(plan: Plan, row: Document, shop: Shop) -> Document:
    """Make one of the second: lists are lists, and it says who supplies the product."""
    number, countries = row["product_id"], _countries(plan, row["product_id"])
    name, pack = shop.suppliers[number]
    return {
        "_id": number,
        "schema_version": 2,
        "name": row["name"],
        "shelf": row["category"],
        "storage": row["storage"],
        "weight_g": row["weight_g"],
        "allergens": [_FRENCH[code] for code in _allergens(row["name"])],
        "origins": [{"country": one, "percent": 100 // len(countries)} for one in countries],
        "nutrition": _facts(plan, row),
        "suppliers": [{"name": name, "pack_size": pack}],
    }


def _sheet_3(plan: Plan, row: Document, shop: Shop) -> Document:
    """Make one of the third: names by language, codes for words, lists within lists, pictures for some."""
    number = row["product_id"]
    sheet = _sheet_2(plan, row, shop)
    low, high = _COLD[row["storage"]]
    organic = " bio" in row["name"]
    kinds = ["AB", "EU organic"] if organic else ["HVE"] * (_draw(plan, "label", number, 3) == 0)
    certificates = [
        {
            "kind": kind,
            "number": f"{kind[:2].upper()}-{_draw(plan, f'certificate {n}', number, 90_000) + 10_000}",
            "valid_until": _midnight(plan.start + timedelta(days=30 + _draw(plan, f"valid {n}", number, 700))),
        }
        for n, kind in enumerate(kinds)
    ]
    traces = [{"code": "nuts", "traces": True}] if _draw(plan, "traces", number, 5) == 0 else []
    sheet |= {
        "schema_version": 3,
        "name": {"fr": row["name"]},
        "storage": {"kind": row["storage"], "from_celsius": low, "to_celsius": high},
        "allergens": [{"code": code, "traces": False} for code in _allergens(row["name"])] + traces,
        "nutrition": {"per": "100 g", **_facts(plan, row)},
    }
    sheet["suppliers"][0]["certificates"] = certificates
    if _draw(plan, "pictures", number, 3):
        sheet["media"] = [
            {"kind": "photo", "file": f"{number}-{n}.jpg", "width": 1600, "height": 1200}
            for n in range(1 + _draw(plan, "how many", number, 3))
        ]
    return sheet


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


# --- reviews ----------------------------------------------------------------------------------------------------------


def reviews(plan: Plan, shop: Shop) -> list[Document]:
    """Make a document for each review, in the order of their numbers: what the shop's table keeps, and the rest."""
    start = _midnight(plan.start)
    found = []
    for row in shop.reviews:
        age = row["written_at"] - start
        make = _review_1 if age < _VERSION_TWO else _review_2 if age < _VERSION_THREE else _review_3
        found.append(make(plan, row, shop))
    return found


def _review_1(_plan: Plan, row: Document, _shop: Shop) -> Document:
    """Make one of the first version: flat."""
    return {
        "_id": row["review_id"],
        "order_id": row["order_id"],
        "customer_id": row["customer_id"],
        "stars": row["rating"],
        "text": row["body"],
        "at": row["written_at"],
    }


def _review_2(plan: Plan, row: Document, shop: Shop) -> Document:
    """Make one of the second: order and customer are parts, and single articles get stars, some with a text."""
    number, order = row["review_id"], shop.orders[row["order_id"]]
    review: Document = {
        "_id": number,
        "schema_version": 2,
        "order": {"id": row["order_id"], "store_id": order["store_id"], "total_eur": Decimal128(order["total_eur"])},
        "customer": {"id": row["customer_id"], "loyalty": shop.loyalty[row["customer_id"]]},
        "stars": row["rating"],
        "text": row["body"],
        "written_at": row["written_at"],
        "articles": [
            _article(plan, number * 100 + line["line_no"], line, row["rating"])
            for line in shop.lines[row["order_id"]]
            if line["product_id"] == row["product_id"] or _draw(plan, "said", number * 100 + line["line_no"], 2)
        ],
    }
    if _draw(plan, "photo", number, 4) == 0:
        review["photos"] = [{"file": f"{number}.jpg", "width": 1080, "height": 1920}]
    return review


def _article(plan: Plan, key: int, line: Document, rating: int) -> Document:
    stars = min(5, max(1, rating - 1 + _draw(plan, "stars", key, 3)))
    article = {"product_id": line["product_id"], "stars": stars}
    if _draw(plan, "words", key, 3) == 0:
        texts = review_texts(stars)
        article["text"] = texts[_draw(plan, "text", key, len(texts))].as_py()
    return article


def _review_3(plan: Plan, row: Document, shop: Shop) -> Document:
    """Make one of the third: who brought it, what it was before it was edited, what the service answered."""
    number, delivery = row["review_id"], shop.deliveries[row["order_id"]]
    review = _review_2(plan, row, shop) | {"schema_version": 3}
    late = delivery["delivered_at"] - delivery["promised_to"]
    review["delivery"] = {
        "route_id": delivery["route_id"],
        "van_id": shop.vans[delivery["route_id"]],
        "celsius": delivery["celsius_at_door"],
    }
    if late > timedelta(0):
        review["delivery"]["late_minutes"] = int(late.total_seconds() // 60)
    if _draw(plan, "edited", number, 5) == 0:
        before = max(1, row["rating"] - 1)
        review["edits"] = [{"at": row["written_at"] + timedelta(hours=2), "stars_before": before}]
    if row["rating"] <= 2:
        answer = {
            "by": _SERVICE[_draw(plan, "who", number, len(_SERVICE))],
            "at": row["written_at"] + timedelta(hours=3),
            "text": _ANSWER,
        }
        if refund := shop.refunds.get(row["order_id"]):
            answer["refund_eur"] = Decimal128(refund)
        review["answers"] = [answer]
    return review


def make(plan: Plan) -> dict[str, Sequence[Document]]:
    """Make the documents of a plan as they would be if nobody had made a mistake, by the name of their collection."""
    shop = Shop.of(plan)
    return {"sheets": sheets(plan, shop), "reviews": reviews(plan, shop)}
