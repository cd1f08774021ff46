"""What Kafka Connect has captured, record by record: whose row it is, where it stands in the log, what it is now.

    cdc.shop.public.orders      a topic for each table or collection that is captured
    cdc.heartbeat.cdc.shop      every five seconds: the connector lives, and has read so far

A record comes at least once: a connector that was killed begins again a little before its end. So a row has a place, by
which an older change is known beside a newer one:

- its connector's `life`: when that one began to read the tables (`flow360.ingestion.connect`), a header of each record.
  It begins again where its place in the log is lost, and what was deleted in between, nobody will hear of.
- its `position` in the log of that database; () for a row that was read as it was, before all changes of that life.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from flow360 import clients
from flow360.ingestion.dead_letters import BadRecord
from flow360.ingestion.topics import Record

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

SOURCES = ("shop", "fleet", "catalogue")
"""The databases that stack/kafka-connect captures; the topics of each begin with `cdc.NAME.`."""
DOCUMENTS = ("catalogue",)
"""Those of them that hold documents: a row is a whole one, with lists in it."""
HEARTBEATS = {f"cdc.heartbeat.cdc.{name}": name for name in SOURCES}
"""Topic -> whose connector it tells of."""
FOLDER = "/raw/changes"
"""Where the lake keeps all of them: log=CLUSTER/day=2026-05-07/…, as flow360/ingestion/readings.py lays it out."""
NOT_SENT = "__debezium_unavailable_value"
"""What PostgreSQL's connector says of a long value that a change has left alone: the log does not have it."""
LIFE = "life"
"""The header in which a connector's life stands."""


@dataclass(frozen=True, slots=True)
class Change:
    """What became of one row.

    Attributes:
        topic, partition, offset: where it stands in Kafka.
        key: the row's key, JSON as the connector writes it.
        life, position: where it stands in its database's log; of two changes of a key the greater one is newer.
        at: when the database committed it.
        row: the row as it is now, JSON; None if it is gone.

    Where a table was emptied at once (`truncate`), the key is "": all rows that stand before it are gone. Such a record
    may lie in any of the topic's partitions.
    """

    topic: str
    partition: int
    offset: int
    key: str
    life: str
    position: tuple[int, ...]
    at: datetime
    row: str | None

    @property
    def place(self) -> tuple[str, tuple[int, ...]]:
        """Where it stands in the log, as it is compared."""
        return self.life, self.position

    def over(self, earlier: str | None) -> Change:
        """Fill in what was not sent out of the row as it was before."""
        if not earlier or not self.row or NOT_SENT not in self.row:
            return self
        before, now = json.loads(earlier), json.loads(self.row)
        return replace(self, row=_json({k: before.get(k) if v == NOT_SENT else v for k, v in now.items()}))


def _json(row: Mapping[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False, separators=(",", ":"))


def source_of(topic: str) -> str:
    """Name the database that a topic's rows are of; "" for any other topic, a heartbeat among them."""
    parts = topic.split(".")
    return parts[1] if len(parts) >= 4 and parts[0] == "cdc" and parts[1] in SOURCES else ""


def table_of(topic: str) -> str:
    """Name the table or collection that a topic's rows are of."""
    return topic.split(".", 3)[3]


def life_of(record: Record) -> str:
    """Read the life of the connector that has written a record: when it began, UTC; "" if it does not say."""
    said = dict(record.headers).get(LIFE)
    return said.decode("utf-8", "replace") if said else ""


def read(record: Record) -> Change | None:
    """Read a record of a captured table; None for the tombstone behind a delete, which says nothing more.

    Raises:
        BadRecord: it is none that a connector writes, and why.
    """
    if record.value is None:
        return None
    try:
        said = json.loads(record.value, parse_constant=str)  # NaN
        source, after, emptied = said["source"], said["after"], said["op"] == "t"
        key = "" if emptied else record.key.decode("utf-8")
        if not emptied:
            json.loads(key)
        whole = source_of(record.topic) in DOCUMENTS
        row = after if after is None else _document(after) if whole else _json(after)
        at = datetime.fromtimestamp(source["ts_ms"] / 1000, UTC)
        position = () if said["op"] == "r" else _position(source)
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError, OverflowError) as error:
        raise BadRecord("not a change", f"{type(error).__name__}: {error}") from None
    return Change(record.topic, record.partition, record.offset, key, life_of(record), position, at, row)


def _document(text: str) -> str:
    """Read a document as the connector writes it; NaN and its like, which JSON does not have, in MongoDB's words."""
    strange: list[str] = []

    def plain(name: str) -> dict[str, str]:
        strange.append(name)
        return {"$numberDouble": name}

    document = json.loads(text, parse_constant=plain)
    return _json(document) if strange else text


def _position(source: Mapping[str, Any]) -> tuple[int, ...]:
    """Read where a change stands in the log: PostgreSQL's, MySQL's, or MongoDB's."""
    if "lsn" in source:
        return (source["lsn"],)
    if "file" in source:  # binlog.000002; one statement may change several rows
        return int(source["file"].rpartition(".")[2]), source["pos"], source["row"] or 0
    return source["ts_ms"], source["ord"]


def newest(changes: Iterable[Change]) -> list[Change]:
    """Keep of each row the change that stands last in the log, or was written last where two stand at one place."""
    found: dict[tuple[str, str], Change] = {}
    for change in changes:
        known = found.get((change.topic, change.key))
        if known is None or change.place >= known.place:
            found[change.topic, change.key] = change.over(known.row) if known else change
    return list(found.values())


# [START take_changes]
def take_changes(spark: SparkSession, folder: str = FOLDER, bootstrap: str = "") -> int:
    """Land what has been captured since the last time in the lake's raw zone, each record once, as it came.

    As `readings.take_readings` does it, but all topics in one log: its name is the cluster's id, which is another one
    after `flow360 reset kafka`.

    Args:
        bootstrap: host:port of Kafka for this process; if nothing is said, the one that Spark's executors reach.

    Returns:
        The records that it has landed; 0 where nothing is captured.

    Raises:
        FlowError: Kafka is down, or it took too long.
        PySparkException: Spark or the lake broke off, or a topic was made again. The next call goes on from there.
    """
    from flow360.ingestion.readings import take
    from flow360.monitoring import lineage

    with clients.kafka_admin(bootstrap_servers=bootstrap or spark.conf.get("spark.flow360.kafka")) as admin:
        topics = [name for name in admin.list_topics() if source_of(name)]
        cluster = admin.describe_cluster()["cluster_id"]
    if not topics:
        return 0
    pattern = rf"cdc\.({'|'.join(SOURCES)})\.[^.]+\..+"
    with lineage.run("night.changes", map(lineage.topic, topics), to=lineage.raw("changes")) as job:
        options = {"subscribePattern": pattern, "includeHeaders": "true"}
        count = take(spark, options, folder, cluster, ["topic", "headers"])
        job.wrote(lineage.raw("changes"), rows=count)
    return count


# [END take_changes]
