"""The figures about change data capture: from a commit to a reader, a first copy, and the fleet's load."""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
from confluent_kafka import Consumer, TopicPartition

from flow360 import clients
from flow360.bench.measure import Round, percentile, timer
from flow360.bench.sandbox import engine_of_its_own
from flow360.errors import FlowError
from flow360.ingestion import connect
from flow360.ingestion.topics import drop_topics
from flow360.primeur import fleet_load
from flow360.primeur.generate import table
from flow360.primeur.plan import Plan
from flow360.primeur.schema import FLEET
from flow360.settings import settings
from flow360.stack.facade import silent
from flow360.waiting import rounds, wait_for

CHANGES = 200
PAUSE = 0.03
"""Seconds between two commits, and so the pace at which a change is made."""
TUNED = {"poll.interval.ms": "10"}
ROWS = 300_000
"""Of the table that is copied."""
SCALE = 2
"""Of the fleet that is loaded: some 93,000 rows."""
PARTITIONS = 3


@dataclass(frozen=True)
class Captured:
    """A table of the bench's own in a captured database.

    Attributes:
        service: the database's server.
        connector: whose settings its connector has, but for the table and its topics.
        table: as the connector names it.
        connection: opens one as the database's owner, who commits each statement.
        own: further settings that no two connectors may share.
    """

    service: str
    connector: str
    table: str
    connection: Callable[[], Any]
    own: dict[str, str]

    @property
    def topic(self) -> str:
        return f"cdc.bench.{self.table}"

    def config(self, **more: str) -> dict[str, str]:
        """Make the connector's configuration."""
        mine = {"table.include.list": self.table, "topic.prefix": "cdc.bench", **self.own}
        return {**connect.connectors()[self.connector], **mine, **more}

    def execute(self, statement: str) -> None:
        """Run a statement in the database, and commit."""
        with self.connection() as db, db.cursor() as cursor:
            cursor.execute(statement)


SHOP = Captured(
    "postgres-source",
    "primeur-shop",
    "public.bench",
    partial(clients.postgres, "source", autocommit=True),
    {"slot.name": "bench", "publication.name": "bench"},
)
OF_FLEET = Captured(
    "mysql",
    "primeur-fleet",
    "fleet.bench",
    partial(clients.mysql, autocommit=True),
    {"database.server.id": "462", "schema.history.internal.kafka.topic": "connect-history-bench"},
)


@contextmanager
def _running(of: Captured) -> Iterator[None]:
    """Have a worker and the database up, with a table of the bench's own."""
    with engine_of_its_own() as engine:
        engine.up(["kafka-connect", of.service], silent)
        of.execute(f"create table {of.table} (id int primary key, name varchar(40), price numeric(8, 2), at timestamp)")
        yield


@contextmanager
def _tuned_over_default(of: Captured) -> Iterator[Round]:
    """Compare the median milliseconds from a commit to a reader, at a look every 10 ms, with the connector's own."""
    with _running(of):
        first = itertools.count(1, 10_000)

        def trial(what: str, **more: str) -> float:
            _connect_again(of, **more)
            _late(of, next(first), 5)  # the task is at work
            found = _late(of, next(first), CHANGES)
            p50, p95, p99 = (percentile(found, share) * 1000 for share in (50, 95, 99))
            print(f"{of.service}, {what}: commit to reader p50 {p50:.0f} ms, p95 {p95:.0f} ms, p99 {p99:.0f} ms")
            return p50

        def one() -> tuple[float, float]:
            return trial("a look every 10 ms", **TUNED), trial("as it comes")

        yield one


def _connect_again(of: Captured, **more: str) -> None:
    """Let the bench's connector run with these settings, from where it was."""
    worker = clients.connect()
    if "bench" in worker.get("/connectors").json():
        connect.stop(worker, "bench")
    for _said in connect.bring(worker, "bench", of.config(**more)):
        pass


def _late(of: Captured, first: int, count: int) -> list[float]:
    """Commit rows one after the other; the seconds from each commit until a reader holds it."""
    reader = Consumer(clients.confluent(group_id="bench", fetch_wait_max_ms=10, enable_auto_commit=False))
    parts = [TopicPartition(of.topic, number) for number in range(PARTITIONS)]
    if of.topic in reader.list_topics(timeout=10).topics:
        parts = [TopicPartition(one.topic, one.partition, reader.get_watermark_offsets(one)[1]) for one in parts]
    else:
        parts = [TopicPartition(one.topic, one.partition, 0) for one in parts]
    reader.assign(parts)
    committed: dict[int, float] = {}
    came: dict[int, float] = {}

    def commit() -> None:
        pause = threading.Event()
        with of.connection() as db, db.cursor() as cursor:
            for number in range(first, first + count):
                cursor.execute(f"insert into {of.table} (id, name) values ({number}, 'bench')")
                committed[number] = time.perf_counter()
                pause.wait(PAUSE)

    working = threading.Thread(target=commit)
    working.start()
    for _ in rounds(60, every=0):
        if (message := reader.poll(0.1)) is not None and message.error() is None:
            came.setdefault(json.loads(message.key())["id"], time.perf_counter())
        if not working.is_alive() and came.keys() >= committed.keys():
            break
    working.join()
    reader.close()
    if missing := committed.keys() - came.keys():
        raise FlowError(f"{of.service}: {len(missing)} of {count} changes did not come within a minute")
    return [came[number] - moment for number, moment in committed.items()]


@contextmanager
def snapshot_over_copy() -> Iterator[Round]:
    """Compare rows a second of a connector's first copy, its start included, with `COPY … TO` of the same table."""
    with _running(SHOP):
        SHOP.execute(
            f"insert into {SHOP.table} select n, 'customer ' || n, n % 100, timestamp '2026-05-04' + n * interval '1 s'"
            f" from generate_series(1, {ROWS}) n"
        )
        reader = Consumer(clients.confluent(group_id="bench", enable_auto_commit=False))

        def there() -> bool:
            if SHOP.topic not in reader.list_topics(timeout=10).topics:
                return False
            ends = [reader.get_watermark_offsets(TopicPartition(SHOP.topic, part))[1] for part in range(PARTITIONS)]
            return sum(ends) >= ROWS

        def one() -> tuple[float, float]:
            with timer() as copied:
                _connect_again(SHOP)
                wait_for(there, 300, f"{ROWS} rows in Kafka", every=0.1)
            for _part in connect.forget(clients.connect(), "bench", SHOP.config()):
                pass
            drop_topics(SHOP.topic)
            copy = f"copy {SHOP.table} to stdout"
            with SHOP.connection() as db, db.cursor() as cursor, timer() as written, cursor.copy(copy) as out:
                for _piece in out:
                    pass
            return ROWS / copied[0], ROWS / written[0]

        yield one
        reader.close()


@contextmanager
def fleet_over_load_data() -> Iterator[Round]:
    """Compare rows a second of the fleet's load with `LOAD DATA` of the same rows, each in one transaction."""
    with engine_of_its_own() as engine, TemporaryDirectory(prefix="flow360-bench-") as folder:
        engine.up(["mysql"], silent)
        data = {name: table(name, Plan(scale=SCALE)) for name in FLEET}
        rows = sum(map(len, data.values()))
        files = {name: _tabbed(Path(folder) / name, data[name]) for name in FLEET}
        fleet_load.load()  # for the tables
        root = fleet_load.connect(user="root", password=settings().fleet_root_password, autocommit=True)
        root.cursor().execute("set global local_infile = on")

        def seconds(put: Callable[[Any, str], object]) -> float:
            with fleet_load.connect(local_infile=True) as db, db.cursor() as cursor:
                for name in reversed(FLEET):
                    cursor.execute(f"delete from {name}")
                db.commit()
                with timer() as took:
                    for name in FLEET:
                        put(cursor, name)
                    db.commit()
                return took[0]

        def load_data(cursor: Any, name: str) -> None:
            columns = ", ".join(data[name].column_names)
            cursor.execute(f"load data local infile '{files[name]}' into table {name} ({columns})")

        def one() -> tuple[float, float]:
            ours = seconds(lambda cursor, name: fleet_load.insert(cursor, name, data[name]))
            return rows / ours, rows / seconds(load_data)

        yield one
        root.close()


def _tabbed(file: Path, rows: pa.Table) -> Path:
    """Write rows as `load data` reads them by default: tabs between, a backslash before, `\\N` for null."""
    with file.open("w", encoding="utf-8") as out:
        for row in rows.to_pylist():
            out.write("\t".join(map(_field, row.values())) + "\n")
    return file


def _field(value: object) -> str:
    if value is None:
        return "\\N"
    text = str(int(value) if isinstance(value, bool) else value)
    for what, by in (("\\", "\\\\"), ("\t", "\\t"), ("\n", "\\n")):
        text = text.replace(what, by)
    return text


change_of_the_shop: Callable[[], Any] = partial(_tuned_over_default, SHOP)
change_of_the_fleet: Callable[[], Any] = partial(_tuned_over_default, OF_FLEET)
