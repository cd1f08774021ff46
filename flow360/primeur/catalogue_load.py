"""The catalogue's documents into MongoDB: `python -m flow360.primeur.catalogue_load`.

All of them come in one transaction with the note of what they are (collection `loaded`): a load that was killed leaves
the documents of before, or none, and two loads at a time wait for each other. With the same note there, it does
nothing, and changes stay.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import typer
from pymongo import MongoClient, errors
from pymongo.client_session import ClientSession

from flow360.clients import mongodb
from flow360.errors import ServiceError
from flow360.primeur.documents import Document, make
from flow360.primeur.documents_spoilt import SPOIL
from flow360.primeur.load import Force, Scale, say, stamp_of
from flow360.primeur.plan import Plan
from flow360.primeur.snapshot import SEED, seed_documents

COLLECTIONS = tuple(SPOIL)
NOTE = "documents"
"""The `_id` of the note, in the collection `loaded`."""


def connect(**kw: Any) -> MongoClient:
    """Open a client, as `clients.mongodb`; CATALOGUE_HOST names another host than 127.0.0.1."""
    return mongodb(host=os.environ.get("CATALOGUE_HOST", "127.0.0.1"), **kw)


def _stamp(plan: Plan | None) -> str:
    if plan is not None:
        return stamp_of(plan, ())
    packed = (SEED / "documents" / f"{name}.jsonl.gz" for name in COLLECTIONS)
    return hashlib.sha256(b"".join(file.read_bytes() for file in packed)).hexdigest()[:12]


def _documents(plan: Plan | None) -> dict[str, list[Document]]:
    if plan is None:
        return {name: seed_documents(name) for name in COLLECTIONS}
    return {name: SPOIL[name](plan, clean)[0] for name, clean in make(plan).items()}


def load(plan: Plan | None = None, force: bool = False) -> int:
    """Load the catalogue.

    Args:
        plan: None loads the committed week, another plan is generated.
        force: load even when the same documents are there.

    Returns:
        The documents loaded; 0 when they were there.

    Raises:
        ServiceError: the server does not answer, or refused something; it holds all documents of before, or none.
    """
    stamp = _stamp(plan)
    try:
        with connect() as client:
            note = client.catalogue.loaded.find_one(NOTE)
            if note and note["stamp"] == stamp and not force:
                return 0
            documents = _documents(plan)
            with client.start_session() as session:
                session.with_transaction(partial(_replace, client, documents, stamp))
            return sum(map(len, documents.values()))
    except errors.PyMongoError as error:
        raise ServiceError(f"mongodb could not be loaded: {str(error).partition(', full error')[0]}") from None


def _replace(
    client: MongoClient, documents: Mapping[str, Sequence[Document]], stamp: str, session: ClientSession
) -> None:
    for name, rows in documents.items():
        client.catalogue[name].delete_many({}, session=session)
        client.catalogue[name].insert_many(rows, session=session)
    client.catalogue.loaded.replace_one({"_id": NOTE}, {"stamp": stamp}, upsert=True, session=session)


def main(scale: Scale = None, force: Force = False) -> None:
    """Load the catalogue's documents into MongoDB."""
    say("mongodb", partial(load, None if scale is None else Plan(scale=scale), force))


if __name__ == "__main__":
    typer.run(main)
