"""What the checks of 08 plant, take away and share."""

from __future__ import annotations

import contextlib
import json
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pandas as pd

from flow360 import clients
from flow360.checks.draw import a_word
from flow360.checks.verdict import NotYet, shown
from flow360.clients.search import Denied, Refused
from flow360.monitoring.logs import LOGS

if TYPE_CHECKING:
    import requests

SECONDS = 10
WINDOW = 400
"""So many documents one search returns where the engine itself should count."""
PEOPLE = ("anna", "j.o-neil", "li_wei", "zoe+market", "m.d'urso")
WORDS = ("engine off", "door open for 93 s", 'lost: signal, "no answer"', "93 %, [full] <again>", "l'été: 4.5 °C")


def watched() -> tuple[requests.Session, list[str]]:
    """Open the search engine for the answer, and list what it was asked, so far."""
    engine, sent = clients.search(), []
    engine.hooks["response"].append(lambda answer, **_: sent.append(answer.request.url))
    return engine, sent


def a_name(chance: random.Random) -> str:
    """Draw the name of an index that nobody has."""
    return f"lab-check-{a_word(chance, 10).lower()}"


@contextmanager
def an_index(
    name: str, documents: Mapping[str, Mapping[str, Any]], mappings: Any = None, window: int = 10_000
) -> Iterator[str]:
    """Make an index with these documents by their ids, for the block alone; a search returns `window` at most."""
    engine = clients.search()
    sizes = {"number_of_shards": 1, "number_of_replicas": 0, "max_result_window": window}
    engine.put(f"/{name}", json={"settings": sizes, "mappings": mappings or _lines_mapping()})
    try:
        _bulk(engine, name, documents)
        yield name
    finally:
        gone(engine, name)


def gone(engine: requests.Session, name: str) -> None:
    """Take an index away, if it is there."""
    with contextlib.suppress(Refused):
        engine.delete(f"/{name}")


def _bulk(engine: requests.Session, name: str, documents: Mapping[str, Mapping[str, Any]]) -> None:
    body = "".join(
        f"{json.dumps({'index': {'_id': key}})}\n{json.dumps(document)}\n" for key, document in documents.items()
    )
    answer = engine.post(
        f"/{name}/_bulk?refresh=true", data=body.encode(), headers={"Content-Type": "application/x-ndjson"}
    ).json()
    if answer["errors"]:
        raise RuntimeError(f"{name} refused a document of the check: {answer['items'][0]}")


def _lines_mapping() -> Any:
    """Read the mapping that the logs really have."""
    found = clients.search().get(f"/_index_template/{LOGS}").json()["index_templates"][0]
    return found["index_template"]["template"]["mappings"]


@contextmanager
def refusals(name: str, what: str) -> Iterator[None]:
    """Take what the engine refuses in here for the answer's mistake."""
    try:
        yield
    except (Refused, Denied) as error:
        raise NotYet(f"{name}: {what}: {error}") from None


def simulated(name: str, pipeline: Any, documents: Sequence[Mapping[str, Any]]) -> list[Any]:
    """Simulate a pipeline on documents: each becomes a document, None where it was dropped, or the error as a text."""
    body = {"pipeline": pipeline, "docs": [{"_source": one} for one in documents]}
    with refusals(name, "the search engine does not take it"):
        try:
            found = clients.search().post("/_ingest/pipeline/_simulate", json=body).json()["docs"]
        except TypeError as error:
            raise NotYet(f"{name}: it cannot be sent as JSON: {error}") from None
    return [_outcome(one) for one in found]


def _outcome(one: Mapping[str, Any] | None) -> Any:
    if not one:
        return None
    if "error" in one:
        return str(one["error"].get("reason", one["error"]))
    return one["doc"]["_source"] if one.get("doc") else None


def field_of(document: Any, field: str) -> Any:
    """Find a field by its name, whether it was written as {"a": {"b": 1}} or as {"a.b": 1}."""
    if isinstance(document, Mapping) and field in document:
        return document[field]
    for part in field.split("."):
        document = document.get(part) if isinstance(document, Mapping) else None
    return document


def moment_of(text: Any) -> datetime | None:
    """Read a moment out of a text with an offset; None where it is not one."""
    try:
        found = pd.Timestamp(text)
    except (ValueError, TypeError):
        return None
    return None if found is pd.NaT or found.tzinfo is None else found.floor("us").to_pydatetime()


def people(chance: random.Random, n: int) -> list[str]:
    """Draw e-mail addresses."""
    hosts = ("example.com", "mail.example.org", "shop-1.example.net")
    return [f"{chance.choice(PEOPLE)}{chance.randint(1, 99)}@{chance.choice(hosts)}" for _ in range(n)]


def held(name: str) -> Any:
    """Ask how an index stands: its documents and its writing operations."""
    found = clients.search().get(f"/{name}/_stats/docs,indexing").json()["_all"]["primaries"]
    return found["docs"]["count"], found["indexing"]["index_total"], found["indexing"]["delete_total"]


def expect_document(name: str, line: str, document: Any) -> None:
    """Expect that a pipeline made a document of a line, neither an error nor nothing."""
    if not isinstance(document, Mapping):
        raise NotYet(f"{name}: {shown(line)}: {document or 'the document was dropped'}")
