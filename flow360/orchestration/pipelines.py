"""DAG files and DAG runs, over Airflow's REST API: write one, start it, watch it, repeat it.

    run = pipelines.start("hourly_ingestion", "2026-05-07T15:00Z")
    pipelines.watch("hourly_ingestion", run)

Each function fails with one line (FlowError). A run's id holds characters that a path may not: `path` quotes it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from flow360 import clients
from flow360.clients.query import sql
from flow360.errors import FlowError
from flow360.settings import ROOT
from flow360.waiting import rounds, wait_for

if TYPE_CHECKING:
    import requests

DAGS = ROOT / "dags"
LAB = DAGS / "lab"
"""The learner's own DAG files; not in git."""
OVER = ("success", "failed")


@cache
def _api() -> requests.Session:
    return clients.airflow()


def path(dag_id: str, run_id: str = "", *more: str) -> str:
    """Build the path of a DAG, or of one of its runs and what is below it."""
    parts = [f"/dags/{dag_id}", *(["dagRuns", quote(run_id, safe="")] if run_id else []), *more]
    return "/".join(parts)


# --- DAG files --------------------------------------------------------------------------------------------------------


def import_error(file: Path) -> str | None:
    """Quote the last line of why the dag-processor could not read a file, or None."""
    errors = _api().get("/importErrors", params={"limit": 100}).json()["import_errors"]
    name = file.relative_to(DAGS).as_posix()
    found = next((one for one in errors if one["filename"] == name), None)
    if found is None or _moment(found["timestamp"]) <= file.stat().st_mtime:
        return None
    return found["stack_trace"].strip().splitlines()[-1]


def loaded(dag_id: str, since: float = 0.0) -> dict[str, Any] | None:
    """Ask what Airflow knows of a DAG; None while its file has not been read (after `since`, a time.time())."""
    rows = _api().get("/dags", params={"dag_id_pattern": dag_id, "limit": 100}).json()["dags"]
    row = next((row for row in rows if row["dag_id"] == dag_id and not row["is_stale"]), None)
    return row if row and _moment(row["last_parsed_time"]) > since else None


def _moment(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def await_dag(file: str | Path, seconds: float = 60) -> dict[str, Any]:
    """Wait until the dag-processor has read a DAG file as it is now; its stem is the dag_id.

    Args:
        file: a path, or the file's name in dags/lab.

    Returns:
        The DAG as the API reports it.

    Raises:
        FlowError: the file is missing, cannot be imported, or was not read in time.
    """
    file = LAB / file
    name = file.relative_to(ROOT).as_posix()
    if not file.exists():
        raise FlowError(f"{name} does not exist")
    written, said = file.stat().st_mtime, []

    def read() -> dict[str, Any] | bool | None:
        if why := import_error(file):
            said.append(why)
        return loaded(file.stem, written) or bool(said)

    found = wait_for(read, seconds, f"{name} to be read as the DAG {file.stem}", every=0.3)
    if said:
        raise FlowError(f"{name} cannot be imported: {said[0]}")
    return found


def remove(*names: str) -> None:
    """Remove DAG files of dags/lab and what Airflow knows of them; nothing happens to one that is not there.

    Args:
        names: the stems of the files.
    """
    for name in names:
        (LAB / f"{name}.py").unlink(missing_ok=True)
        if loaded(name):
            forget(name)
            _api().delete(path(name))


def forget(*dag_ids: str) -> None:
    """Pause DAGs and delete their runs, so that each date can be started again; what the runs wrote stays."""
    pause(*dag_ids)
    for dag_id in dag_ids:
        _cancel_backfill(dag_id)
        for one in runs(dag_id):
            if one["state"] not in OVER:
                _api().patch(path(dag_id, one["dag_run_id"]), json={"state": "failed"})
        wait_for(lambda dag_id=dag_id: not _busy(dag_id), 60, f"the last task of {dag_id} to end")
        for _ in rounds(60, every=0):
            if not (rows := runs(dag_id)):
                break
            for one in rows:
                _api().delete(path(dag_id, one["dag_run_id"]))
        else:
            raise FlowError(f"airflow: {dag_id} still has {len(rows)} runs or more after a minute of deleting them")


def _busy(dag_id: str) -> bool:
    rows = _api().get(path(dag_id, "~", "taskInstances"), params={"state": "running"})
    return bool(rows.json()["total_entries"])


# --- Runs -------------------------------------------------------------------------------------------------------------


def start(dag_id: str, logical_date: str | None = None, conf: Mapping[str, Any] | None = None) -> str:
    """Start a run and return its id. The DAG is unpaused, since a paused one keeps its runs waiting.

    Args:
        logical_date: a moment with a time zone; the run gets the last data interval that is over by then.
        conf: values for the DAG's params.
    """
    _api().patch(path(dag_id), json={"is_paused": False})
    body = {"logical_date": logical_date, "conf": dict(conf or {})}
    return _api().post(path(dag_id) + "/dagRuns", json=body).json()["dag_run_id"]


def rerun(dag_id: str, logical_date: str, conf: Mapping[str, Any] | None = None) -> str:
    """Start the run of that date, or clear it if there is one (which keeps its conf), and return its id."""
    wanted = _moment(logical_date)
    for one in runs(dag_id, order_by="-id"):
        if one["logical_date"] and _moment(one["logical_date"]) == wanted:
            _api().patch(path(dag_id), json={"is_paused": False})
            repeat(dag_id, one["dag_run_id"])
            return one["dag_run_id"]
    return start(dag_id, logical_date, conf)


def pause(*dag_ids: str) -> None:
    """Let DAGs start no new runs by themselves, and no new tasks."""
    for dag_id in dag_ids:
        _api().patch(path(dag_id), json={"is_paused": True})


def run(dag_id: str, run_id: str) -> dict[str, Any]:
    """Ask for one run: state, data_interval_start, run_type, conf ..."""
    return _api().get(path(dag_id, run_id)).json()


def runs(dag_id: str, **filters: Any) -> list[dict[str, Any]]:
    """List the runs of a DAG (100 at most) by logical date, e.g. `state="success"`, `run_type="backfill"`."""
    order = {"order_by": "logical_date", "limit": 100}
    return _api().get(path(dag_id) + "/dagRuns", params={**order, **filters}).json()["dag_runs"]


def triggered_by(dag_id: str, run_id: str) -> str | None:
    """Find the run of a DAG that another DAG's run has started by an asset; None while there is none."""
    for one in runs(dag_id, run_type="asset_triggered"):
        events = _api().get(path(dag_id, one["dag_run_id"], "upstreamAssetEvents")).json()["asset_events"]
        if run_id in [event["source_run_id"] for event in events]:
            return one["dag_run_id"]
    return None


def tasks(dag_id: str, run_id: str) -> list[dict[str, Any]]:
    """List the task instances of a run: task_id, state, try_number, start_date, duration ..."""
    answer = _api().get(path(dag_id, run_id, "taskInstances"), params={"limit": 100})
    return answer.json()["task_instances"]


def states(dag_id: str, run_id: str) -> dict[str, str | None]:
    """List the state of each task of a run, by task_id."""
    return {one["task_id"]: one["state"] for one in tasks(dag_id, run_id)}


def finish(dag_id: str, run_id: str, seconds: float = 120) -> str:
    """Wait until a run is over, and return "success" or "failed"."""
    what = f"{dag_id} {run_id} to end"
    return wait_for(lambda: (s := run(dag_id, run_id)["state"]) in OVER and s, seconds, what, every=0.3)


def watch(dag_id: str, run_id: str, seconds: float = 120) -> str:
    """Print each change of a task's state as it happens, with the seconds since now; the run's state at its end."""
    seen: dict[str, tuple] = {}
    began = time.monotonic()

    def look() -> str | None:
        over = run(dag_id, run_id)["state"]
        for one in sorted(tasks(dag_id, run_id), key=lambda one: one["start_date"] or "~"):
            now = (one["state"], one["try_number"])
            if now[0] and now != seen.get(one["task_id"]):
                seen[one["task_id"]] = now
                print(f"{time.monotonic() - began:5.1f} s  {one['task_id']:<18} {now[0]:<16} try {now[1]}", flush=True)
        return over if over in OVER else None

    state = wait_for(look, seconds, f"{dag_id} {run_id} to end", every=0.25)
    print(f"{time.monotonic() - began:5.1f} s  the run: {state}")
    return state


def repeat(dag_id: str, run_id: str, task_ids: Sequence[str] = (), downstream: bool = True) -> None:
    """Clear tasks of a run, so that the scheduler runs them again; all of them when none is named.

    Args:
        downstream: also clear what comes after the named tasks.
    """
    wanted = {"task_ids": list(task_ids), "include_downstream": downstream} if task_ids else {}
    body = {"dry_run": False, "dag_run_id": run_id, "only_failed": False, **wanted}
    _api().post(path(dag_id) + "/clearTaskInstances", json=body)


def log(dag_id: str, run_id: str, task_id: str, attempt: int = 1) -> list[str]:
    """Read the lines that one attempt of a task logged; one line stands for an exception."""
    url = path(dag_id, run_id, "taskInstances", task_id, "logs", str(attempt))
    content = _api().get(url, headers={"Accept": "application/json"}).json()["content"]
    return list(_lines(content))


def _lines(content: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for entry in content:
        # Without a time: where the lines come from. With `::`: what the page folds.
        if "timestamp" in entry and not entry["event"].startswith("::"):
            yield entry["event"]
        for one in entry.get("error_detail") or []:
            yield f"{one['exc_type']}: {one['exc_value']}".strip()


def backfill(dag_id: str, first: str, last: str, **options: Any) -> int:
    """Ask for one run for each interval whose logical date lies between two moments; the backfill's id.

    Airflow takes one backfill of a DAG at a time, and calls one complete up to half a minute after its last run. So an
    older one is cancelled first, and its runs that are under way are awaited: the same call may be made again at once.

    Args:
        options: e.g. max_active_runs=2, reprocess_behavior="completed" (none, failed or completed).
    """
    _api().patch(path(dag_id), json={"is_paused": False})
    if older := _cancel_backfill(dag_id):
        await_backfill(older)
    body = {"dag_id": dag_id, "from_date": first, "to_date": last, **options}
    return _api().post("/backfills", json=body).json()["id"]


def _cancel_backfill(dag_id: str) -> int | None:
    """Cancel the backfill of a DAG that Airflow does not call complete, if there is one; its id."""
    newest = {"dag_id": dag_id, "order_by": "-id", "limit": 1}  # an older one is complete, or this one were not there
    for one in _api().get("/backfills", params=newest).json()["backfills"]:
        if one["completed_at"]:
            continue
        try:
            _api().put(f"/backfills/{one['id']}/cancel")
        except FlowError:  # unless the scheduler has completed it meanwhile
            if not _api().get(f"/backfills/{one['id']}").json()["completed_at"]:
                raise
        return one["id"]
    return None


def await_backfill(backfill_id: int, seconds: float = 240) -> None:
    """Wait until no run of a backfill is queued or running. (The API says so up to half a minute later.)"""
    left = "select count(*) from dag_run where backfill_id = %s and state in ('queued', 'running')"
    what = f"the runs of backfill {backfill_id} to end"
    wait_for(lambda: sql(left, (backfill_id,), db="airflow").iat[0, 0] == 0, seconds, what, every=0.5)


def slots(count: int, pool: str = "default_pool") -> None:
    """Set how many tasks a pool lets run at a time, over all DAGs. Airflow's own number for the default one is 128."""
    _api().patch(f"/pools/{pool}", json={"slots": count}, params={"update_mask": "slots"})
