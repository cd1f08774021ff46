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

import psycopg
import typer
from psycopg import sql

from flow360.clients.web import connect as worker_at
from flow360.errors import Exit, FlowError
from flow360.primeur.load import connect as database
from flow360.settings import ROOT, settings
from flow360.waiting import wait_for

if TYPE_CHECKING:
    import requests

FOLDER = ROOT / "stack" / "kafka-connect"
ROLE = "capture"
SECONDS = 60


def connectors(folder: Path = FOLDER) -> dict[str, dict[str, str]]:
    """Read the connectors' configurations by name: one file each."""
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


def holds_its_place(db: psycopg.Connection, worker: requests.Session, name: str, config: dict[str, str]) -> bool:
    """Say whether a connector can go on where it was: whether its slot still has what comes after the worker's offset.

    A slot that lost what was not read yet, that is younger than the offset, or whose offset is gone (Kafka was reset)
    is dropped: what happened between would be missed, while a new slot begins with all rows as they are then. A
    connector that does not run is stopped meanwhile: a task that comes or goes may make a slot, and writes its offset.
    """
    slot = [config["slot.name"]]
    if name in worker.get("/connectors").json() and runs(worker, name) and _read(db, slot):
        return True  # it is there before its first offset is written down
    _known(worker, name, config)
    stop(worker, name)
    wait_for(lambda: not _read(db, slot), SECONDS, f"the slot {slot[0]} to be left")
    offsets = worker.get(f"/connectors/{name}/offsets").json()["offsets"]
    query = "select wal_status <> 'lost' and restart_lsn - '0/0' <= %s from pg_replication_slots where slot_name = %s"
    found = db.execute(query, [offsets[0]["offset"].get("lsn") if offsets else None, *slot]).fetchone()
    if found and found[0]:
        return True
    _drop(db, slot)
    return False


def apply(worker: requests.Session, name: str, config: dict[str, str], *, from_scratch: bool) -> None:
    """Let a connector run as its file says, also one that was stopped or has failed; returns when it does.

    Args:
        from_scratch: forget how far it had come, and read the tables again before their changes.

    Raises:
        FlowError: it is refused, or does not run within a minute; the line says why.
    """
    if from_scratch:
        _known(worker, name, config)
        _without_place(worker, name)
    worker.put(f"/connectors/{name}/config", json=config)
    worker.put(f"/connectors/{name}/resume")
    # A configuration that is the same starts nothing again, so a task that has failed would stay as it is.
    restart = f"/connectors/{name}/restart?includeTasks=true&onlyFailed=true"
    wait_for(lambda: worker.post(restart).ok, SECONDS, f"the workers to have divided the work of {name}")
    wait_for(lambda: runs(worker, name), SECONDS, f"{name} to run")


def _known(worker: requests.Session, name: str, config: dict[str, str]) -> None:
    """Let the worker have the connector, at rest if it is new: an earlier one of this name may have left its place."""
    if name not in worker.get("/connectors").json():
        worker.post("/connectors", json={"name": name, "config": config, "initial_state": "STOPPED"})


def stop(worker: requests.Session, name: str) -> None:
    """Stop a connector, and wait until it has; its tasks may still be ending."""
    wait_for(lambda: worker.put(f"/connectors/{name}/stop").ok, SECONDS, f"{name} to be told to stop")
    wait_for(lambda: state(worker, name)["connector"]["state"] == "STOPPED", SECONDS, f"{name} to stop")


def _without_place(worker: requests.Session, name: str) -> None:
    """Stop a connector and forget how far it had come."""
    stop(worker, name)
    wait_for(lambda: worker.delete(f"/connectors/{name}/offsets").ok, SECONDS, f"the place of {name} to be forgotten")


def state(worker: requests.Session, name: str) -> dict[str, Any]:
    """Ask the worker about a connector and its tasks."""
    return worker.get(f"/connectors/{name}/status").json()


def runs(worker: requests.Session, name: str) -> bool:
    """Say whether a connector and at least one task of it run, and none does not."""
    said = state(worker, name)
    return bool(said["tasks"]) and {said["connector"]["state"], *(one["state"] for one in said["tasks"])} == {"RUNNING"}


def forget(worker: requests.Session, name: str, config: dict[str, str]) -> Iterator[str]:
    """Remove a connector with its place, and the slot and the publication that the database keeps for it.

    Yields:
        A line for each part. What does not answer keeps its part; `main` copes with either without the other.
    """
    try:
        if name in worker.get("/connectors").json():
            _without_place(worker, name)
            worker.delete(f"/connectors/{name}")
            yield f"{name} is removed"
    except (FlowError, OSError) as error:  # OSError: what requests raises is one
        yield f"{name} stays: {_said(error)}"
    slot = [config["slot.name"]]
    try:
        with database("source") as db:
            dropped = _drop(db, slot)
            db.execute(sql.SQL("drop publication if exists {}").format(sql.Identifier(config["publication.name"])))
        if dropped:
            yield f"the slot {slot[0]} is removed"
    except (FlowError, psycopg.Error) as error:
        yield f"the slot {slot[0]} stays: {_said(error)}"


def _said(error: Exception) -> str:
    """Write what went wrong in one line."""
    return " ".join(str(error).split())[:200]


def _drop(db: psycopg.Connection, slot: list[str]) -> bool:
    """Drop a slot as soon as nobody reads it; whether there was one."""
    wait_for(lambda: not _read(db, slot), SECONDS, f"the slot {slot[0]} to be left")
    query = "select pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name = %s"
    return bool(db.execute(query, slot).rowcount)


def _read(db: psycopg.Connection, slot: list[str]) -> bool:
    found = db.execute("select active from pg_replication_slots where slot_name = %s", slot).fetchone()
    return bool(found and found[0])


def main(
    url: Annotated[str, typer.Option(help="the worker, where it is not the published one")] = "",
    forgetting: Annotated[bool, typer.Option("--forget", help="remove connectors, slots and publications")] = False,
) -> None:
    """Prepare the shop's database and let each connector run as its file says."""
    try:
        for line in _do(worker_at(base=url or None), forgetting):
            print(line, flush=True)
    except (FlowError, OSError, psycopg.Error) as error:
        typer.echo(_said(error), err=True)
        raise typer.Exit(int(getattr(error, "code", Exit.FAILED))) from None


def _do(worker: requests.Session, forgetting: bool) -> Iterator[str]:
    """Do it for each connector, a line for each step."""
    for name, config in connectors().items():
        if forgetting:
            yield from forget(worker, name, config)
            continue
        with database("source") as db:
            grant(db, config)
        with database("source") as db:  # the worker signs in by what was granted, once that is committed
            held = holds_its_place(db, worker, name, config)
        apply(worker, name, config, from_scratch=not held)
        yield f"{name} runs, {'from where it was' if held else 'from the beginning'}"


if __name__ == "__main__":
    typer.run(main)
