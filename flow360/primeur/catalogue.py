"""What Primeur sells and from where: stores, products, the suppliers' price lists and the stock."""

from __future__ import annotations

from functools import cache

import numpy as np
import pyarrow as pa

from flow360.primeur.draws import below, dates, money, rng, take, texts
from flow360.primeur.places import cities
from flow360.primeur.plan import Plan
from flow360.primeur.pools import suppliers
from flow360.primeur.schema import TABLES

# name, shelf, storage, unit, price in cents, grams
_BASE = (
    ("Pommes Gala", "fruit", "ambient", "kg", 279, 1000),
    ("Poires Conférence", "fruit", "ambient", "kg", 319, 1000),
    ("Bananes", "fruit", "ambient", "kg", 199, 1000),
    ("Fraises Gariguette", "fruit", "chilled", "pack", 449, 250),
    ("Pêches jaunes", "fruit", "ambient", "kg", 399, 1000),
    ("Citrons", "fruit", "ambient", "kg", 349, 1000),
    ("Oranges à jus", "fruit", "ambient", "kg", 249, 1000),
    ("Melon charentais", "fruit", "ambient", "piece", 329, 900),
    ("Tomates grappe", "vegetables", "ambient", "kg", 329, 1000),
    ("Carottes", "vegetables", "ambient", "kg", 189, 1000),
    ("Épinards frais", "vegetables", "chilled", "pack", 299, 500),
    ("Salade batavia", "vegetables", "chilled", "piece", 139, 300),
    ("Pommes de terre Charlotte", "vegetables", "ambient", "kg", 229, 1000),
    ("Courgettes", "vegetables", "ambient", "kg", 259, 1000),
    ("Oignons jaunes", "vegetables", "ambient", "kg", 169, 1000),
    ("Champignons de Paris", "vegetables", "chilled", "pack", 219, 250),
    ("Lait demi-écrémé", "dairy", "chilled", "l", 115, 1030),
    ("Beurre doux", "dairy", "chilled", "piece", 289, 250),
    ("Yaourts nature", "dairy", "chilled", "pack", 239, 500),
    ("Crème fraîche épaisse", "dairy", "chilled", "piece", 199, 200),
    ("Comté 12 mois", "dairy", "chilled", "piece", 549, 250),
    ("Camembert au lait cru", "dairy", "chilled", "piece", 349, 250),
    ("Œufs plein air", "dairy", "chilled", "pack", 299, 360),
    ("Pavé de saumon", "fish", "chilled", "pack", 899, 300),
    ("Dos de cabillaud", "fish", "chilled", "pack", 1049, 300),
    ("Crevettes roses", "fish", "chilled", "pack", 749, 250),
    ("Moules de bouchot", "fish", "chilled", "kg", 599, 1000),
    ("Blanc de poulet", "meat", "chilled", "pack", 699, 400),
    ("Steak haché", "meat", "chilled", "pack", 589, 250),
    ("Rôti de porc", "meat", "chilled", "piece", 999, 900),
    ("Saucisses de Toulouse", "meat", "chilled", "pack", 549, 400),
    ("Jambon blanc", "meat", "chilled", "pack", 379, 180),
    ("Baguette tradition", "bakery", "ambient", "piece", 125, 250),
    ("Pain de campagne", "bakery", "ambient", "piece", 319, 500),
    ("Croissants", "bakery", "ambient", "pack", 389, 240),
    ("Brioche tressée", "bakery", "ambient", "piece", 359, 400),
    ("Pâtes coquillettes", "grocery", "ambient", "pack", 129, 500),
    ("Riz basmati", "grocery", "ambient", "pack", 269, 1000),
    ("Huile d'olive vierge", "grocery", "ambient", "l", 899, 920),
    ("Farine de blé", "grocery", "ambient", "pack", 139, 1000),
    ("Sucre en poudre", "grocery", "ambient", "pack", 179, 1000),
    ("Café moulu", "grocery", "ambient", "pack", 429, 250),
    ("Chocolat noir", "grocery", "ambient", "piece", 219, 100),
    ("Confiture d'abricots", "grocery", "ambient", "piece", 279, 370),
    ("Lentilles vertes du Puy", "grocery", "ambient", "pack", 349, 500),
    ("Eau minérale", "grocery", "ambient", "pack", 259, 9000),
    ("Petits pois surgelés", "frozen", "frozen", "pack", 249, 1000),
    ("Glace à la vanille", "frozen", "frozen", "piece", 449, 500),
    ("Frites au four", "frozen", "frozen", "pack", 289, 1000),
    ("Pizza reine", "frozen", "frozen", "piece", 399, 420),
)
# label, price in percent, weight in percent
_VARIANTS = (("", 100, 100), (" bio", 138, 100), (" lot familial", 270, 300), (" petit format", 62, 50))
PRODUCTS = len(_BASE) * len(_VARIANTS)
FIRST_PRODUCT = 101
PRICE_REVISION = 3
"""Days after the start on which some prices change: the day of the course."""


@cache
def prices() -> np.ndarray:
    """Return the price of each product, counted from 0: cents."""
    return np.array([base[4] * percent // 100 for base in _BASE for _, percent, _ in _VARIANTS], np.int64)


@cache
def popularity() -> tuple[int, ...]:
    """Say how often each product is bought, as whole weights: plain articles more than organic or family packs."""
    return tuple(max(1, share * (60 - n) // 10) for n in range(len(_BASE)) for share in (20, 8, 4, 3))


def products(plan: Plan, chunk: int = 0) -> pa.Table:
    """Build the catalogue: the same for every plan."""
    rows = [(base, variant) for base in _BASE for variant in _VARIANTS]
    columns = [
        np.arange(PRODUCTS) + FIRST_PRODUCT,
        [base[0] + variant[0] for base, variant in rows],
        [base[1] for base, _ in rows],
        [base[2] for base, _ in rows],
        [base[3] for base, _ in rows],
        money(prices()),
        [20.0 if base[0].startswith("Chocolat") else 5.5 for base, _ in rows],
        [base[5] * variant[2] // 100 for base, variant in rows],
    ]
    return TABLES["products"].build(columns)


def stores(plan: Plan, chunk: int = 0) -> pa.Table:
    """Build the stores: one in each city, then a second one in each, and so on."""
    served, n = cities(), plan.stores
    here = [served[k % len(served)] for k in range(n)]
    opened = 17_897 + below(plan.seed, "opened", np.arange(n), 1_000)  # from 2019-01-01 on
    columns = [
        np.arange(n) + 1,
        [f"Primeur {c.name}" + (f" {k // len(served) + 1}" if k >= len(served) else "") for k, c in enumerate(here)],
        [c.name for c in here],
        [c.region for c in here],
        [c.latitude for c in here],
        [c.longitude for c in here],
        dates(opened),
    ]
    return TABLES["stores"].build(columns)


def price_lists(plan: Plan, chunk: int = 0) -> pa.Table:
    """Draw what each product costs Primeur: a price from the first day, for a quarter of them another from day 3 on."""
    draw, names = rng(plan.seed, "price_lists"), suppliers(plan.seed)
    margin = draw.integers(55, 75, PRODUCTS)
    change = draw.integers(92, 112, PRODUCTS)
    pack = draw.integers(0, 4, PRODUCTS)
    who = draw.integers(0, len(names), PRODUCTS)
    cost = np.maximum(prices() * margin // 100, 5)
    revised = np.flatnonzero(draw.integers(0, 4, PRODUCTS) == 0)
    product = np.concatenate([np.arange(PRODUCTS), revised])
    day = np.repeat([0, PRICE_REVISION], [PRODUCTS, len(revised)])
    cents = np.concatenate([cost, np.maximum(cost[revised] * change[revised] // 100, 5)])
    order = np.lexsort([day, product])
    product, day, cents = product[order], day[order], cents[order]
    columns = [
        product + FIRST_PRODUCT,
        dates(day + plan.days_since_1970()),
        take(texts(names), who[product]),
        np.array([1, 6, 10, 12])[pack[product]],
        money(cents),
    ]
    return TABLES["price_lists"].build(columns)


def stock(plan: Plan, chunk: int = 0) -> pa.Table:
    """Draw the units of each product in each store."""
    store, product = np.divmod(np.arange(plan.stores * PRODUCTS), PRODUCTS)
    quantity = rng(plan.seed, "stock").integers(0, 200, len(store))
    return TABLES["stock"].build([store + 1, product + FIRST_PRODUCT, quantity])
