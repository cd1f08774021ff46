"""The way of a document of the catalogue: MongoDB, Kafka, warehouse, lake. Add a hop at its place."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import Any

from flow360.errors import Exit, FlowError
from flow360.ingestion import changes as captured_changes
from flow360.ingestion.readings import of_day
from flow360.primeur.clock import PARIS
from flow360.trace import asking
from flow360.trace.way import Place, Thing, Trace, Way

WAY = Way("document")
COLLECTIONS = {"sheet": "sheets", "review": "reviews"}


def follow(kind: str, number: int | str) -> Trace:
    """Ask every layer where a product's sheet or a review is.

    Args:
        kind: sheet or review.
        number: the product's, or the review's.

    Raises:
        FlowError: that cannot be its number, or no layer knows it.
        ServiceError: no layer that answers knows it.
    """
    if not re.fullmatch(r"0*[1-9][0-9]{0,17}", str(number), re.ASCII):
        raise FlowError(f"{kind} {str(number)[:40]!r}: a number from 1, of 18 digits at most, as 101", Exit.USAGE)
    return WAY.follow(Thing(kind, int(number)))


def _topic(document: Thing) -> str:
    return f"cdc.catalogue.catalogue.{COLLECTIONS[document.kind]}"


def _shown(document: Thing, said: dict[str, Any]) -> str:
    """Say what is of interest of a document, whichever version of the shop's software has written it."""
    version = f"version {said.get('schema_version', 1)}"
    if document.kind == "review":
        return f"{version}, {said.get('stars')} stars"
    name = said.get("name")
    return f"{version}, {name.get('fr') if isinstance(name, dict) else name}"


@WAY.hop("catalogue", after="", service="mongodb", by="catalogue-load")
def catalogue(document: Thing) -> list[Place]:
    found = asking.documents(COLLECTIONS[document.kind], {"_id": document.key})
    return [
        Place(f"collection {COLLECTIONS[document.kind]}, _id = {document.key}", _shown(document, one)) for one in found
    ]


@WAY.hop("changes", after="catalogue", service="kafka", by="")
def changes(document: Thing) -> list[Place]:
    found = asking.changes(_topic(document), "id", [f"{document.key}"], lambda row: _shown(document, json.loads(row)))
    document.learn(days=sorted({place.at.astimezone(PARIS).date() for place in found}))
    return found


@WAY.hop("captured", after="changes", service="postgres-dwh", by="changes-sink")
def warehouse(document: Thing) -> list[Place]:
    """Find the rows that the document was divided into."""
    key = f'{{"id":"{document.key}"}}'
    found = asking.captured(_topic(document), key)
    parts = asking.rows(
        "warehouse",
        "select path, count(*) as number from captured.items where (topic, key) = (%s, %s) group by path order by path",
        _topic(document),
        key,
    )
    lists = ", ".join(f"{one.number} of {one.path}" for one in parts if one.path)
    table = f"captured_catalogue.{COLLECTIONS[document.kind]}"
    return [
        Place(f"{table}, document = {document.key}", f"{place.what}" + (f"; rows: {lists}" if lists else ""), place.at)
        for place in found
    ]


@WAY.hop("raw", after="changes", service="namenode", by="nightly_lake")
def raw_zone(document: Thing) -> list[Place]:
    lake, found = asking.lake(), []
    mine = [("topic", "=", _topic(document)), ("key", "=", f'{{"id":"{document.key}"}}'.encode())]
    for day in document.known.get("days", ()):
        for path, rows in of_day(lake, day, captured_changes.FOLDER, columns=["partition", "offset"], filters=mine):
            if len(rows):
                offsets = ", ".join(map(str, rows["offset"].to_pylist()))
                written = datetime.fromtimestamp(lake.info(path)["modificationTime"] / 1000, UTC)
                found.append(Place(path, f"partition {rows['partition'][0]}, offsets {offsets}", written))
    return found
