"""How hops ask the databases, the lake and Prometheus: as `clients` does, with less patience."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.rows import namedtuple_row

from flow360 import clients
from flow360.clients import metrics  # noqa: F401 - it takes pandas with it, which must not cost a hop its seconds
from flow360.clients.search import Refused
from flow360.ingestion.topics import NoSuchTopic, read_all
from flow360.monitoring.logs import LOGS
from flow360.primeur.clock import PARIS
from flow360.trace.way import SECONDS, NotThere, Place
from flow360.waiting import patient

if TYPE_CHECKING:
    from flow360.clients.webhdfs import Lake

LINES = 20
"""So many lines of the logs are shown of a thing."""
WRITTEN = "pg_xact_commit_timestamp({}xmin)"
"""When PostgreSQL committed a row as it stands now; null for one that is older than its memory of it."""


def rows(which: str, query: str, *params: Any) -> list[Any]:
    """Ask one question of "source" or "warehouse", and return the rows.

    Raises:
        NotThere: its table has not been made yet.
        FlowError: the server is down.
    """
    limits = {"connect_timeout": 2, "options": f"-c statement_timeout={patient(SECONDS):g}s"}
    with clients.postgres(which, row_factory=namedtuple_row, **limits) as db:
        try:
            return db.execute(query, params).fetchall()
        except psycopg.errors.UndefinedTable:
            db.rollback()
            raise NotThere("its table is not made yet") from None


def fleet_rows(query: str, *params: Any) -> list[dict[str, Any]]:
    """Ask one question of the fleet's database, and return the rows by the names of their columns.

    Raises:
        NotThere: its table has not been made yet.
        FlowError: the server is down.
    """
    import pymysql
    from pymysql.constants import ER

    limits = {"connect_timeout": 2, "read_timeout": patient(SECONDS), "cursorclass": pymysql.cursors.DictCursor}
    with clients.mysql(**limits) as db, db.cursor() as cursor:
        try:
            cursor.execute(query, params)
        except pymysql.ProgrammingError as error:
            if error.args[0] == ER.NO_SUCH_TABLE:
                raise NotThere("its table is not made yet") from None
            raise
        return list(cursor.fetchall())


def documents(collection: str, wanted: dict[str, Any]) -> list[dict[str, Any]]:
    """Find documents of the catalogue.

    Raises:
        FlowError: the server is down.
    """
    limits = dict.fromkeys(("serverSelectionTimeoutMS", "connectTimeoutMS"), 2000)
    with clients.mongodb(**limits, socketTimeoutMS=int(patient(SECONDS) * 1000)) as client:
        return list(client.catalogue[collection].find(wanted))


def captured(topic: str, key: str) -> list[Place]:
    """Find a captured row in the warehouse: out of which record, and how late.

    Args:
        key: as the connector writes it.

    Raises:
        NotThere: nothing was captured yet.
        FlowError: the server is down.
    """
    found = rows("warehouse", "select * from captured.rows where (topic, key) = (%s, %s)", topic, key)
    return [
        Place(
            f"captured.rows, {topic} {key}",
            ("" if row.row else "deleted, ")
            + f"out of partition {row.kafka_partition}, offset {row.kafka_offset}, "
            + f"{(row.recorded_at - row.changed_at).total_seconds():.2f} s after its commit",
            row.recorded_at,
        )
        for row in found
    ]


def lake() -> Lake:
    """Open HDFS, with little time for each answer."""
    return clients.lake(seconds=patient(SECONDS))


def days_of(fs: Lake, folder: str, key: str, known: list[date] | None) -> list[date]:
    """List the days of a zone in which to look: those that are known of the thing, else all that are there.

    Args:
        folder: whose subfolders are named `KEY=2026-05-07`.
    """
    if not fs.exists(folder):
        return []
    names = [one["name"].rpartition("/")[2] for one in fs.ls(folder, detail=True)]
    there = [date.fromisoformat(name.removeprefix(f"{key}=")) for name in names if name.startswith(f"{key}=")]
    return sorted(day for day in there if known is None or day in known)


def landed_at(fs: Lake, folder: str) -> datetime | None:
    """Say when the last file of a folder was written, by HDFS."""
    times = [one["modificationTime"] for one in fs.ls(folder, detail=True) if one["type"] != "directory"]
    return datetime.fromtimestamp(max(times) / 1000, UTC) if times else None


def changes(topic: str, column: str, keys: Iterable[Any], shown: Callable[[dict[str, Any]], str]) -> list[Place]:
    """Find the changes of some rows that a connector has brought: place in its topic and in the database's log.

    Args:
        column: the table's key. keys: those of the rows.
        shown: what of the row as it was then is of interest.

    Raises:
        NotThere: the connector has brought nothing yet.
        FlowError: the broker is down.
    """
    mine, found = {json.dumps({column: key}, separators=(",", ":")).encode() for key in keys}, []
    with topics():
        records = read_all(topic, seconds=patient(SECONDS))
    for record in records:
        if record.key not in mine or record.value is None:  # another row, or the tombstone behind a delete
            continue
        change = json.loads(record.value)
        source = change["source"]
        what = _DONE[change["op"]] + (f", {shown(change['after'])}" if change["after"] else "")
        log = _in_log(source)
        late = (record.timestamp - source["ts_ms"]) / 1000
        since = "" if change["op"] == "r" else f", {late:.2f} s after its commit"
        found.append(
            Place(
                f"{topic}, partition {record.partition}, offset {record.offset}",
                f"{what}, {log}{since}",
                datetime.fromtimestamp(record.timestamp / 1000, UTC),
            )
        )
    return found


def _in_log(source: dict[str, Any]) -> str:
    """Say where a change stands in the log of its database."""
    if "lsn" in source:
        return f"LSN {source['lsn']}"
    return f"{source['file']} at {source['pos']}" if "file" in source else f"number {source['ord']} of its second"


_DONE = {"r": "read as it was", "c": "inserted", "u": "updated", "d": "deleted"}


@contextmanager
def topics() -> Iterator[None]:
    """Take a topic that has not been made yet, within the block, for one that does not hold the thing."""
    try:
        yield
    except NoSuchTopic as error:
        raise NotThere(f"there is no topic {error.message.partition(':')[0]}") from None


def lines(*conditions: dict[str, Any]) -> list[Place]:
    """Find lines of the logs that meet conditions of the search engine's: the first, each with its service and moment.

    Raises:
        NotThere: no line was ever brought.
        FlowError: the search engine is down.
    """
    query = {"query": {"bool": {"filter": list(conditions)}}, "sort": ["@timestamp"], "size": LINES}
    try:
        found = clients.search().get(f"/{LOGS}/_search", json=query, timeout=patient(SECONDS)).json()["hits"]["hits"]
    except Refused as error:
        if error.status == 404:
            raise NotThere("there is no index of the logs yet") from None
        raise
    return [_line(one["_index"], one["_source"]) for one in found]


def _line(index: str, line: dict[str, Any]) -> Place:
    file = line["log"]["file"]["path"].rpartition("/")[2]
    level = line["log"].get("level", "no level")
    where = f"{index}, {line['service']['name']}: {file} at {line['log'].get('offset', '?')}"
    return Place(where, f"{level} {line['message']}"[:160], datetime.fromisoformat(line["@timestamp"]))


def panels(metric: str) -> str:
    """Join the titles of the panels that show a metric, as Grafana's JSON has them."""
    from flow360.monitoring.dashboards import read

    shown = [
        panel["title"]
        for panel in read("primeur")["panels"]
        if any(metric in target.get("expr", "") for target in panel.get("targets", ()))
    ]
    return " and ".join(f"panel “{title}”" for title in shown)


def paris(moment: datetime) -> str:
    """Write a moment for people in Paris, to the minute."""
    return f"{moment.astimezone(PARIS):%Y-%m-%d %H:%M}"
