"""Exercise 4: a load at the pace of the server."""

from __future__ import annotations

import io
import random
import secrets
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from decimal import Decimal
from typing import Any

import psycopg
import pyarrow as pa
import pyarrow.csv as pacsv

from flow360 import clients
from flow360.checks import liberal, scene
from flow360.checks.c05b_data_warehouse.setting import bulk
from flow360.checks.compare import expect_rows, expect_untouched, rows
from flow360.checks.draw import MONEY, draw
from flow360.checks.verdict import NotYet, exercise, expect, limited
from flow360.primeur.schema import TABLES

TABLE, KEY = "lab.order_lines", ("order_id", "line_no")
ALL = f"select * from {TABLE}"
SETTINGS = "select name, setting from pg_settings where source = 'session' order by name"
ROUNDS, PACE, SECONDS = 6, 0.5, 15
"""Rounds at most; the pace that is asked, as a part of the server's; how long one load may take."""
Load = Callable[[Any, pa.Table], Any]


@exercise
def fast_load(load_lines: Any) -> None:
    """Check that load_lines(db, rows) appends an Arrow table to lab.order_lines, at half the pace of COPY or more."""
    run = limited(liberal.function("load_lines", load_lines), SECONDS, "load_lines")
    scene.free(TABLE)
    try:
        _appends(run, draw())
        _keeps_pace(run)
    finally:
        scene.free(TABLE)
        with clients.postgres() as db:
            db.execute(f"set local lock_timeout = '{SECONDS}s'")
            db.execute(f"truncate {TABLE}")


# --- What it loads ----------------------------------------------------------------------------------------------------


def _appends(run: Load, chance: random.Random) -> None:
    """Check that it appends all rows as they are, over the caller's connection, which the caller commits."""
    there, night = _lines(chance, 20), _lines(chance, 3000)
    with clients.postgres() as db:
        db.execute(f"truncate {TABLE}")
        _put(db, there, TABLE)
    before = _seen()
    db = clients.postgres()
    try:
        own = db.execute(SETTINGS).fetchall()
        for lines in (night.slice(0, 0), night):
            _ended(run, db, lines)
            expect(not db.closed, "load_lines: it has closed the connection, which is the caller's")
            found = [dict(zip(night.column_names, row, strict=True)) for row in db.execute(ALL).fetchall()]
            wanted = [*there.to_pylist(), *lines.to_pylist()]
            why = "those that were there, and those that came: is a column misplaced?"
            expect_rows("load_lines", found=found, expected=wanted, key=KEY, why=why)
            expect_untouched("load_lines", "what others see before the caller has committed", before, _seen())
            set_now = db.execute(SETTINGS).fetchall()
            expect_untouched("load_lines", "settings of the caller's session", own, set_now)
    finally:
        db.close()
    expect_untouched("load_lines", "after a rollback by the caller the table", before, _seen())


def _seen() -> list[tuple]:
    """Read what another session sees, within the time that a lock may take."""
    with scene.scene("load_lines") as other:
        return sorted(other.execute(ALL).fetchall())


def _ended(run: Load, db: psycopg.Connection, lines: pa.Table) -> None:
    """Run one load; when it is not over in time its session is ended, so that nothing waits for it."""
    try:
        run(db, lines)
    except NotYet:
        with clients.postgres(autocommit=True) as other:
            other.execute("select pg_terminate_backend(%s, 5000)", [db.info.backend_pid])
        raise


def _lines(chance: random.Random, count: int) -> pa.Table:
    """Draw order lines with the largest amounts and the smallest, each column in its own range, in several chunks."""
    places = chance.sample(range(10**6), count)
    table = TABLES["order_lines"].arrow
    values = {
        "order_id": [5_000_000_000 + place // 9 for place in places],
        "line_no": [1 + place % 9 for place in places],
        "product_id": [20_000 + chance.randrange(900) for _ in places],
        "quantity": [100 + chance.randrange(90) for _ in places],
        **{name: [_money(chance) for _ in places] for name in ("unit_price_eur", "discount_eur", "line_total_eur")},
    }
    whole = pa.table([pa.array(values[field.name], field.type) for field in table], schema=table)
    cut = chance.randint(1, count - 1)
    return pa.concat_tables([whole.slice(cut), whole.slice(0, cut)])


def _money(chance: random.Random) -> Decimal:
    return Decimal(chance.choice([*MONEY, "0.00"])) if chance.random() < 0.2 else Decimal(chance.randrange(99999)) / 100


# --- How fast ---------------------------------------------------------------------------------------------------------


def _keeps_pace(run: Load) -> None:
    lines, best = bulk(), 0.0
    path = f"/tmp/flow360-{secrets.token_hex(8)}.csv"  # a name that nobody can have made a link of
    digest = "select count(*), sum(hashtextextended(t::text, 0)) from {} as t"
    with clients.postgres() as db:
        db.execute(f"create temp table truth (like {TABLE})")
        _put(db, lines, "truth")
        truth = db.execute(digest.format("truth")).fetchone()
        db.execute(f"copy truth to '{path}' (format csv)")
    try:
        for _ in range(ROUNDS):
            with _watch() as watch:
                mine = _seconds(lambda db: _ended(run, db, lines))
            found = tuple(rows(digest.format(TABLE))[0].values())
            expect(found == truth, f"load_lines: of {len(lines):,} rows, {found[0]:,} came, or not as they were")
            expect(
                not watch.copies - {"PIPE"},
                "load_lines: the server read a file of its own: the rows must come from you",
            )
            best = max(best, _seconds(lambda db: db.execute(f"copy {TABLE} from '{path}' (format csv)")) / mine)
            if best >= PACE:
                return
            if best < PACE / 3:  # no other round will make a hundredfold
                break
    finally:
        with clients.postgres() as db, suppress(psycopg.Error):
            db.execute(f"copy (select 1) to program 'rm -f {path}'")
    raise NotYet(
        f"load_lines: its best round came to {100 * best:.0f} % of the pace of server-side COPY; "
        f"{100 * PACE:.0f} % are asked"
    )


def _put(db: psycopg.Connection, lines: pa.Table, table: str) -> None:
    text = io.BytesIO()
    pacsv.write_csv(lines, text, pacsv.WriteOptions(include_header=False, quoting_style="none"))
    with db.cursor().copy(f"copy {table} from stdin (format csv)") as copy:
        copy.write(text.getbuffer())


def _seconds(way: Callable[[Any], Any]) -> float:
    """Measure the seconds of one load into the empty table, with its commit."""
    with clients.postgres() as db:
        db.execute(f"truncate {TABLE}")
    began = time.perf_counter()
    with clients.postgres() as db:
        way(db)
    return time.perf_counter() - began


class _watch:
    """Asks another session what kind of COPY runs (pg_stat_progress_copy), for the time of the block."""

    def __enter__(self) -> _watch:
        self.copies: set[str] = set()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()
        return self

    def _look(self) -> None:
        # The type is null for a moment, when a COPY has begun and has not said yet what it reads.
        query = "select type from pg_stat_progress_copy where relid = to_regclass(%s) and type is not null"
        with clients.postgres(autocommit=True) as db:
            while not self._end.wait(0.02):
                self.copies |= {kind for (kind,) in db.execute(query, [TABLE])}

    def __exit__(self, *_: Any) -> None:
        self._end.set()
        self._thread.join(10)
