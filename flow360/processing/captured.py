"""changes-sink: what Kafka Connect captures, into the warehouse, each change once: a copy that is seconds behind.

`python -m flow360.processing.captured --kafka 127.0.0.1:19092`

    captured.rows       each row of each captured table as it is now, as JSON; one that was deleted stays as a mark
    captured.items      the same of documents, divided: one row for a document, one for each element of its lists
    captured.places     how far each partition is read, by its topic's id
    captured.lives      since when each connector is at work, and when it was last heard
    captured.refused    what no connector can have written, byte for byte, with the reason

    captured_shop.orders, captured_fleet.vans …     the rows as the source has them: its columns and their types
    captured_catalogue.sheets, sheets_allergens …   documents and their lists, a column for each field ever seen

A batch and its places are one transaction. Killed before its commit, the sink reads the batch again, and after it, the
next one; Kafka knows nothing of it. Two at a time get in each other's way: the second finds other places than it knew,
and begins again.

What a connector says twice changes nothing: an older change than the one that is known of a row is left out (`Change`).
After a capture that had to begin from the beginning, rows of its life before are removed as soon as all of the new one
is here: nobody has said that they were deleted.
"""

from __future__ import annotations

import json
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

import psycopg
import typer
from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient
from prometheus_client import Counter as Count
from prometheus_client import Gauge

from flow360.errors import FlowError
from flow360.ingestion import changes
from flow360.ingestion.changes import HEARTBEATS, Change
from flow360.ingestion.dead_letters import BadRecord
from flow360.ingestion.topics import Record, identities
from flow360.monitoring import lineage
from flow360.processing import captured_views, documents
from flow360.processing.sink import Sink, warehouse

NAME = "changes-sink"
LOG = logging.getLogger(NAME)
AT_ONCE = 1000
"""Records of one transaction."""
LOOK_SECONDS = 5.0
"""So often it looks for new topics, and whether one was made again."""
DDL = """
create schema if not exists captured;
comment on schema captured is 'What Kafka Connect has captured, as it is now: flow360/processing/captured.py.';
create table if not exists captured.rows (
    topic text, key text, life text not null, position bigint[] not null, row json, changed_at timestamptz not null,
    kafka_partition integer not null, kafka_offset bigint not null,
    recorded_at timestamptz not null default clock_timestamp(), primary key (topic, key)
);
comment on table captured.rows is 'One row per row of a captured table; without `row` it was deleted there.';
create table if not exists captured.items (
    topic text, key text, path text, place integer[], fields json not null, primary key (topic, key, path, place)
);
comment on table captured.items is 'One row per document (path "") and per element of each of its lists.';
create table if not exists captured.emptied (topic text primary key, life text not null, position bigint[] not null);
comment on table captured.emptied is 'Where in its log a table was emptied at once: what stands before it is gone.';
create table if not exists captured.places (
    topic text, partition integer, log text not null, next_offset bigint not null, primary key (topic, partition)
);
create table if not exists captured.lives (
    source text primary key, life text not null, heard_at timestamptz not null, whole boolean not null
);
create table if not exists captured.refused (
    topic text, log text, partition integer, kafka_offset bigint, why text not null, key bytea, value bytea,
    primary key (log, partition, kafka_offset)
);
"""
EMPTY = """
insert into captured.emptied as t values (%s, %s, %s::bigint[])
on conflict (topic) do update set life = excluded.life, position = excluded.position
where (excluded.life collate "C", excluded.position) > (t.life collate "C", t.position)
"""
GONE = """
delete from captured.rows as r using captured.emptied as e
where r.topic = e.topic and e.topic = any(%s) and (r.life collate "C", r.position) < (e.life collate "C", e.position)
"""
UPSERT = """
insert into captured.rows as t (topic, key, life, position, row, changed_at, kafka_partition, kafka_offset)
select * from (values (%s, %s, %s, %s::bigint[], %s::json, %s::timestamptz, %s::integer, %s::bigint))
    as one (topic, key, life, position, row, changed_at, kafka_partition, kafka_offset)
where not exists (
    select from captured.emptied as e
    where e.topic = one.topic and (one.life collate "C", one.position) < (e.life collate "C", e.position)
)
on conflict (topic, key) do update set life = excluded.life, position = excluded.position, row = excluded.row,
    changed_at = excluded.changed_at, kafka_partition = excluded.kafka_partition,
    kafka_offset = excluded.kafka_offset, recorded_at = clock_timestamp()
where (excluded.life collate "C", excluded.position) >= (t.life collate "C", t.position)
returning topic, key
"""

RECORDS = Count(
    "changes_sink_records", "Changes: rows that were written by them, and records that were refused", ["outcome"]
)
HEARD = Gauge("changes_sink_heard_timestamp_seconds", "Until when all that a database has done is here", ["source"])
BEHIND = Gauge("changes_sink_behind_records", "Records in Kafka that are not in the warehouse yet", ["source"])


UNFIT = (psycopg.DataError, psycopg.IntegrityError, psycopg.errors.ProgramLimitExceeded)
"""What the warehouse says of a row that it will never take, such as one whose key is too long for an index."""


class Elsewhere(FlowError):
    """Somebody else has moved on a place."""


class Changes(Sink):
    """The service.

    Args:
        kafka: host:port of Kafka.
    """

    name = NAME
    away = (*Sink.away, KafkaException)

    def __init__(self, kafka: str) -> None:
        super().__init__()
        self._kafka = kafka
        self._carriers: dict[str, lineage.Carrier] = {}

    def _work(self) -> None:
        with warehouse() as db, closing(self._consumer()) as consumer:
            db.execute(DDL + captured_views.DDL)
            reading = Reading(db, consumer, self._kafka)
            while not self._stop.is_set():
                reading.look()
                self._problem = ""
                for topic, count in reading.take().items():
                    if source := changes.source_of(topic):
                        self._carrier(source).wrote(
                            lineage.warehouse(f"captured_{source}.{changes.table_of(topic)}"), count
                        )
                reading.measure()

    def _close(self) -> None:
        for carrier in self._carriers.values():
            carrier.close()

    def _consumer(self) -> Consumer:
        return Consumer(
            {
                "bootstrap.servers": self._kafka,
                "group.id": NAME,  # a name to be known by: no group is formed, and nothing committed
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "auto.offset.reset": "error",
                "allow.auto.create.topics": False,
                "socket.timeout.ms": 10_000,
                "fetch.wait.max.ms": 100,
                "log_level": 0,
            }
        )

    def _carrier(self, source: str) -> lineage.Carrier:
        if source not in self._carriers:
            self._carriers[source] = lineage.Carrier(NAME, lineage.topic(f"cdc.{source}"))
        return self._carriers[source]


class Reading:
    """How far each partition is, and what is read of them from there on."""

    def __init__(self, db: psycopg.Connection, consumer: Consumer, kafka: str) -> None:
        self._db, self._consumer = db, consumer
        self._admin = AdminClient({"bootstrap.servers": kafka, "socket.timeout.ms": 10_000, "log_level": 0})
        self._logs: dict[tuple[str, int], str] = {}
        self._next: dict[tuple[str, int], int] = {}
        self._looked, self._refused = float("-inf"), 0
        self._fields = captured_views.Fields(db)

    def look(self) -> None:
        """Take in topics that are new, or were made again, once in a while.

        Raises:
            FlowError: the broker does not answer.
        """
        if time.monotonic() - self._looked < LOOK_SECONDS:
            return
        self._looked = time.monotonic()
        found = identities(lambda name: bool(changes.source_of(name)) or name in HEARTBEATS, self._admin)
        logs = {(name, number): log for name, (log, numbers) in found.items() for number in numbers}
        if logs == self._logs:
            return
        with self._db.transaction():
            known = {
                (topic, number): (log, offset)
                for topic, number, log, offset in self._db.execute("select * from captured.places").fetchall()
            }
            for place, log in logs.items():
                if known.get(place, ("", 0))[0] != log:  # none, or one of a topic that is gone: this one is read whole
                    known[place] = (log, self._first(place))
                    self._db.execute(
                        """insert into captured.places values (%s, %s, %s, %s)
                           on conflict (topic, partition) do update set log = excluded.log,
                             next_offset = excluded.next_offset""",
                        [*place, *known[place]],
                    )
        self._logs, self._next = logs, {place: known[place][1] for place in logs}
        captured_views.tables(self._db, sorted({topic for topic, _ in logs if changes.source_of(topic)}))
        self._consumer.assign([TopicPartition(*place, offset) for place, offset in self._next.items()])

    def _first(self, place: tuple[str, int]) -> int:
        low, _ = self._consumer.get_watermark_offsets(TopicPartition(*place), timeout=10)
        return low

    def take(self) -> dict[str, int]:
        """Bring what has come into the warehouse; rows that were changed there, by topic.

        Raises:
            Elsewhere: another one reads, too.
            KafkaException: the broker is away, or what was to be read next is gone.
        """
        records = [_record(message) for message in self._consumer.consume(AT_ONCE, timeout=0.5)]
        self._tidy()
        if not records:
            return {}
        before = dict(self._next)
        try:
            return self._bring(records, self._keep)
        except UNFIT:
            self._next = before
            return self._bring(records, self._keep_one_by_one)

    def _bring(self, records: Sequence[Record], keep: Callable[[Sequence[Change]], dict[str, int]]) -> dict[str, int]:
        self._refused = 0
        with self._db.transaction():
            self._move_on(records)
            found = self._read(records)
            self._hear(one for one in records if one.topic in HEARTBEATS)
            kept = keep(found)
        RECORDS.labels("kept").inc(sum(kept.values()))
        RECORDS.labels("refused").inc(self._refused)
        return kept

    def _move_on(self, records: Iterable[Record]) -> None:
        """Note how far the batch goes, if nobody has done so: with a lock on each place until the commit."""
        after = {}
        for record in records:
            after[record.topic, record.partition] = record.offset + 1
        for place in sorted(after):
            done = self._db.execute(
                """update captured.places set next_offset = %s
                   where (topic, partition, log, next_offset) = (%s, %s, %s, %s)""",
                [after[place], *place, self._logs[place], self._next[place]],
            )
            if not done.rowcount:
                raise Elsewhere(f"{place[0]}, partition {place[1]} is read by somebody else, too")
        self._next |= after

    def _read(self, records: Iterable[Record]) -> list[Change]:
        """Read what connectors have written; what they cannot have is set aside."""
        found = []
        for record in records:
            if record.topic in HEARTBEATS:
                continue
            try:
                change = changes.read(record)
            except BadRecord as error:
                self._refuse(record, str(error), record.key, record.value)
                continue
            if change:
                found.append(change)
        return found

    def _refuse(self, one: Record | Change, why: str, key: bytes | None, value: bytes | None) -> None:
        LOG.warning("refused: %s, partition %s, offset %s: %s", one.topic, one.partition, one.offset, why)
        self._refused += 1
        place = one.topic, self._logs[one.topic, one.partition], one.partition, one.offset
        self._db.execute(
            "insert into captured.refused values (%s, %s, %s, %s, %s, %s, %s)",
            [*place, why.replace("\0", "\ufffd"), key, value],
        )

    def _hear(self, told: Iterable[Record]) -> None:
        """Note of each connector since when it is at work, and that it is."""
        for record in told:
            self._db.execute(
                """insert into captured.lives as t values (%s, %s, %s, false)
                   on conflict (source) do update set life = excluded.life,
                     heard_at = greatest(t.heard_at, excluded.heard_at),
                     whole = t.whole and t.life = excluded.life
                   where excluded.life collate "C" >= t.life collate "C" """,
                [HEARTBEATS[record.topic], changes.life_of(record), _moment(record)],
            )

    def _keep_one_by_one(self, found: Sequence[Change]) -> dict[str, int]:
        """Write changes as `_keep` does, and set aside what the warehouse does not take."""
        kept: Counter[str] = Counter()
        for change in found:
            try:
                with self._db.transaction():
                    kept.update(self._keep([change]))
            except UNFIT as error:
                self._fields = captured_views.Fields(self._db)
                row = change.row and change.row.encode()
                self._refuse(change, str(error).splitlines()[0], change.key.encode(), row)
        return dict(kept)

    def _keep(self, found: Sequence[Change]) -> dict[str, int]:
        """Write changes over the rows as they were, but for older ones; how many, by topic."""
        found = changes.newest(found)
        if not found:
            return {}
        for change in (one for one in found if not one.key):
            self._db.execute(EMPTY, [change.topic, change.life, list(change.position)])
            self._db.execute(GONE, [[change.topic]])
        found = self._whole([one for one in found if one.key])
        rows = [(c.topic, c.key, c.life, list(c.position), c.row, c.at, c.partition, c.offset) for c in found]
        kept: set[tuple[str, str]] = set()
        with self._db.cursor() as cursor:
            cursor.executemany(UPSERT, rows, returning=True)
            while True:
                kept.update(cursor.fetchall())
                if not cursor.nextset():
                    break
            divided = [c for c in found if changes.source_of(c.topic) in changes.DOCUMENTS and (c.topic, c.key) in kept]
            self._divide(cursor, divided)
        return dict(Counter(topic for topic, _ in kept))

    def _whole(self, found: list[Change]) -> list[Change]:
        """Fill in the long values that were not sent, because a change has left them alone."""
        parts = [one for one in found if one.row and changes.NOT_SENT in one.row]
        if not parts:
            return found
        query = """select topic, key, row::text from captured.rows
            join unnest(%s::text[], %s::text[]) as o (topic, key) using (topic, key)"""
        asked = self._db.execute(query, [[one.topic for one in parts], [one.key for one in parts]]).fetchall()
        known = {(topic, key): row for topic, key, row in asked}
        return [one.over(known.get((one.topic, one.key))) for one in found]

    def _divide(self, cursor: psycopg.Cursor, found: Sequence[Change]) -> None:
        """Put the rows of whole documents in the place of those that they had."""
        if not found:
            return
        cursor.execute(
            """delete from captured.items as i using unnest(%s::text[], %s::text[]) as o (topic, key)
               where (i.topic, i.key) = (o.topic, o.key)""",
            [[c.topic for c in found], [c.key for c in found]],
        )
        rows: dict[str, list[documents.Rows]] = {}
        for change in found:
            if change.row is None:
                continue
            divided = documents.flatten(json.loads(change.row))
            rows.setdefault(change.topic, []).append(divided)
            cursor.executemany(
                "insert into captured.items values (%s, %s, %s, %s::integer[], %s)",
                [
                    (change.topic, change.key, path, list(at), json.dumps(fields))
                    for (path, at), fields in divided.items()
                ],
            )
        for topic, of_topic in rows.items():
            self._fields.note(topic, of_topic)

    def _tidy(self) -> None:
        """Remove what only an earlier life of a connector has known, once all that the present one has said is here.

        A connector is heard when it has read its tables, not before.
        """
        for source, life in self._db.execute("select source, life from captured.lives where not whole").fetchall():
            topics = [topic for topic, _ in self._logs if changes.source_of(topic) == source]
            if not self._is_at_the_end(topics):
                continue
            with self._db.transaction():
                gone = 'topic = any(%s) and life collate "C" < %s collate "C"'
                self._db.execute(
                    f"""delete from captured.items as i using captured.rows as r
                        where (i.topic, i.key) = (r.topic, r.key) and r.{gone.replace("life", "r.life")}""",
                    [topics, life],
                )
                count = self._db.execute(f"delete from captured.rows where {gone}", [topics, life]).rowcount
                self._db.execute(
                    "update captured.lives set whole = true where (source, life) = (%s, %s)", [source, life]
                )
            if count:
                LOG.warning(
                    "%s is captured from the beginning: %s rows of before are not there any more", source, count
                )

    def _is_at_the_end(self, topics: Iterable[str]) -> bool:
        places = [place for place in self._next if place[0] in topics]
        return all(self._end(place) <= self._next[place] for place in places)

    def _end(self, place: tuple[str, int], cached: bool = False) -> int:
        return self._consumer.get_watermark_offsets(TopicPartition(*place), timeout=10, cached=cached)[1]

    def measure(self) -> None:
        """Say to Prometheus how late each source is here."""
        for source, heard in self._db.execute(
            "select source, extract(epoch from heard_at) from captured.lives"
        ).fetchall():
            HEARD.labels(source).set(float(heard))
        late: dict[str, int] = {}
        for place, offset in self._next.items():
            if source := changes.source_of(place[0]):
                late[source] = late.get(source, 0) + max(0, self._end(place, cached=True) - offset)
        for source, count in late.items():
            BEHIND.labels(source).set(count)


def _record(message: Any) -> Record:
    if message.error():
        raise KafkaException(message.error())
    place = (message.topic(), message.partition(), message.offset(), message.timestamp()[1])
    return Record(*place, message.key(), message.value(), message.headers() or [])


def _moment(heartbeat: Record) -> datetime:
    """Read when a heartbeat was written."""
    return datetime.fromtimestamp(heartbeat.timestamp / 1000, UTC)


def main(host: str = "127.0.0.1", port: int = 19311, kafka: str = "127.0.0.1:19092") -> None:
    """Bring captured changes into the warehouse until SIGTERM; /metrics and /health on HOST:PORT."""
    Changes(kafka).serve(host, port)


if __name__ == "__main__":
    typer.run(main)
