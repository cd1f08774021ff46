"""Pools of values, filled once: Faker invents a few thousand names here, and rows only point at them.

Faker makes about 15,000 rows a second; taking from a pool by index makes millions.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from functools import cache

import pyarrow as pa
from faker import Faker

from flow360.primeur.draws import texts

SIZE = 2_000
_MAIL_HOSTS = ("orange.example", "free.example", "laposte.example", "primeur.example", "wanadoo.example")


def plain(text: str) -> str:
    """Write the text in lower-case ASCII letters, for an e-mail address: Éléonore is eleonore."""
    bare = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return "".join(c for c in bare if c.isalnum())


@dataclass(frozen=True)
class People:
    """Pools for customers, each an Arrow array of texts; `first_plain[i]` is the ASCII form of `first[i]`."""

    first: pa.Array
    first_plain: pa.Array
    last: pa.Array
    last_plain: pa.Array
    streets: pa.Array
    phone_starts: pa.Array
    phone_ends: pa.Array
    hosts: pa.Array


@cache
def people(seed: int) -> People:
    """Draw the pools for customers."""
    fake = Faker("fr_FR")
    fake.seed_instance(seed)
    first = [fake.first_name() for _ in range(SIZE)]
    last = [fake.last_name() for _ in range(SIZE)]
    streets = [fake.street_name().replace(",", "") for _ in range(SIZE)]
    houses = [f"{(k * 37 + 11 * n) % 199 + 1} {street}" for n, street in enumerate(streets) for k in range(24)]
    pairs = [f"{n // 100:02d} {n % 100:02d}" for n in range(10_000)]
    return People(
        texts(first),
        texts([plain(n) for n in first]),
        texts(last),
        texts([plain(n) for n in last]),
        texts(houses),
        texts([f"+33 {kind} {pair}" for kind in (6, 7) for pair in pairs]),
        texts(pairs),
        texts([f"@{host}" for host in _MAIL_HOSTS]),
    )


@cache
def suppliers(seed: int, n: int = 24) -> tuple[str, ...]:
    """Draw names of suppliers, all different."""
    fake = Faker("fr_FR")
    fake.seed_instance(seed + 1)
    names: dict[str, None] = {}
    while len(names) < n:
        names[fake.company()] = None
    return tuple(names)


NOTES = (
    "Sonner à l'interphone, 3e étage",
    "Laisser chez le gardien",
    "Code 12A4, porte de gauche",
    "Appeler en arrivant",
    "Déposer derrière le portail",
    "Attention au chien",
    "Pas avant 11 h, bébé endormi",
    "Bâtiment B, digicode 4590",
    "Voisin du rez-de-chaussée prévenu",
    "Merci de ne pas écraser les pêches",
)
"""What customers ask of the driver: accents and commas on purpose, as in life."""

_OPENINGS = (
    ("Très déçu", "Je ne recommande pas", "Quelle mauvaise surprise", "Inacceptable"),
    ("Plutôt déçue", "Peut mieux faire", "Dommage", "Pas à la hauteur"),
    ("Correct", "Ni bien ni mal", "Dans la moyenne", "Service honnête"),
    ("Bonne commande", "Satisfaite", "Bien dans l'ensemble", "Bonne qualité"),
    ("Parfait", "Excellent", "Rien à redire", "Toujours aussi frais"),
)
_MIDDLES = (
    ("produits tièdes à l'arrivée", "la moitié des fruits était abîmée", "le poisson sentait déjà"),
    ("il manquait un article", "livreur en retard d'une heure", "les œufs étaient cassés"),
    ("livraison à l'heure, emballage moyen", "goût ordinaire", "prix un peu élevés"),
    ("légumes bien frais", "livreur aimable", "bon rapport qualité-prix"),
    ("des fraises délicieuses", "livré en avance", "le fromage était à point"),
)
_ENDINGS = ("", " Merci quand même.", " À suivre.", " Première commande pour moi.", " Je suis client depuis deux ans.")


@cache
def review_texts(rating: int) -> pa.Array:
    """List all texts of reviews with that rating, 1 to 5."""
    n = rating - 1
    return texts([f"{a}\u00a0: {b}.{c}" for a in _OPENINGS[n] for b in _MIDDLES[n] for c in _ENDINGS])
