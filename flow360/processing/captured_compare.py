"""What was captured, held against its source: row by row, for each table and collection, and value by value.

    captured_compare.compare()     for each table how many rows the source has, and the warehouse, and how many differ

The rows are compared as a multiset of typed values. A document is put together again out of its rows, and compared to
the last byte with the one in MongoDB; the values in it are counted on both sides, too.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from flow360 import clients
from flow360.errors import FlowError
from flow360.ingestion import connect
from flow360.primeur.schema import FLEET, TABLES
from flow360.processing import documents
from flow360.processing.captured_views import schema

if TYPE_CHECKING:
    import pandas as pd
    import psycopg

Row = tuple[Any, ...] | bytes
COLUMNS = ["source", "table", "there", "here", "missing", "extra", "values_there", "values_here"]


def tables() -> dict[str, list[str]]:
    """List the captured tables and collections of each source, as stack/kafka-connect has them."""
    found = {}
    for config in connect.connectors().values():
        listed = config.get("table.include.list") or config["collection.include.list"]
        found[config["topic.prefix"].removeprefix("cdc.")] = [one.partition(".")[2] for one in listed.split(",")]
    return found


def compare(*sources: str) -> pd.DataFrame:
    """Compare each captured table with its source, as both are now.

    Args:
        sources: shop, fleet, catalogue; all if none is named.

    Returns:
        One row a table: source, table; there, here: rows in the source and in the warehouse; missing, extra: those that
        only the source has, or only the warehouse, as a multiset; values_there, values_here: values in documents.

    Raises:
        FlowError: a database is down, or nothing was captured yet.
    """
    import pandas as pd

    found = []
    with clients.postgres() as warehouse:
        for source, names in tables().items():
            if sources and source not in sources:
                continue
            for name in names:
                there, here = (_documents if source == "catalogue" else _rows)(warehouse, source, name)
                rows_there, rows_here = Counter(row for row, _ in there), Counter(row for row, _ in here)
                counts = [len(there), len(here), (rows_there - rows_here).total(), (rows_here - rows_there).total()]
                found.append((source, name, *counts, sum(n for _, n in there), sum(n for _, n in here)))
    return pd.DataFrame(found, columns=COLUMNS)


Counted = list[tuple[Row, int]]
"""Rows, each with how many values it holds."""


def _rows(warehouse: psycopg.Connection, source: str, name: str) -> tuple[Counted, Counted]:
    table = {"shop": TABLES, "fleet": FLEET}[source][name]
    query = f"select {', '.join(table.names)} from "
    here = _ask(warehouse, f"{query}{schema(source)}.{name}")
    if source == "shop":
        with clients.postgres("source") as db:
            there = db.execute(query + name).fetchall()
    else:
        with clients.mysql() as db, db.cursor() as cursor:
            cursor.execute(query + name)
            there = cursor.fetchall()
    return [(_typed(row), len(row)) for row in there], [(_typed(row), len(row)) for row in here]


def _typed(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """Give moments their zone: MySQL says none, and means UTC."""
    return tuple(
        one.replace(tzinfo=one.tzinfo or UTC).astimezone(UTC) if isinstance(one, datetime) else one for one in row
    )


def _documents(warehouse: psycopg.Connection, source: str, name: str) -> tuple[Counted, Counted]:
    import bson
    from bson import json_util

    with clients.mongodb() as client:
        there = [(bson.encode(one), one) for one in client.catalogue[name].find()]
    here = [
        (bson.encode(json_util.loads(json.dumps(one))), one)
        for one in built(warehouse, f"cdc.{source}.{source}.{name}")
    ]
    # As MongoDB's JSON, in which a decimal or a moment is one value.
    plain = [(row, json.loads(json_util.dumps(one))) for row, one in there]
    return [(row, documents.values(one)) for row, one in plain], [(row, documents.values(one)) for row, one in here]


def built(warehouse: psycopg.Connection, topic: str) -> Iterator[dict[str, Any]]:
    """Yield the documents of a topic, put together again out of their rows."""
    query = "select key, path, place, fields from captured.items where topic = %s order by key, path, place"
    rows: dict[str, documents.Rows] = {}
    for key, path, place, fields in _ask(warehouse, query, topic):
        rows.setdefault(key, {})[path, tuple(place)] = fields
    yield from map(documents.build, rows.values())


def _ask(warehouse: psycopg.Connection, query: str, *params: Any) -> list[tuple[Any, ...]]:
    import psycopg

    try:
        return warehouse.execute(query, params or None).fetchall()
    except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
        raise FlowError("nothing was captured yet: flow360 up changes-sink kafka-connectors") from None
