"""alarms-sink: the cold-chain alarms out of Kafka into the warehouse, each once, and a number for the pager.

`python -m flow360.processing.alarms --kafka 127.0.0.1:19092`

    vans.alarms        key: van; what flow360/processing/streams/cold_chain.py reports, and nobody else
    ops.alarms         one row per van and moment since when it was too warm
    vans.alarms.dead   what is not such an alarm, with the cause in its headers

A run that begins with `lesson-` is of a van that exists in a lesson only (flow360/primeur/vans): it is counted and goes
no further, so the table and the pager know of the fleet alone.

The key decides: a day that is replayed, in another run or twice, reports the same alarm again and finds its row. Kafka
learns how far we are after the warehouse has committed: killed in between, the sink is given the record again, and
finds its row, too.

An alarm is open until somebody closes it (`CLOSE`); as long, `primeur_alarms_open` is not 0, and somebody is paged.

The sink makes schema `ops` itself, as the role `warehouse`, which owns it as it owns all of the warehouse; nobody else
is granted anything. In a container POSTGRES_DWH_HOST names the host.
"""

from __future__ import annotations

import logging
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Any

import psycopg
import typer
from kafka.errors import KafkaError
from prometheus_client import Counter, Gauge

from flow360 import clients
from flow360.ingestion.dead_letters import BadRecord, consume_with_dead_letters, decode_json
from flow360.ingestion.loading import insert_once
from flow360.ingestion.topics import make_topics
from flow360.monitoring import lineage
from flow360.primeur.contract import contract
from flow360.primeur.vans import EXERCISE
from flow360.processing.sink import Sink, warehouse

if TYPE_CHECKING:
    from kafka import KafkaConsumer

ALARMS, DEAD = "vans.alarms", "vans.alarms.dead"
NAME = "alarms-sink"
"""The service, its group, and its one member: known by name, it comes back after a kill without waiting."""
LOG = logging.getLogger(NAME)
IDLE_SECONDS = 1.0
"""So often the open alarms are counted while no new one comes."""
TABLE = "ops.alarms"
KEY = ("van_id", "since")
DDL = """
create schema if not exists ops;
comment on schema ops is 'What operations must know and do something about.';
create table if not exists ops.alarms (
    van_id text not null,
    since timestamptz not null,
    reported_at timestamptz not null,
    celsius double precision not null,
    route_id bigint,
    city text,
    run text,
    kafka_partition integer not null,
    kafka_offset bigint not null,
    recorded_at timestamptz not null default clock_timestamp(),
    closed_at timestamptz,
    primary key (van_id, since)
);
do $$ begin  -- a table of an older version
    if exists (select from information_schema.columns
               where (table_schema, table_name, column_name) = ('ops', 'alarms', 'told_at')) then
        alter table ops.alarms rename told_at to reported_at;
    end if;
end $$;
comment on table ops.alarms is 'One row per van and moment since when its cold room was above 8 °C for five minutes.';
"""
CLOSE = "update ops.alarms set closed_at = now() where van_id = %s and closed_at is null"
OPEN = "select van_id, count(*) filter (where closed_at is null) from ops.alarms group by van_id"

ALARMS_OPEN = Gauge("primeur_alarms_open", "Alarms in ops.alarms that nobody has closed", ["van_id"])
RECORDS = Counter(
    "alarms_sink_records", "Records taken: new in the table, known there, a lesson's exercise, or dead", ["outcome"]
)


# [START alarm]
def alarm(record: Any) -> dict[str, Any]:
    """Read the row of a record.

    Raises:
        BadRecord: it is not an alarm, and why.
    """
    value = decode_json(record, {})
    row, why = contract("vans_alarms").judge({**value, "van_id": record.key.decode("utf-8", "replace")})
    if row is None:
        raise BadRecord("wrong schema", why)
    known = {name: row.get(name) for name in contract("vans_alarms").columns}
    return {**known, "kafka_partition": record.partition, "kafka_offset": record.offset}


# [END alarm]


class Alarms(Sink):
    """The service.

    Args:
        kafka: host:port of Kafka.
        topic: where the alarms come from.
        dead: where what is not an alarm goes.
        group: the consumer group; its one member has the same name.
    """

    name = NAME
    away = (*Sink.away, KafkaError)

    def __init__(self, kafka: str, topic: str = ALARMS, dead: str = DEAD, group: str = NAME) -> None:
        super().__init__()
        self._kafka, self._topic, self._dead, self._group = kafka, topic, dead, group
        self._vans: set[str] = set()
        self._table = lineage.warehouse(TABLE)
        self._carrier = lineage.Carrier(NAME, lineage.topic(topic), to=(self._table, lineage.topic(dead)))

    def _work(self) -> None:
        make_topics(self._kafka, [self._topic, self._dead])
        with warehouse() as db, closing(self._consumer()) as consumer:
            db.execute(DDL)
            with closing(clients.producer(bootstrap_servers=self._kafka)) as producer:
                while not self._stop.is_set():
                    self._count_open(db)
                    # The group may still wait for a member of before; until then nothing comes.
                    self._problem = "" if consumer.assignment() else "the group has not formed yet"
                    done = consume_with_dead_letters(
                        consumer, producer, self._dead, partial(self._store, db), IDLE_SECONDS
                    )
                    if dead := sum(done.dead.values()):
                        RECORDS.labels("dead").inc(dead)
                        self._carrier.wrote(lineage.topic(self._dead), dead)

    def _close(self) -> None:
        self._carrier.close()

    def _store(self, db: psycopg.Connection, record: Any) -> None:
        row = alarm(record)
        if (row["run"] or "").startswith(EXERCISE):
            RECORDS.labels("exercise").inc()
            return
        with db.transaction():
            new = insert_once(db, TABLE, [row], KEY)
        RECORDS.labels("new" if new else "known").inc()
        self._carrier.read(lineage.topic(self._topic))
        if new:
            self._carrier.wrote(self._table)
            since = f"{row['since']:%Y-%m-%d %H:%M %Z}"
            about = {"van_id": row["van_id"], "run_id": row["run"]}
            LOG.warning("alarm: %s since %s, %s °C", row["van_id"], since, row["celsius"], extra=about)
            self._count_open(db)

    def _count_open(self, db: psycopg.Connection) -> None:
        """Count for Prometheus: 0 for a van whose alarms are all closed, nothing for one that has no row any more."""
        found = dict(db.execute(OPEN).fetchall())
        for van, count in found.items():
            ALARMS_OPEN.labels(van).set(count)
        for van in self._vans - set(found):
            ALARMS_OPEN.remove(van)
        self._vans = set(found)

    def _consumer(self) -> KafkaConsumer:
        return clients.consumer(
            self._topic,
            bootstrap_servers=self._kafka,
            group_id=self._group,
            group_instance_id=self._group,
            isolation_level="read_committed",  # what Kafka Streams took back was never reported
            enable_auto_commit=False,
            max_poll_records=100,
            session_timeout_ms=10_000,
            heartbeat_interval_ms=2_000,
        )


def main(host: str = "127.0.0.1", port: int = 19310, kafka: str = "127.0.0.1:19092") -> None:
    """Bring alarms into the warehouse until SIGTERM; /metrics and /health on HOST:PORT."""
    Alarms(kafka).serve(host, port)


if __name__ == "__main__":
    typer.run(main)
