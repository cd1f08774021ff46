"""Taking data in so that nothing is lost and nothing counted twice: four patterns, each short enough to be read whole.

`fetch_all` walks a paged REST list with patience; `consume_with_dead_letters` sets aside what cannot be processed;
`insert_once` is the table that refuses to store the same thing twice; `merge_by_copy` is the batch that can run again.
Chapter 02 shows them, tests/faults breaks them.
"""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    import psycopg
    import requests
    from kafka import KafkaConsumer, KafkaProducer

Item = dict[str, Any]
LONGEST_PAUSE = 60.0
"""Seconds that a client waits for a rate limit before it rather gives up."""


# --- REST -------------------------------------------------------------------------------------------------------------


@dataclass
class Fetched:
    """What a walk over all pages came to.

    Attributes:
        items: the good ones by key, each once, in the order of their first arrival.
        rejected: (item, reason) of those that `check` refused.
        doubled: items that had come before.
        requests: how many were sent, retries included.
        retries: how often something was tried again, by cause: "429", "500", "timeout", "cut".
    """

    items: dict[Any, Item] = field(default_factory=dict)
    rejected: list[tuple[Item, str]] = field(default_factory=list)
    doubled: int = 0
    requests: int = 0
    retries: Counter[str] = field(default_factory=Counter)


class GaveUp(Exception):
    """A page did not come, however often it was asked for; the message says what came instead."""


# [START fetch_all]
def fetch_all(
    session: requests.Session,
    path: str,
    key: str,
    params: Mapping[str, Any] | None = None,
    check: Callable[[Item], str | None] = lambda _: None,
    attempts: int = 6,
    seconds: float = 5.0,
) -> Fetched:
    """Read every page of a list.

    Args:
        session: `clients.api()`, or any session that joins paths to an address.
        key: the field that tells two items apart.
        check: a reason to refuse an item, or None.
        attempts: requests for one page at most, however they end.
        seconds: how long one answer may take, body included.

    Raises:
        GaveUp: one page failed `attempts` times, or the service refused the request (4xx) or wants a long wait.
    """
    result, seen, cursor = Fetched(), set(), None
    while True:
        wanted = {"limit": 100, **(params or {})} | ({"cursor": cursor} if cursor else {})
        page = _page(session, path, wanted, result, attempts, seconds)
        for item in page["items"]:
            if item.get(key) in seen:
                result.doubled += 1
                continue
            seen.add(item.get(key))
            if reason := check(item):
                result.rejected.append((item, reason))
            else:
                result.items[item[key]] = item
        cursor = page["next_cursor"]
        if cursor is None:
            return result


# [END fetch_all]


# [START page]
def _page(
    session: requests.Session, path: str, params: Item, result: Fetched, attempts: int, seconds: float
) -> dict[str, Any]:
    """One page, asked for again after 429, 500 to 599, a time-out or a cut connection."""
    import requests

    cause = ""
    for attempt in range(attempts):
        if attempt:
            result.retries[cause.split()[0]] += 1
        result.requests += 1
        # Twice as long each time, and never the same for two clients: or they would all come back together.
        pause = min(0.1 * 2**attempt, 5) * random.uniform(0.5, 1)
        try:
            with session.get(path, params=params, timeout=seconds, stream=True) as answer:
                if answer.status_code == 200:
                    return json.loads(_body(answer, seconds))
                cause = f"{answer.status_code} {answer.reason}"
                if answer.status_code == 429:
                    pause = float(answer.headers.get("Retry-After", pause))
                    if pause > LONGEST_PAUSE:
                        raise GaveUp(f"GET {path}: {cause}: it asks to wait {pause:.0f} s")
                elif answer.status_code < 500:
                    raise GaveUp(f"GET {path}: {cause}: {answer.text[:200]}")
        except requests.Timeout:
            cause = f"timeout of {seconds} s"
        except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError):
            cause = "cut connection"
        if attempt < attempts - 1:
            time.sleep(pause)
    raise GaveUp(f"GET {path}: {attempts} attempts, the last one: {cause}")


def _body(answer: requests.Response, seconds: float) -> bytes:
    """The body, if it comes in time: the time-out of requests is for each read, and a body that drips passes it."""
    import requests

    end, body = time.monotonic() + seconds, b""
    for part in answer.iter_content(65536):
        body += part
        if time.monotonic() > end:
            raise requests.Timeout
    return body


# [END page]


# --- Kafka ------------------------------------------------------------------------------------------------------------


class BadRecord(ValueError):
    """A record that will never be processed, however often it is tried.

    Args:
        cause: a short code, the same for all records with this fault: "bad json".
        message: what exactly was wrong with this one.
    """

    def __init__(self, cause: str, message: str = "") -> None:
        super().__init__(f"{cause}: {message}" if message else cause)
        self.cause = cause


def decode_json(record: Any, fields: Mapping[str, type | tuple[type, ...]], max_bytes: int = 1_000_000) -> Item:
    """The value of a record as a dict that has these fields with these types.

    Raises:
        BadRecord: "null key", "too large", "bad json" or "wrong schema".
    """
    if record.key is None:
        raise BadRecord("null key", "the key says which partition, and so which order")
    if record.value is not None and len(record.value) > max_bytes:
        raise BadRecord("too large", f"{len(record.value)} bytes, {max_bytes} allowed")
    try:
        value = json.loads(record.value or b"")
    except ValueError as error:
        raise BadRecord("bad json", str(error)) from None
    if not isinstance(value, dict):
        raise BadRecord("wrong schema", f"a {type(value).__name__} instead of an object")
    for name, kind in fields.items():
        # In Python True is an int; in data it is not.
        if not isinstance(value.get(name), kind) or isinstance(value.get(name), bool):
            raise BadRecord("wrong schema", f"{name} is {value.get(name)!r}")
    return value


@dataclass
class Consumed:
    """Records handled, and set aside by cause."""

    delivered: int = 0
    dead: Counter[str] = field(default_factory=Counter)


# [START dead_letters]
def consume_with_dead_letters(
    consumer: KafkaConsumer,
    producer: KafkaProducer,
    dead_letter_topic: str,
    handle: Callable[[Any], None],
    idle_seconds: float = 5.0,
) -> Consumed:
    """Hand each record to `handle`; set aside, with the cause, what it refuses with BadRecord.

    A dead letter keeps key, value and headers byte for byte, and gets five headers more. Offsets are committed after a
    batch was handled and its dead letters were acknowledged: at least once. Ends after `idle_seconds` with no record.
    """
    done = Consumed()
    while batches := consumer.poll(timeout_ms=int(idle_seconds * 1000)):
        sent = []
        for record in (record for batch in batches.values() for record in batch):
            try:
                handle(record)
                done.delivered += 1
            except BadRecord as bad:
                headers = [*record.headers, *_why(record, bad)]
                sent.append(producer.send(dead_letter_topic, key=record.key, value=record.value, headers=headers))
                done.dead[bad.cause] += 1
        for letter in sent:
            letter.get(timeout=30)  # raises when the broker did not take it: then nothing is committed
        consumer.commit()
    return done


def _why(record: Any, bad: BadRecord) -> list[tuple[str, bytes]]:
    about = {"topic": record.topic, "partition": record.partition, "offset": record.offset}
    about |= {"cause": bad.cause, "message": str(bad)}
    return [(f"error.{name}", str(value).encode()) for name, value in about.items()]


# [END dead_letters]


# --- PostgreSQL -------------------------------------------------------------------------------------------------------


# [START insert_once]
def insert_once(db: psycopg.Connection, table: str, rows: Sequence[Mapping[str, Any]], key: str) -> int:
    """Insert rows; one whose key is there already changes nothing.

    Args:
        table: "schema.table", with a primary key or unique constraint on `key`.
        rows: column -> value, all with the same columns.

    Returns:
        How many rows were new.
    """
    from psycopg import sql

    if not rows:
        return 0
    columns = list(rows[0])
    statement = sql.SQL("insert into {} ({}) values ({}) on conflict ({}) do nothing").format(
        sql.Identifier(*table.split(".")),
        sql.SQL(", ").join(map(sql.Identifier, columns)),
        sql.SQL(", ").join(map(sql.Placeholder, columns)),
        sql.Identifier(key),
    )
    with db.cursor() as cursor:
        cursor.executemany(statement, rows)
        return cursor.rowcount


# [END insert_once]


# [START merge_by_copy]
def merge_by_copy(db: psycopg.Connection, table: str, rows: pd.DataFrame, key: str) -> dict[str, int]:
    """Bring rows into a table by COPY: new keys are inserted, changed rows replaced, equal ones left alone.

    All or nothing, within the transaction of `db`.

    Args:
        table: "schema.table", with a primary key or unique constraint on `key` and at least one other column.
        rows: columns named like the table's, each key once; missing values become null.

    Returns:
        How many were "new", "changed" and "same".
    """
    from psycopg import sql

    target, columns = sql.Identifier(*table.split(".")), [sql.Identifier(name) for name in rows.columns]
    others = [sql.Identifier(name) for name in rows.columns if name != key]
    listed, values = sql.SQL(", ").join(columns), rows.astype(object).where(rows.notna(), None)
    parts = {
        "target": target,
        "columns": listed,
        "key": sql.Identifier(key),
        "set": sql.SQL(", ").join(sql.SQL("{0} = excluded.{0}").format(name) for name in others),
        "old": sql.SQL(", ").join(sql.SQL("t.{}").format(name) for name in others),
        "new": sql.SQL(", ").join(sql.SQL("excluded.{}").format(name) for name in others),
    }
    with db.transaction(), db.cursor() as cursor:
        cursor.execute("drop table if exists pg_temp.incoming")
        shape = "create temp table incoming on commit drop as select {columns} from {target} with no data"
        cursor.execute(sql.SQL(shape).format(**parts))
        with cursor.copy(sql.SQL("copy incoming ({columns}) from stdin").format(**parts)) as copy:
            for row in values.itertuples(index=False, name=None):
                copy.write_row(row)
        merge = """insert into {target} as t ({columns}) select {columns} from incoming
            on conflict ({key}) do update set {set} where ({old}) is distinct from ({new})
            returning xmax = 0"""  # xmax is 0 in a row that was not there before
        done = [new for (new,) in cursor.execute(sql.SQL(merge).format(**parts))]
    return {"new": sum(done), "changed": len(done) - sum(done), "same": len(rows) - len(done)}


# [END merge_by_copy]
