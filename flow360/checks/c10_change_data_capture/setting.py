"""What the checks of 10_change_data_capture share: changes as Debezium says them, and the table to be filled."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from flow360 import clients
from flow360.checks.compare import Row, rows
from flow360.ingestion.capture import Change
from flow360.ingestion.topics import Record

UNCHANGED = "__debezium_unavailable_value"
"""What Debezium says in place of a long text that an update has not touched."""
TABLE = "lab10.refunds"
COLUMNS = """refund_id bigint primary key, amount_eur numeric(10, 2), letter text, lsn bigint not null,
             gone boolean not null"""


class Log:
    """A log that is nobody's: each change stands behind the one before it, some bytes later."""

    def __init__(self, chance: random.Random, table: str = "refunds") -> None:
        self.chance, self.table = chance, table
        # Beyond 2**31, and with a step in its number of digits: a place is neither a text nor a small number.
        self.lsn = 9_999_999_000 - chance.randrange(1000)
        self.moment = 1_778_148_902_000
        self._offset = 0

    def say(
        self,
        op: str,
        key: Mapping[str, Any],
        after: Mapping[str, Any] | None,
        *,
        snapshot: str = "false",
        partition: int = 0,
        moves: bool = True,
    ) -> Change:
        """Say one change.

        Args:
            op: c, u, d or r.
            key: the row's key, with its name.
            after: the row as it is now; None for a delete.
            snapshot: Debezium's word for where in a snapshot it stands.
            moves: whether it has a place of its own; the rows of one snapshot have none.
        """
        if moves:
            self.lsn += self.chance.randrange(40, 400)
        # Changes of one transaction share its moment, and a clock may be set back.
        self.moment += self.chance.choice((0, self.chance.randrange(-900, 2000)))
        source = {
            "connector": "postgresql",
            "name": "cdc.lab10",
            "ts_ms": self.moment,
            "snapshot": snapshot,
            "db": "shop",
            "schema": "lab10",
            "table": self.table,
            "txId": self.chance.randrange(1000, 2000),
            "lsn": self.lsn,
        }
        before = dict(key) if op == "d" else None
        value = {"before": before, "after": after and dict(after), "source": source, "op": op, "ts_ms": self.moment + 7}
        return self._change(key, value, partition)

    def tombstone(self, key: Mapping[str, Any], partition: int = 0) -> Change:
        """Say the message behind a delete, a key without a value."""
        return self._change(key, None, partition)

    def _change(self, key: Mapping[str, Any], value: dict[str, Any] | None, partition: int) -> Change:
        self._offset += 1
        said = [one and json.dumps(one).encode() for one in (dict(key), value)]
        topic = f"cdc.lab10.lab10.{self.table}"
        return Change(dict(key), value, Record(topic, partition, self._offset, self.moment + 30, *said, []))


@contextmanager
def target() -> Iterator[None]:
    """Make the table of the warehouse, empty; it is gone afterwards."""
    with clients.postgres(autocommit=True) as db:
        db.execute(
            """select pg_terminate_backend(pid, 5000) from pg_stat_activity join pg_locks using (pid)
               where relation = to_regclass(%s) and state like 'idle in transaction%%'""",
            [TABLE],
        )
        db.execute("create schema if not exists lab10")
        db.execute(f"drop table if exists {TABLE}")
        db.execute(f"create table {TABLE} ({COLUMNS})")
        try:
            yield
        finally:
            db.execute("set lock_timeout = '10s'")
            db.execute(f"drop table if exists {TABLE}")


def fill(there: Sequence[Row]) -> None:
    """Let the table hold these rows."""
    with clients.postgres() as db:
        for row in there:
            db.execute(
                f"""insert into {TABLE} values (%(refund_id)s, %(amount_eur)s, %(letter)s, %(lsn)s, %(gone)s)""", row
            )


def held() -> list[Row]:
    """Read what the table holds; of a row that is gone only that, and its place."""
    return rows(
        f"""select refund_id, gone, lsn, case when not gone then amount_eur end as amount_eur,
                   case when not gone then letter end as letter from {TABLE}"""
    )


def bring(call: Callable[..., Any], changes: Sequence[Change]) -> None:
    """Let the learner's function bring changes, by a connection of its own, which is closed afterwards."""
    with clients.postgres() as db:
        db.execute("set lock_timeout = '5s'")
        db.commit()
        try:
            call(db, list(changes))
        finally:
            db.rollback()  # what was not committed is not there
