"""Kafka Connect's connectors, as stack/kafka-connect has them: `python -m flow360.ingestion.connect [NAME …]`.

What a connector needs of its database is made first (flow360/ingestion/sources), then the worker lets it run. All of it
can be repeated.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flow360.clients.web import connect as worker_at
from flow360.errors import Exit, FlowError
from flow360.ingestion import sources
from flow360.ingestion.changes import LIFE
from flow360.settings import ROOT
from flow360.waiting import wait_for

if TYPE_CHECKING:
    import requests

FOLDER = ROOT / "stack" / "kafka-connect"
SECONDS = 60


def connectors(folder: Path = FOLDER) -> dict[str, dict[str, str]]:
    """Read the connectors' configurations by name: one file each."""
    return {file.stem: json.loads(file.read_text("utf-8")) for file in sorted(folder.glob("*.json"))}


def place_lost(worker: requests.Session, name: str, config: dict[str, str]) -> str:
    """Say why a connector cannot go on where it was; "" if the database still has what comes after its place.

    What happened between would be missed, so the tables are to be read again. A connector that does not run is stopped
    meanwhile: a task that comes or goes may still read, and writes down its place. One that the worker does not know
    has none: what an earlier one of its name has left there is nobody's.
    """
    source, known, offsets = sources.of(config), name in worker.get("/connectors").json(), []
    with source.connect() as db:
        if known and runs(worker, name) and source.is_read(db, config):
            return ""  # it reads before its first place is written down
        if known:
            stop(worker, name)
            offsets = worker.get(f"/connectors/{name}/offsets").json()["offsets"]
        return source.lost(db, config, offsets[0]["offset"] if offsets else None)


def apply(worker: requests.Session, name: str, config: dict[str, str], *, from_scratch: bool) -> None:
    """Let a connector run as its file says, also one that was stopped or has failed; returns when it does.

    Args:
        from_scratch: forget how far it had come, and read the tables again before their changes.

    Raises:
        FlowError: it is refused, or does not run within a minute; the line says why.
    """
    if from_scratch:
        config = {**_life(datetime.now(UTC).isoformat(timespec="microseconds")), **config}
        if name not in worker.get("/connectors").json():  # at rest: an earlier one of this name may have left its place
            worker.post("/connectors", json={"name": name, "config": config, "initial_state": "STOPPED"})
        _without_place(worker, name)
    else:
        known = worker.get(f"/connectors/{name}/config").json()
        config = {**{key: value for key, value in known.items() if key in _life("")}, **config}
    worker.put(f"/connectors/{name}/config", json=config)
    worker.put(f"/connectors/{name}/resume")
    # A configuration that is the same starts nothing again, so a task that has failed would stay as it is.
    restart = f"/connectors/{name}/restart?includeTasks=true&onlyFailed=true"
    wait_for(lambda: worker.post(restart).ok, SECONDS, f"the workers to have divided the work of {name}")
    try:
        wait_for(lambda: runs(worker, name), SECONDS, f"{name} to run")
    except FlowError as error:
        said = state(worker, name)
        causes = [text for one in (said["connector"], *said["tasks"]) if (text := cause(one))]
        raise FlowError(f"{name} does not run: {causes[0]}" if causes else error.message) from None


def _life(began: str) -> dict[str, str]:
    """Let each record say since when its connector is at work (flow360/ingestion/changes.py)."""
    insert = "org.apache.kafka.connect.transforms.InsertHeader"
    return {
        "transforms": LIFE,
        f"transforms.{LIFE}.type": insert,
        f"transforms.{LIFE}.header": LIFE,
        f"transforms.{LIFE}.value.literal": began,
    }


def cause(part: dict[str, Any]) -> str:
    """Read why a connector or a task of it has failed out of what `state` says of it; "" if it has not."""
    lines = [line.strip() for line in part.get("trace", "").splitlines() if not line.startswith("\t")]
    return lines[-1].removeprefix("Caused by: ")[:200] if lines else ""


def stop(worker: requests.Session, name: str) -> None:
    """Stop a connector, and wait until it and its tasks, which write down their place at the end, have stopped."""
    wait_for(lambda: worker.put(f"/connectors/{name}/stop").ok, SECONDS, f"{name} to be told to stop")

    def at_rest() -> bool:
        said = state(worker, name)
        return said["connector"]["state"] == "STOPPED" and not said["tasks"]

    wait_for(at_rest, SECONDS, f"{name} to stop")


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


@dataclass(frozen=True)
class Part:
    """A part of a connector that was to be removed; `trouble` says why it stays, "" if it is gone."""

    what: str
    trouble: str = ""

    def __str__(self) -> str:
        return f"{self.what} stays: {self.trouble}" if self.trouble else f"{self.what} is removed"


def forget(worker: requests.Session, name: str, config: dict[str, str]) -> Iterator[Part]:
    """Remove a connector with its place, and what the database keeps for it.

    Yields:
        Each part that there was. What does not answer keeps its part; `main` copes with either without the other.
    """
    try:
        if name in worker.get("/connectors").json():
            _without_place(worker, name)
            worker.delete(f"/connectors/{name}")
            yield Part(name)
    except (FlowError, OSError) as error:  # OSError: what requests raises is one
        yield Part(name, _said(error))
    source = sources.of(config)
    try:
        if source.forget(config):
            yield Part(source.keeps(config))
    except (FlowError, *sources.ERRORS) as error:
        yield Part(source.keeps(config), _said(error))


def _said(error: Exception) -> str:
    """Write what went wrong in one line."""
    return " ".join(str(error).split())[:200]


def main(
    names: Annotated[list[str] | None, typer.Argument(help="connectors; all if none is named")] = None,
    url: Annotated[str, typer.Option(help="the worker, where it is not the published one")] = "",
    forgetting: Annotated[bool, typer.Option("--forget", help="remove them, and what databases keep")] = False,
) -> None:
    """Prepare the databases and let each connector run as its file says; one that cannot keeps no other from it."""
    there, worker, codes = connectors(), worker_at(base=url or None), []
    if unknown := set(names or ()) - set(there):
        typer.echo(f"no connector {', '.join(sorted(unknown))}: there are {', '.join(there)}", err=True)
        raise typer.Exit(int(Exit.USAGE))
    for name in names or there:
        try:
            for line in (forget if forgetting else bring)(worker, name, there[name]):
                print(line, flush=True)
        except (FlowError, OSError, *sources.ERRORS) as error:
            typer.echo(f"{name}: {_said(error)}", err=True)
            codes.append(int(getattr(error, "code", Exit.FAILED)))
    if codes:
        raise typer.Exit(codes[0])


def bring(worker: requests.Session, name: str, config: dict[str, str]) -> Iterator[str]:
    """Prepare the database and let a connector run.

    Yields:
        From where it goes on.

    Raises:
        FlowError: as `apply`; or the database is down, or has no module.
    """
    source = sources.of(config)
    with source.connect() as db:
        config = source.fitting(db, config)
    why = place_lost(worker, name, config)
    if why and name in worker.get("/connectors").json():
        _without_place(worker, name)  # before the database lets it in again: an old place may look like one of today
    with source.connect() as db:
        source.prepare(db, config, sources.password_of(config))
    # The worker signs in by what was granted, once that is committed.
    apply(worker, name, config, from_scratch=bool(why))
    yield f"{name} runs, " + (f"from the beginning: {why}" if why else "from where it was")


if __name__ == "__main__":
    typer.run(main)
