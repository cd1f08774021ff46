"""What is captured, as tables that one can ask: views in a schema for each source.

A row of a table has the columns of flow360/primeur/schema.py with their types. A document has a column for each field
that was ever seen, as text, and so has an element of each of its lists: a new one comes at the end. What has no column
(its name is too long for PostgreSQL, or another's, or the view has very many) is in `fields` all the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import psycopg
from psycopg import sql

from flow360.ingestion import changes
from flow360.primeur.schema import FLEET, TABLES, Table
from flow360.processing.documents import ITSELF, Rows

KNOWN: Mapping[str, Mapping[str, Table]] = {"shop": TABLES, "fleet": FLEET}
OWN = ("document", "place", "fields")
"""The columns that each view of documents begins with."""
LONGEST, MOST = 63, 500
"""Bytes of a name in PostgreSQL; columns of a view, of which it takes some 1,600: a document may use keys as names."""
DDL = r"""
create table if not exists captured.fields (
    topic text, path text, field text, number bigint generated always as identity, primary key (topic, path, field)
);
comment on table captured.fields is 'One row per field of documents that was ever seen, in the order of appearance.';
create or replace function captured.plain(value json) returns text language sql immutable parallel safe return
    case
        when strpos(value::text, '\u0000') > 0 then value::text  -- no text of PostgreSQL holds it: as JSON
        when json_typeof(value) = 'null' then null
        when json_typeof(value) <> 'object' then value #>> '{}'
        when value -> '$date' is not null then to_char(
            to_timestamp(coalesce(value #>> '{$date,$numberLong}', value ->> '$date')::numeric / 1000)
            at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'
        )
        else coalesce(value ->> '$numberDecimal', value ->> '$numberLong', value ->> '$oid', value::text)
    end;
"""
_LOCK = 360_003


def schema(source: str) -> str:
    """Name the schema of a source's views."""
    return f"captured_{source}"


def view_of(topic: str, path: str) -> str:
    """Name the view of documents, or of the elements of the list to which a path leads."""
    return "_".join(filter(None, [changes.table_of(topic), re.sub(r"\W", "_", path)]))


def tables(db: psycopg.Connection, topics: Iterable[str]) -> None:
    """Make the views of the tables whose topics these are; documents have theirs when one has come."""
    for topic in topics:
        source = changes.source_of(topic)
        if known := KNOWN.get(source, {}).get(changes.table_of(topic)):
            columns = [
                sql.SQL("captured.plain(row -> {})::{} as {}").format(
                    sql.Literal(c.name), sql.SQL(c.sql_type), sql.Identifier(c.name)
                )
                for c in known.columns
            ]
            query = sql.SQL("select {} from captured.rows where topic = {} and row is not null")
            _view(db, source, known.name, query.format(sql.SQL(", ").join(columns), sql.Literal(topic)))


class Fields:
    """The fields of documents that have a column."""

    def __init__(self, db: psycopg.Connection) -> None:
        self._db = db
        self._known = set(db.execute("select topic, path, field from captured.fields").fetchall())

    def note(self, topic: str, rows: Iterable[Rows]) -> None:
        """Take in fields that nobody has seen before, within the caller's transaction."""
        seen = dict.fromkeys((topic, path, field) for one in rows for (path, _), of in one.items() for field in of)
        if not (new := [one for one in seen if one not in self._known]):
            return
        with self._db.cursor() as cursor:
            cursor.executemany(
                "insert into captured.fields (topic, path, field) values (%s, %s, %s) on conflict do nothing",
                new,
            )
        self._known.update(new)
        for path in sorted({path for _, path, _ in new}):
            self._show(topic, path)

    def _show(self, topic: str, path: str) -> None:
        source, name = changes.source_of(topic), view_of(topic, path)
        others = {(its, one) for its, one, _ in self._known if changes.source_of(its) == source} - {(topic, path)}
        if name in {view_of(*one) for one in others} or len(name.encode()) > LONGEST:
            return  # its rows are in captured.items
        query = "select field from captured.fields where (topic, path) = (%s, %s) order by number"
        columns: dict[str, str] = {}
        for (field,) in self._db.execute(query, [topic, path]).fetchall():
            column = "value" if field == ITSELF else field
            if column not in OWN and len(column.encode()) <= LONGEST and len(columns) < MOST:
                columns.setdefault(column, field)
        shown = [sql.SQL("captured.plain((key::json ->> 'id')::json) as document, place, fields")]
        shown += [
            sql.SQL("captured.plain(fields -> {}) as {}").format(sql.Literal(field), sql.Identifier(column))
            for column, field in columns.items()
        ]
        query = sql.SQL("select {} from captured.items where (topic, path) = ({}, {})")
        _view(self._db, source, name, query.format(sql.SQL(", ").join(shown), sql.Literal(topic), sql.Literal(path)))


def _view(db: psycopg.Connection, source: str, name: str, query: sql.Composable) -> None:
    with db.transaction():
        db.execute("select pg_advisory_xact_lock(%s)", [_LOCK])
        db.execute(sql.SQL("create schema if not exists {}").format(sql.Identifier(schema(source))))
        target = sql.Identifier(schema(source), name)
        db.execute(sql.SQL("create or replace view {} as {}").format(target, query))
