"""Checks of 02_ingestion: each calls the learner's function and then asks the broker and the warehouse."""

from __future__ import annotations

import json
import tempfile
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flow360 import clients
from flow360.checks.apart import Apart, apart
from flow360.checks.verdict import NotYet, Verdict, exercise, expect, expect_equal, expect_type, limited
from flow360.clients.query import sql
from flow360.errors import FlowError
from flow360.ingestion import groups, topics
from flow360.waiting import wait_for

SECONDS = 60


@contextmanager
def lab_topic(what: str, partitions: int = 1, **configs: Any) -> Iterator[str]:
    """A topic of this check alone, gone afterwards."""
    name = topics.fresh_topic(f"lab02-{what}-{uuid.uuid4().hex[:8]}", partitions, **configs)
    try:
        yield name
    finally:
        topics.drop_topics(name)


def _callable(name: str, value: Any) -> None:
    expect(callable(value), f"{name}: expected a function, found {type(value).__name__}")


# --- 1 ----------------------------------------------------------------------------------------------------------------

READINGS = """
    select van_id, sequence, celsius from (
        select *, row_number() over (partition by van_id order by sequence) as nth from primeur.temperatures
        where measured_at >= '2026-05-07 14:30+00' and measured_at < '2026-05-08'
    ) evening where nth <= 40 order by nth, md5(van_id || nth)
"""


@exercise
def keyed_producer(send_readings: Any) -> None:
    """The readings of twelve vans in a topic: each once, keyed by van, in the order of their sequence."""
    _callable("send_readings", send_readings)
    readings = sql(READINGS).to_dict("records")
    with lab_topic("readings", partitions=4) as topic:
        limited(send_readings, SECONDS)(topic, [dict(reading) for reading in readings])
        records = topics.read_all(topic)
    expect_equal("send_readings", found=len(records), expected=len(readings), why="records in the topic")
    places: dict[str, set[int]] = {}
    newest: Counter[str] = Counter()
    late = 0
    for record in records:
        try:
            reading = json.loads(record.value)
            van, sequence = reading["van_id"], reading["sequence"]
        except (ValueError, TypeError, KeyError):
            raise NotYet(
                f"send_readings: the value of offset {record.offset} is not JSON of a reading: {record.value!r:.60}"
            ) from None
        places.setdefault(van, set()).add(record.partition)
        late += sequence < newest[van]
        newest[van] = max(newest[van], sequence)
    scattered = [van for van, found in places.items() if len(found) > 1]
    if scattered:
        raise NotYet(
            f"send_readings: {len(scattered)} vans are in more than one partition, {scattered[0]} in "
            f"{len(places[scattered[0]])}: no order holds between partitions"
        )
    if late:
        raise NotYet(
            f"send_readings: {late} readings come after a later one of their van: in which order were they sent?"
        )
    used = {next(iter(found)) for found in places.values()}
    expect(len(used) > 1, "send_readings: all vans are in one partition: order holds, but one consumer must read all")
    keys = {(record.key, json.loads(record.value)["van_id"].encode()) for record in records}
    wrong = next(((key, van) for key, van in keys if key != van), None)
    if wrong:
        raise NotYet(f"send_readings: expected the van as key ({wrong[1]!r}), found {wrong[0]!r}")
    _raises_when_refused(send_readings, readings[0])


def _raises_when_refused(send_readings: Any, reading: dict[str, Any]) -> None:
    large = {**reading, "van_id": "VAN-" + "9" * 5000}
    with lab_topic("refused", max_message_bytes=1000) as topic:
        try:
            limited(send_readings, SECONDS)(topic, [large])
        except Verdict:
            raise
        except Exception:  # noqa: BLE001 - whichever error it is: the caller knows
            return
    raise NotYet("send_readings: the broker refused a reading, and no error was raised: what does send() return?")


# --- 2 ----------------------------------------------------------------------------------------------------------------

ORDERS, GATE_AT, GATE = 600, 220, 36_002
"""Orders that are sent; the row whose insert is held up; the advisory lock that holds it."""


@exercise
def safe_group(take_orders: Any) -> None:
    """All orders of a topic in a table, and committed, although the process was killed while it wrote."""
    _callable("take_orders", take_orders)
    table, group = f"staging.lab02_{uuid.uuid4().hex[:8]}", f"lab02-{uuid.uuid4().hex[:8]}"
    with lab_topic("orders") as topic, _gated(table) as gate:
        _send_orders(topic)
        with apart(take_orders, topic, group, table) as first:
            wait_for(lambda: gate.waiting() or first.ended, SECONDS, "the first rows")
            if not gate.waiting():
                _ended_early(first, table)
            first.kill()
            gate.open()
        _await_empty(group)
        with apart(take_orders, topic, group, table) as second:
            _finish(second, topic, group, table)
            trouble = second.error
        rows, lag = _rows(table), sum(_lag(group, topic).values())
    if rows < ORDERS:
        lost = f"take_orders: {ORDERS - rows} of {ORDERS} orders are lost"
        raise NotYet(f"{lost}, and it ended with {trouble}" if trouble else f"{lost} after a kill between two rows")
    expect(not trouble, f"take_orders: all orders are there, but it ended with {trouble}")
    expect(lag == 0, f"take_orders: the table is complete, but the group's lag is still {lag}: nothing was committed")


def _send_orders(topic: str) -> None:
    orders = sql("select order_id, total_eur from primeur.orders order by order_id limit %s", [ORDERS])
    with clients.producer(acks="all") as out:
        for number, order in enumerate(orders.to_dict("records")):
            # Some twice: at least once means that, whether or not a reader is killed.
            for _ in range(2 if number % 50 == 7 else 1):
                out.send(topic, json.dumps(order).encode(), str(order["order_id"]).encode())


class _Gate:
    """Holds up the insert of one row by a lock, so that the kill is sure to fall between two rows."""

    def __init__(self, db: Any, table: str) -> None:
        self.db, self.table, self._closed = db, table, True

    def waiting(self) -> list[int]:
        """The server processes that stand before the gate."""
        rows = self.db.execute(
            "select pid from pg_locks where locktype = 'advisory' and objid = %s and not granted", [GATE]
        )
        return [pid for (pid,) in rows]

    def open(self) -> None:
        """End the sessions that wait (their client is dead) and let everybody through from now on."""
        if self._closed:
            self._closed = False
            self.db.execute("select pg_terminate_backend(pid, 5000) from unnest(%s::int[]) as pid", [self.waiting()])
            self.db.execute("select pg_advisory_unlock(%s)", [GATE])
            self.db.execute(f"drop trigger if exists gate on {self.table}")


@contextmanager
def _gated(table: str) -> Iterator[_Gate]:
    with clients.postgres(autocommit=True) as db:
        db.execute("select pg_advisory_lock(%s)", [GATE])
        db.execute(f"create table {table} (order_id bigint primary key, total_eur numeric(10,2))")
        db.execute(f"create sequence {table}_seen")
        db.execute(f"""
            create function {table}_gate() returns trigger language plpgsql as $$ begin
                if nextval('{table}_seen') > {GATE_AT} then perform pg_advisory_xact_lock_shared({GATE}); end if;
                return new;
            end $$""")
        db.execute(f"create trigger gate before insert on {table} for each row execute function {table}_gate()")
        gate = _Gate(db, table)
        try:
            yield gate
        finally:
            gate.open()
            db.execute("set lock_timeout = '10s'")
            db.execute(f"drop table {table}")
            db.execute(f"drop function {table}_gate")
            db.execute(f"drop sequence {table}_seen")


def _ended_early(process: Apart, table: str) -> None:
    if process.error:
        raise NotYet(f"take_orders: it ended with {process.error}")
    raise NotYet(f"take_orders: it ended with {_rows(table)} of {ORDERS} rows in the table, before anything went wrong")


def _await_empty(group: str) -> None:
    """Wait as an operator would until the broker has given up the dead member (its session must end first)."""

    def nobody() -> bool:
        (described,) = groups.ask_coordinator(lambda admin: admin.describe_groups([group])).values()
        return not described["members"]

    wait_for(nobody, 75, "the end of the dead reader's session (session_timeout_ms)", every=0.5)


def _finish(process: Apart, topic: str, group: str, table: str) -> None:
    """Until it has ended, or all is done, or nothing has moved for 25 seconds."""
    done: list[tuple[int, int]] = []

    def over() -> bool:
        state = (_rows(table), sum(_lag(group, topic).values()))
        done.append(state)
        quiet = len(done) > 50 and len(set(done[-50:])) == 1
        return process.ended or state == (ORDERS, 0) or quiet

    wait_for(over, 120, "the second reader", every=0.5)


def _rows(table: str) -> int:
    return int(sql(f"select count(*) from {table}").iat[0, 0])


def _lag(group: str, topic: str) -> dict[int, int]:
    """partition -> records that the group has not committed; a partition without a commit counts from its beginning."""
    found = groups.ask_coordinator(lambda admin: admin.list_group_offsets(group))[group]
    committed = {part.partition: at.offset for part, at in found.items() if part.topic == topic}
    return {part: end - committed.get(part, first) for part, (first, end) in topics.ends(topic).items()}


# --- 3 ----------------------------------------------------------------------------------------------------------------

POISON: tuple[bytes | None, ...] = (
    b'{"van_id": "VAN-03", "cels',
    bytes([0x93, 0xFF, 0x00]),
    b'{"van_id": "VAN-03"}',
    b'{"van_id": "VAN-03", "celsius": "n.c."}',
    b"[4.1, 4.2]",
    None,
)


@exercise
def dead_letters(sort_readings: Any) -> None:
    """The good readings returned, the bad ones in the dead-letter topic, bytes unchanged, with cause and place."""
    _callable("sort_readings", sort_readings)
    good = [{"van_id": f"VAN-{n % 12 + 1:02d}", "celsius": 3 + n / 10} for n in range(48)]
    planted: dict[tuple[int, int], tuple[bytes, bytes | None]] = {}
    with lab_topic("mixed", partitions=2) as topic, lab_topic("dead") as dead:
        with clients.producer(acks="all") as out:
            for number, reading in enumerate(good):
                out.send(topic, json.dumps(reading).encode(), reading["van_id"].encode())
                if number % 8 == 4:
                    key, value = b"VAN-03", POISON[number // 8]
                    at = out.send(topic, value, key).get(timeout=20)
                    planted[at.partition, at.offset] = (key, value)
        found = limited(sort_readings, SECONDS)(topic, dead, f"lab02-{uuid.uuid4().hex[:8]}")
        letters = topics.read_all(dead)
    expect_type("sort_readings", found, list)
    expect_equal("sort_readings", found=len(found), expected=len(good), why="good readings in the list")
    order = sorted(good, key=lambda r: r["celsius"])
    expect(
        all(isinstance(r, dict) and "celsius" in r for r in found)
        and sorted(found, key=lambda r: r["celsius"]) == order,
        "sort_readings: the list does not hold the good readings as dicts, as they were sent",
    )
    expect_equal("sort_readings", found=len(letters), expected=len(planted), why="records in the dead-letter topic")
    for letter in letters:
        headers = dict(letter.headers)
        missing = [name for name in ("cause", "topic", "partition", "offset") if not headers.get(name)]
        if missing:
            raise NotYet(f"sort_readings: a dead letter has no header {missing[0]!r}: it has {sorted(headers)}")
        try:
            place = int(headers["partition"]), int(headers["offset"])
        except ValueError:
            raise NotYet("sort_readings: the headers partition and offset are not whole numbers as text") from None
        if headers["topic"] != topic.encode() or place not in planted:
            raise NotYet(f"sort_readings: there is no bad record at {headers['topic'].decode()} {place}")
        key, value = planted.pop(place)
        expect_equal("sort_readings, value of a dead letter", found=letter.value, expected=value, why="byte for byte")
        expect_equal("sort_readings, key of a dead letter", found=letter.key, expected=key, why="byte for byte")


# --- 4 ----------------------------------------------------------------------------------------------------------------

LOAD_TABLE = "staging.lab02_load"
LOAD_COLUMNS = "order_id bigint primary key, status text not null, total_eur numeric(10,2) not null"
LEFT_OPEN = """
    with idle as materialized (
        select pid from pg_stat_activity join pg_locks using (pid)
        where relation = to_regclass(%s) and state = 'idle in transaction' group by pid
    )
    select pg_terminate_backend(pid, 5000) from idle
"""


@exercise
def idempotent_load(load_orders: Any) -> None:
    """`staging.lab02_load` after the same file twice, a corrected one, and one that is cut in the middle."""
    import pandas as pd

    _callable("load_orders", load_orders)
    orders = sql("select order_id, status, total_eur from primeur.orders order by order_id limit 205")
    first, later = orders.iloc[:200], orders.iloc[200:]
    corrected = first.iloc[:10].assign(status="refunded", total_eur=1.25)
    second = pd.concat([corrected, later], ignore_index=True)
    final = pd.concat([second, first.iloc[10:]], ignore_index=True)
    _left_open()
    sql(f"drop table if exists {LOAD_TABLE}")
    sql(f"create table {LOAD_TABLE} ({LOAD_COLUMNS})")

    def load(path: Path) -> None:
        try:
            limited(load_orders, SECONDS, "load_orders")(path)
        finally:
            left_open = _left_open()  # also before a refusal: its locks would hold up whatever comes next
        expect(
            not left_open,
            "load_orders: when it returned, its transaction was still open: nobody else sees its rows, and its locks "
            "hold others up. Who commits? (The check has ended that session.)",
        )

    with tempfile.TemporaryDirectory() as folder:
        for number, (frame, truth, what) in enumerate(
            (
                (first, first, "the first file"),
                (first, first, "the same file again"),
                (second, final, "the corrections"),
            )
        ):
            path = Path(folder) / f"orders_{number}.csv"
            frame.to_csv(path, index=False)
            load(path)
            _expect_rows(truth, what)
        cut = Path(folder) / "orders_cut.csv"
        lines = [f"{900_000 + n},delivered,7.50" for n in range(50)]
        cut.write_text("\n".join(["order_id,status,total_eur", *lines, "900050,deliv"]) + "\n", "utf-8")
        refused = False
        try:
            load(cut)
        except NotYet:
            raise
        except Exception:  # noqa: BLE001 - that it fails is what we want to see; how, is the learner's choice
            refused = True
    extra = int(sql(f"select count(*) from {LOAD_TABLE} where order_id >= 900000").iat[0, 0])
    expect(
        not extra, f"load_orders: a file whose last line is cut left {extra} of its rows in the table: all or nothing"
    )
    expect(refused, "load_orders: a file whose last line is cut was taken without an error, and nothing of it is there")
    _expect_rows(final, "the cut file")
    sql(f"drop table {LOAD_TABLE}")


def _left_open() -> int:
    """End the sessions that hold a lock on the table and do nothing; how many there were."""
    return len(sql(LEFT_OPEN, [LOAD_TABLE]))


def _expect_rows(truth: Any, what: str) -> None:
    found = sql(f"select order_id, status, total_eur from {LOAD_TABLE} order by order_id")
    expect_equal(f"load_orders, after {what}", found=len(found), expected=len(truth), why=f"rows of {LOAD_TABLE}")
    truth = truth.sort_values("order_id", ignore_index=True)
    wrong = int((found[["status", "total_eur"]] != truth[["status", "total_eur"]]).any(axis=1).sum())
    expect(
        not wrong, f"load_orders, after {what}: {wrong} rows do not have the values of the last file that named them"
    )


# --- 5 ----------------------------------------------------------------------------------------------------------------


@exercise
def lag_by_hand(lag_of: Any) -> None:
    """partition -> lag of a group on a topic, as Kafka's own tool prints it, and where it prints nothing."""
    _callable("lag_of", lag_of)
    group = f"lab02-{uuid.uuid4().hex[:8]}"
    with lab_topic("lag", partitions=4) as topic:
        _behind(topic, group)
        found = limited(lag_of, SECONDS)(group, topic)
        truth = _lag(group, topic)
        tool = groups.lag_tool(group)
    said = {int(row.partition): int(row.lag) for row in tool.dropna().itertuples() if row.topic == topic}
    if not said.items() <= truth.items():
        raise FlowError(
            f"Kafka's tool says {said}, the check says {truth}: this is a mistake in the course, please report it"
        )
    expect_type("lag_of", found, dict)
    if set(found) != set(truth):
        raise NotYet(f"lag_of: expected the partitions {sorted(truth)} as keys, found {sorted(map(str, found))}")
    for partition, lag in truth.items():
        why = (
            "that is what kafka-consumer-groups says"
            if partition in said
            else "never committed: it counts from its beginning"
        )
        expect_equal(f"lag_of, partition {partition}", found=found[partition], expected=lag, why=why)


def _behind(topic: str, group: str) -> None:
    """Four partitions: in the middle, at the end, trimmed and in the middle, trimmed and never committed."""
    from kafka import OffsetAndMetadata, TopicPartition

    parts = [TopicPartition(topic, n) for n in range(4)]
    with clients.producer(acks="all") as out:
        for part, count in zip(parts, (20, 30, 40, 50), strict=True):
            for number in range(count):
                out.send(topic, str(number).encode(), partition=part.partition)
    with clients.kafka_admin() as admin:
        admin.delete_records({parts[2]: 15, parts[3]: 12})
    done = {part: OffsetAndMetadata(at, "", -1) for part, at in zip(parts[:3], (13, 30, 22), strict=True)}
    groups.ask_coordinator(lambda admin: admin.alter_group_offsets(group, done))
