"""Taking data in so that nothing is lost and nothing counted twice: four patterns, each short enough to be read whole.

`fetch_all` walks a paged REST list with patience; `consume_with_dead_letters` sets aside what cannot be processed;
`insert_once` is the table that refuses to store the same thing twice; `merge_by_copy` is the batch that can run again.
Chapter 02 shows them, tests/faults breaks them.
"""

from __future__ import annotations

import hashlib
import json
import random
import reprlib
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from flow360 import clients
from flow360.errors import FlowError
from flow360.primeur.intake import parse_finite

if TYPE_CHECKING:
    import pandas as pd
    import psycopg
    import requests
    from kafka import KafkaConsumer, KafkaProducer

Item = dict[str, Any]
LONGEST_PAUSE = 60.0
"""Seconds that a client waits for a rate limit at most; asked for more, it gives up."""
WHOLE = ("smallint", "integer", "bigint")


# --- REST -------------------------------------------------------------------------------------------------------------


@dataclass
class Fetched:
    """What a walk over all pages came to.

    Attributes:
        items: the good ones by key, each once, in the order of their first arrival.
        rejected: (item, reason) of those that `check` refused, or that have no key.
        doubled: items that had come before.
        requests: how many were sent, retries included.
        retries: how often something was tried again, by cause: "429", "500", "timeout", "cut", "200" (no page in it).
    """

    items: dict[Any, Item] = field(default_factory=dict)
    rejected: list[tuple[Item, str]] = field(default_factory=list)
    doubled: int = 0
    requests: int = 0
    retries: Counter[str] = field(default_factory=Counter)


class GaveUp(FlowError):
    """A page did not come, however often it was asked for, or the pages do not end; the message says what came."""


# [START fetch_all]
def fetch_all(
    session: requests.Session,
    path: str,
    key: str,
    params: Mapping[str, Any] | None = None,
    check: Callable[[Item], str | None] = lambda _: None,
    attempts: int = 6,
    seconds: float = 5.0,
    pages: int = 10_000,
) -> Fetched:
    """Read every page of a list.

    Args:
        session: `clients.api()`, or any session that joins paths to an address.
        key: the field that distinguishes two items.
        check: a reason to refuse an item, or None; what it raises is a reason, too.
        attempts: requests for one page at most, however they end.
        seconds: how long one answer may take, body included.
        pages: so many at most.

    Raises:
        GaveUp: one page failed `attempts` times, the service refused the request (4xx) or wants a long wait, or its
            pages have no end: a cursor that is empty or came before, or more than `pages` of them.
    """
    result, seen = Fetched(), set()
    for page, _ in walk(session, path, params, result, attempts, seconds, pages):
        for item in page["items"]:
            number = item.get(key) if isinstance(item, dict) else None
            if not isinstance(number, str | int | float):
                result.rejected.append((item, f"no {key}"))
                continue
            if number in seen:
                result.doubled += 1
                continue
            seen.add(number)
            if reason := _judged(check, item):
                result.rejected.append((item, reason))
            else:
                result.items[number] = item
    return result


def walk(
    session: requests.Session,
    path: str,
    params: Mapping[str, Any] | None = None,
    result: Fetched | None = None,
    attempts: int = 6,
    seconds: float = 5.0,
    pages: int = 10_000,
) -> Iterator[tuple[dict[str, Any], bytes]]:
    """Follow the bookmarks of a list from its first page to its last: each page, parsed, and its bytes as they came.

    Args:
        result: where requests and retries are counted.

    Raises:
        GaveUp: as `fetch_all`.
    """
    result, cursors, cursor = result or Fetched(), set(), None
    for _ in range(pages):
        wanted = {"limit": 100, **(params or {})} | ({} if cursor is None else {"cursor": cursor})
        page, body = _page(session, path, wanted, result, attempts, seconds)
        yield page, body
        cursor = page["next_cursor"]
        if cursor is None:
            return
        if cursor == "" or not isinstance(cursor, str | int):
            raise GaveUp(f"GET {path}: next_cursor is {reprlib.repr(cursor)}: neither a bookmark nor the end (null)")
        if cursor in cursors:
            raise GaveUp(f"GET {path}: next_cursor is {reprlib.repr(cursor)} once more: the walk would never end")
        cursors.add(cursor)
    raise GaveUp(f"GET {path}: no end after {pages:,} pages, the last next_cursor is {reprlib.repr(cursor)}")


def _judged(check: Callable[[Item], str | None], item: Item) -> str | None:
    try:
        return check(item)
    except Exception as error:  # noqa: BLE001 - an item that the check stumbles over is not a good one
        return f"{type(error).__name__}: {error}"


# [END fetch_all]


# [START page]
def _page(
    session: requests.Session, path: str, params: Item, result: Fetched, attempts: int, seconds: float
) -> tuple[dict[str, Any], bytes]:
    """One page and its bytes; asked for again after 429, 500 to 599, a time-out, a cut connection, or no page."""
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
                body = _body(answer, seconds)
        except requests.Timeout:
            cause = f"timeout of {seconds} s"
        except requests.RequestException as error:
            cause = f"cut connection ({type(error).__name__})"
        else:
            said = " ".join(body.decode("utf-8", "replace").split())[:200]
            if answer.status_code == 200:
                if page := _parsed(body):
                    return page, body
                cause = f"200 without items and next_cursor: {said or 'an empty body'}"
            else:
                cause = f"{answer.status_code} {answer.reason}"
                if answer.status_code != 429 and answer.status_code < 500:
                    raise GaveUp(f"GET {path}: {cause}: {said}")
                pause = max(pause, _asked_to_wait(answer))
                if pause > LONGEST_PAUSE:
                    raise GaveUp(f"GET {path}: {cause}: it asks to wait {pause:.0f} s")
        if attempt < attempts - 1:
            time.sleep(pause)
    raise GaveUp(f"GET {path}: {attempts} attempts, the last one: {cause}")


def _parsed(body: bytes) -> dict[str, Any] | None:
    """The page, or None for HTML, half a body, an error with a good status, and whatever else is not a page."""
    try:
        page = json.loads(body)
        return page if isinstance(page["items"], list) and "next_cursor" in page else None
    except Exception:  # noqa: BLE001 - a parser has many ways to refuse: ValueError, TypeError, RecursionError …
        return None


def _asked_to_wait(answer: requests.Response) -> float:
    """Seconds that Retry-After asks for, as a number or as a date; 0 when it says nothing that can be done."""
    from urllib3.exceptions import InvalidHeader
    from urllib3.util import Retry

    try:
        return Retry().parse_retry_after(answer.headers.get("Retry-After", "0"))
    except (InvalidHeader, ValueError, OverflowError):
        return 0.0


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
        value = parse_finite((record.value or b"").decode("utf-8"))
    except Exception as error:  # noqa: BLE001 - not ValueError alone: brackets nested too deep are a RecursionError
        raise BadRecord("bad json", str(error)) from None
    if not isinstance(value, dict):
        raise BadRecord("wrong schema", f"a {type(value).__name__} instead of an object")
    for name, kind in fields.items():
        # In Python True is an int; in data it is not.
        if not isinstance(value.get(name), kind) or isinstance(value.get(name), bool):
            raise BadRecord("wrong schema", f"{name} is {reprlib.repr(value.get(name))}")
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
    """Hand each record to `handle`; set aside, with the cause, what it cannot process.

    That is what it refuses with BadRecord, and whatever else it raises, such as a value that a table does not take. An
    error of the outside (a network, a broker, a database that is away) or a name that does not exist is not the
    record's fault and comes through: nothing of the batch is committed then. Offsets are committed after a batch was
    handled and its dead letters were acknowledged: at least once. Ends after `idle_seconds` with no record.
    """
    import psycopg
    from kafka.errors import KafkaError

    outside = (OSError, FlowError, KafkaError, psycopg.Error, NameError)
    done, room = Consumed(), 0
    while batches := consumer.poll(timeout_ms=int(idle_seconds * 1000)):
        for record in (record for batch in batches.values() for record in batch):
            try:
                handle(record)
                done.delivered += 1
            except Exception as error:  # or the record would end every consumer that comes after us
                if isinstance(error, outside) and not isinstance(error, psycopg.DataError | psycopg.IntegrityError):
                    raise
                cause = error.cause if isinstance(error, BadRecord) else type(error).__name__
                room = room or _room(producer, dead_letter_topic)
                letter = _letter(record, cause, str(error) or cause, room)
                producer.send(dead_letter_topic, **letter).get(timeout=30)  # raises when the broker did not take it
                done.dead[cause] += 1
        consumer.commit()
    return done


def _letter(record: Any, cause: str, message: str, room: int) -> Item:
    """The dead letter of a record: its key, value and headers byte for byte, and seven headers more.

    Where that is more than `room` bytes, key and value are cut and the record's own headers left out: `error.bytes` and
    `error.sha256` are those of the whole value, which still is where topic, partition and offset say.
    """
    value = record.value or b""
    about = {"topic": record.topic, "partition": record.partition, "offset": record.offset, "cause": cause}
    about |= {"message": message, "bytes": len(value), "sha256": hashlib.sha256(value).hexdigest()}
    why = error_headers(about, min(500, room // 8))
    # What kafka-python does not send: a header without a value, a record with neither key nor value.
    headers = [(name, said or b"") for name, said in record.headers] + why
    whole = {"key": record.key, "value": value if record.key is None else record.value, "headers": headers}
    if _size(**whole) <= room:
        return whole
    cut = {"key": record.key and record.key[:100], "value": b"", "headers": why}
    return {**cut, "value": value[: max(0, room - _size(**cut))]}


def error_headers(about: Mapping[str, Any], longest: int = 500) -> list[tuple[str, bytes]]:
    """What is known of a fault as the headers of a dead letter, `error.cause` …, of so many characters at most."""
    return [(f"error.{name}", str(said)[:longest].encode("utf-8", "backslashreplace")) for name, said in about.items()]


def _size(key: bytes | None, value: bytes | None, headers: list[tuple[str, bytes]]) -> int:
    """An upper bound for what a record takes in a message of its own; the protocol's numbers have 10 bytes at most."""
    return 150 + len(key or b"") + len(value or b"") + sum(20 + len(name.encode()) + len(v) for name, v in headers)


def _room(producer: KafkaProducer, topic: str) -> int:
    """The largest message, in bytes, that both the producer and the topic take.

    Asked beforehand: after the broker has refused a message, an idempotent producer sends nothing any more.
    """
    from kafka.admin import ConfigFilterType, ConfigResource

    with clients.kafka_admin(bootstrap_servers=producer.config["bootstrap_servers"]) as admin:
        found = admin.describe_configs([ConfigResource("topic", topic)], config_filter=ConfigFilterType.ALL)
    return min(producer.config["max_request_size"], int(found["topic"][topic]["max.message.bytes"]["value"]))


# [END dead_letters]


# --- PostgreSQL -------------------------------------------------------------------------------------------------------


# [START insert_once]
def insert_once(db: psycopg.Connection, table: str, rows: Sequence[Mapping[str, Any]], key: str | Sequence[str]) -> int:
    """Insert rows; one whose key is there already changes nothing.

    Args:
        table: "schema.table", with a primary key or unique constraint on `key`.
        rows: column -> value, all with the same columns.
        key: one column, or several.

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
        sql.SQL(", ").join(map(sql.Identifier, [key] if isinstance(key, str) else key)),
    )
    with db.cursor() as cursor:
        cursor.executemany(statement, rows)
        return cursor.rowcount


# [END insert_once]


# [START merge_by_copy]
def merge_by_copy(db: psycopg.Connection, table: str, rows: pd.DataFrame, key: str | Sequence[str]) -> dict[str, int]:
    """Bring rows into a table by COPY: new keys are inserted, changed rows replaced, equal ones left alone.

    All or nothing, within the transaction of `db`. What the table computes by itself is left to it.

    Args:
        table: "schema.table", partitioned or not, with a primary key or unique constraint on `key`.
        rows: columns named like the table's, each key once; missing values become null, dicts and lists JSON.
        key: one column, or several.

    Returns:
        How many were "new", "changed" and "same".
    """
    from psycopg import sql
    from psycopg.rows import tuple_row

    target, keys = sql.Identifier(*table.split(".")), [key] if isinstance(key, str) else list(key)
    with db.transaction(), db.cursor(row_factory=tuple_row) as cursor:
        about = """select attname, atttypid::regtype::text, attgenerated <> '', attidentity = 'a'
            from pg_attribute where attrelid = %s::regclass"""
        found = cursor.execute(about, [target.as_string(db)]).fetchall()
        kinds = {name: kind for name, kind, _, _ in found}
        computed = {name for name, _, computed, _ in found if computed}
        fixed = {*keys, *(name for name, _, _, counted in found if counted)}
        columns = [name for name in rows.columns if name not in computed]
        others = [name for name in columns if name not in fixed]

        def each(names: Iterable[str], text: str = "{}") -> sql.Composed:
            return sql.SQL(", ").join(sql.SQL(text).format(sql.Identifier(name)) for name in names)

        def values_of(row: str) -> sql.Composed:
            cast = {"json": "::text"}  # it has no `=`
            return sql.SQL(", ").join(each([n], f"{row}.{{}}{cast.get(kinds.get(n), '')}") for n in others)

        replace = sql.SQL("do update set {} where ({}) is distinct from ({})").format(
            each(others, "{0} = excluded.{0}"), values_of("t"), values_of("excluded")
        )
        parts = {"target": target, "columns": each(columns), "key": each(keys), "old": each(keys[:1], "old.{}")}
        parts["then"] = replace if others else sql.SQL("do nothing")
        cursor.execute("drop table if exists pg_temp.incoming")
        shape = "create temp table incoming on commit drop as select {columns} from {target} with no data"
        cursor.execute(sql.SQL(shape).format(**parts))
        with cursor.copy(sql.SQL("copy incoming ({columns}) from stdin").format(**parts)) as copy:
            for row in _fitting(rows[columns], kinds).itertuples(index=False, name=None):
                copy.write_row(row)
        merge = """insert into {target} as t ({columns}) overriding system value select {columns} from incoming
            on conflict ({key}) {then} returning {old} is null"""  # a row that was not there before has no old one
        done = [new for (new,) in cursor.execute(sql.SQL(merge).format(**parts))]
    return {"new": sum(done), "changed": len(done) - sum(done), "same": len(rows) - len(done)}


# [END merge_by_copy]


def _fitting(rows: pd.DataFrame, kinds: Mapping[str, str]) -> pd.DataFrame:
    """The rows as objects: pandas makes 3.0 of a whole number in a column with a gap, and JSON is text on its way."""
    import pandas as pd

    values = rows.astype(object).where(rows.notna(), None)
    fit = dict.fromkeys(WHOLE, lambda v: int(v) if isinstance(v, float) and v.is_integer() else v)
    fit |= dict.fromkeys(("json", "jsonb"), lambda v: v if v is None or isinstance(v, str) else json.dumps(v))
    for name in values.columns:
        if kinds.get(name) in fit:
            fitting = [fit[kinds[name]](value) for value in values[name]]
            values[name] = pd.Series(fitting, values.index, object)  # else pandas would make floats again
    return values
