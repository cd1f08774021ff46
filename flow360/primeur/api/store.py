"""Orders that clients place over the API, in SQLite: an order is on disk before its answer leaves.

The order, its idempotency key and the answer are one transaction with `synchronous=FULL`. So a service killed at any
moment either has the order with its answer, and repeats it for the same key, or knows nothing of it.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from flow360.primeur.records import Record

FIRST_ORDER = 5_000_001
_SCHEMA = """
create table if not exists placed (
  order_id integer primary key,
  client text not null,
  key text,
  request text not null,
  reference text,
  answer text not null,
  unique (client, key)
)
"""


class KeyReused(ValueError):
    """The idempotency key was used before, for another body."""


@dataclass(frozen=True)
class Placed:
    """A stored order; `again` when the key was known and nothing was done."""

    answer: Record
    again: bool


class OrderStore:
    """The placed orders of one data folder."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = Lock()
        self._db = sqlite3.connect(folder / "orders.sqlite", check_same_thread=False, timeout=10, isolation_level=None)
        self._db.execute("pragma journal_mode = wal")
        self._db.execute("pragma synchronous = full")
        self._db.execute(_SCHEMA)

    def place(
        self, client: str, key: str | None, request: str, reference: str | None, answer: Callable[[int], Record]
    ) -> Placed:
        """Store an order once.

        Args:
            client: who orders: keys of two clients never meet.
            key: the idempotency key; without one each call is a new order.
            request: the body in a form that is equal for equal orders.
            reference: the client's own word for finding its orders again.
            answer: makes the answer from the new order's number.

        Raises:
            KeyReused: the key stands for another body.
        """
        with self._lock:
            self._db.execute("begin immediate")
            try:
                found = self._known(client, key)
                if found is None:
                    last = self._db.execute("select max(order_id) from placed").fetchone()[0]
                    new = answer(FIRST_ORDER if last is None else last + 1)
                    self._db.execute(
                        "insert into placed values (?, ?, ?, ?, ?, ?)",
                        [new["order_id"], client, key, request, reference, json.dumps(new)],
                    )
                    self._db.execute("commit")
                    return Placed(new, False)
            except BaseException:
                self._db.execute("rollback")
                raise
            self._db.execute("rollback")
        if found[0] != request:
            raise KeyReused(f"Idempotency-Key {key!r} was used for another order")
        return Placed(json.loads(found[1]), True)

    def _known(self, client: str, key: str | None) -> tuple[str, str] | None:
        if key is None:
            return None
        query = "select request, answer from placed where client = ? and key = ?"
        return self._db.execute(query, [client, key]).fetchone()

    def get(self, order_id: int) -> Record | None:
        """Read a placed order, or None."""
        with self._lock:
            row = self._db.execute("select answer from placed where order_id = ?", [order_id]).fetchone()
        return json.loads(row[0]) if row else None

    def all(self, reference: str | None = None) -> list[Record]:
        """Read the placed orders, all or those of one reference, in order of their numbers."""
        query = "select answer from placed where ? is null or reference = ? order by order_id"
        with self._lock:
            rows = self._db.execute(query, [reference, reference]).fetchall()
        return [json.loads(row[0]) for row in rows]

    def close(self) -> None:
        with self._lock:
            self._db.close()
