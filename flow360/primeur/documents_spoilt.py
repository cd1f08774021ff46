"""What is wrong with the catalogue's documents, on purpose: MongoDB took whatever it was given."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from bson import ObjectId

from flow360.primeur.defects import Chooser, Defect
from flow360.primeur.documents import Document, version_of
from flow360.primeur.plan import FAILING_VAN, Plan, van_name

UNKNOWN_PRODUCT, UNKNOWN_ORDER = 9_001, 990_001
_IMPORTED = 0x1D00_0000_0000_0000_0000_0000
"""The first `_id` of what was imported twice: the second time without its number, so that MongoDB made one."""


class _Spoiler:
    """Spoils a collection: each method changes some documents, and notes what it did."""

    def __init__(self, plan: Plan, name: str, documents: Iterable[Document]) -> None:
        self.name = name
        self.documents = copy.deepcopy(list(documents))
        self.chooser = Chooser.of(plan.seed, f"documents {name}")
        self.defects: list[Defect] = []

    def note(self, kind: str, document: Document, **more: Any) -> None:
        key = document["_id"]
        keys = {"_id": str(key) if isinstance(key, ObjectId) else key}
        self.defects.append(Defect("documents", self.name, kind, f"catalogue.{self.name}", keys, **more))

    def choose(self, n: int, fits: Callable[[Document], bool]) -> list[Document]:
        rows = self.chooser.rows(n, [row for row, document in enumerate(self.documents) if fits(document)])
        return [self.documents[row] for row in rows]

    def change(self, kind: str, document: Document, column: str, now: Any, note: str) -> None:
        *way, last = column.split(".")
        part = document
        for step in way:
            part = part[step]
        was, part[last] = part[last], now
        self.note(kind, document, column=column, was=was, now=now, note=note)


def sheets(plan: Plan, documents: Iterable[Document]) -> tuple[list[Document], list[Defect]]:
    """Spoil the products' sheets; return them, and what was done."""
    s = _Spoiler(plan, "sheets", documents)
    for one in s.choose(4, lambda d: d["weight_g"] % 100 == 0):
        s.change("wrong_unit", one, "weight_g", one["weight_g"] / 1000, "kilograms instead of grams")
    for one in s.choose(3, lambda d: "nutrition" in d):
        s.change("not_a_number", one, "nutrition.energy_kcal", "n.c.", "not known yet")
    for n, one in enumerate(s.choose(2, lambda d: version_of(d) == 2)):
        left = one | {"_id": UNKNOWN_PRODUCT + n, "name": f"{one['name']} (ancien)"}
        s.documents.append(left)
        s.note("orphan", left, note="the shop no longer sells it")
    for one in s.choose(2, lambda d: version_of(d) == 1):
        s.documents.remove(one)
        s.note("absent", one, note="nobody wrote a sheet for this product")
    return s.documents, s.defects


def reviews(plan: Plan, documents: Iterable[Document]) -> tuple[list[Document], list[Defect]]:
    """Spoil the reviews; return them, and what was done."""
    s = _Spoiler(plan, "reviews", documents)
    wrong = _mixed_up(s.documents)
    s.chooser.taken.update(n for n, document in enumerate(s.documents) if any(document is one for one in wrong))
    for one in wrong:
        van = one["delivery"]["van_id"]
        other = van_name(int(van.removeprefix("VAN-")) % plan.vans)
        s.change("contradiction", one, "delivery.van_id", other, f"that tour was driven by {van}, says the fleet")
    for one in s.choose(3, lambda d: version_of(d) > 1):
        said = one["stars"] % 5 + 1
        s.change("contradiction", one, "stars", said, "the shop's table has other stars")
    for one in s.choose(3, lambda d: version_of(d) == 1):
        s.change("not_a_number", one, "stars", str(one["stars"]), "a text")
    for one in s.choose(3, lambda d: version_of(d) == 2):
        s.change("wrong_unit", one, "stars", one["stars"] * 20, "percent instead of stars")
    for n, one in enumerate(s.choose(3, lambda d: version_of(d) == 3)):
        s.change("orphan", one, "order.id", UNKNOWN_ORDER + n, "there is no such order")
    for n, one in enumerate(s.choose(4, lambda d: version_of(d) > 1)):
        again = one | {"_id": ObjectId((_IMPORTED + n).to_bytes(12, "big"))}
        s.documents.append(again)
        s.note("duplicate", again, was=one["_id"], note="imported a second time, under another _id")
    return s.documents, s.defects


def _mixed_up(documents: list[Document]) -> list[Document]:
    """Choose the reviews of one tour, of which some were written but not very many."""
    told = Counter(d["delivery"]["route_id"] for d in documents if _is_told(d))
    most = max((n for n in told.values() if n <= 7), default=0)
    route = next((route for route, n in sorted(told.items()) if n == most), None)
    return [d for d in documents if _is_told(d) and d["delivery"]["route_id"] == route]


def _is_told(document: Document) -> bool:
    return "delivery" in document and document["delivery"]["van_id"] != van_name(FAILING_VAN)


SPOIL = {"sheets": sheets, "reviews": reviews}
