"""Kafka Connect's connectors, as stack/kafka-connect has them: `python -m flow360.ingestion.connect`.

A connector needs three things of the database: a role that may read the log and nothing else but the captured tables, a
publication that names them, and a slot, the database's note of how far the log was read. Role and publication are made
here, the slot by the connector. All of it can be repeated.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from psycopg import sql

from flow360.clients.web import connect as worker_at
from flow360.errors import ServiceError
from flow360.primeur.load import connect as database
from flow360.settings import ROOT, settings
from flow360.waiting import wait_for

if TYPE_CHECKING:
    import psycopg
    import requests

FOLDER = ROOT / "stack" / "kafka-connect"
ROLE = "capture"
SECONDS = 60


def connectors(folder: Path = FOLDER) -> dict[str, dict[str, str]]:
    """The connectors' configurations by name: one file each."""
    return {file.stem: json.loads(file.read_text("utf-8")) for file in sorted(folder.glob("*.json"))}


def grant(db: psycopg.Connection, config: dict[str, str]) -> None:
    """Give the role its password and the captured tables, and name these in the publication; nothing else stays."""
    tables = [sql.Identifier(*name.split(".")) for name in config["table.include.list"].split(",")]
    role, listed = sql.Identifier(ROLE), sql.SQL(", ").join(tables)
    publication = sql.Identifier(config["publication.name"])
    verifier = db.pgconn.encrypt_password(
        settings().shop_capture_password.encode(), ROLE.encode(), b"scram-sha-256"
    ).decode()
    if not db.execute("select 1 from pg_roles where rolname = %s", [ROLE]).fetchone():
        db.execute(sql.SQL("create role {} login replication").format(role))
    db.execute(sql.SQL("alter role {} password {}").format(role, sql.Literal(verifier)))
    db.execute(sql.SQL("revoke all on all tables in schema public from {}").format(role))
    db.execute(sql.SQL("grant select on {} to {}").format(listed, role))
    if not db.execute("select 1 from pg_publication where pubname = %s", [config["publication.name"]]).fetchone():
        db.execute(sql.SQL("create publication {} for table {}").format(publication, listed))
    else:
        db.execute(sql.SQL("alter publication {} set table {}").format(publication, listed))


def holds_its_place(db: psycopg.Connection, config: dict[str, str]) -> bool:
    """Whether the slot is there and what it has not read yet is, too; a slot that lost its place is dropped."""
    slot = [config["slot.name"]]
    found = db.execute("select wal_status from pg_replication_slots where slot_name = %s", slot).fetchone()
    if found and found[0] == "lost":
        db.execute("select pg_drop_replication_slot(%s)", slot)
        found = None
    return bool(found)


def apply(worker: requests.Session, name: str, config: dict[str, str], *, afresh: bool) -> None:
    """Let a connector run as its file says; returns when it does.

    Args:
        afresh: forget how far it had come, and read the tables again before their changes.

    Raises:
        FlowError: it is refused, or does not run within a minute; the line says why.
    """
    there = name in worker.get("/connectors").json()
    if afresh and there:
        worker.put(f"/connectors/{name}/stop")
    elif afresh:  # with a place that an earlier one of this name has left
        worker.post("/connectors", json={"name": name, "config": config, "initial_state": "STOPPED"})
    if afresh:
        wait_for(lambda: state(worker, name)["connector"]["state"] == "STOPPED", SECONDS, f"{name} to stop")
        wait_for(
            lambda: worker.delete(f"/connectors/{name}/offsets").ok, SECONDS, f"the place of {name} to be forgotten"
        )
    if not (afresh and not there):
        worker.put(f"/connectors/{name}/config", json=config)
    if afresh:
        worker.put(f"/connectors/{name}/resume")
    wait_for(lambda: runs(worker, name), SECONDS, f"{name} to run")


def state(worker: requests.Session, name: str) -> dict[str, Any]:
    """What the worker says of a connector and its tasks."""
    return worker.get(f"/connectors/{name}/status").json()


def runs(worker: requests.Session, name: str) -> bool:
    """Whether a connector and at least one task of it run, and none does not."""
    said = state(worker, name)
    return bool(said["tasks"]) and {said["connector"]["state"], *(one["state"] for one in said["tasks"])} == {"RUNNING"}


def forget(worker: requests.Session, name: str, config: dict[str, str]) -> Iterator[str]:
    """Remove a connector with its place, and the slot and the publication that the database keeps for it.

    Yields:
        A line for each part. What does not answer keeps its part; `main` copes with either without the other.
    """
    try:
        if name in worker.get("/connectors").json():
            worker.put(f"/connectors/{name}/stop")
            wait_for(lambda: state(worker, name)["connector"]["state"] == "STOPPED", SECONDS, f"{name} to stop")
            wait_for(lambda: worker.delete(f"/connectors/{name}/offsets").ok, SECONDS, f"the place of {name} to go")
            worker.delete(f"/connectors/{name}")
        yield f"{name} is removed"
    except ServiceError as error:
        yield f"{name} stays: {error.message}"
    slot = [config["slot.name"]]
    try:
        with database("source") as db:
            wait_for(lambda: not _read(db, slot), SECONDS, f"the slot {slot[0]} to be left")
            db.execute(
                "select pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name = %s", slot
            )
            db.execute(sql.SQL("drop publication if exists {}").format(sql.Identifier(config["publication.name"])))
        yield f"the slot {slot[0]} is removed"
    except ServiceError as error:
        yield f"the slot {slot[0]} stays: {error.message}"


def _read(db: psycopg.Connection, slot: list[str]) -> bool:
    found = db.execute("select active from pg_replication_slots where slot_name = %s", slot).fetchone()
    return bool(found and found[0])


def main(
    url: Annotated[str, typer.Option(help="the worker, where it is not the published one")] = "",
    forgetting: Annotated[bool, typer.Option("--forget", help="remove connectors, slots and publications")] = False,
) -> None:
    """Prepare the shop's database and let each connector run as its file says."""
    worker = worker_at(base=url or None)
    for name, config in connectors().items():
        if forgetting:
            for line in forget(worker, name, config):
                print(line, flush=True)
            continue
        with database("source") as db:
            grant(db, config)
            held = holds_its_place(db, config)
        apply(worker, name, config, afresh=not held)
        print(f"{name} runs, {'from where it was' if held else 'from the beginning'}", flush=True)


if __name__ == "__main__":
    typer.run(main)
