"""What a run of dbt has carried, out of what it leaves behind: manifest.json and run_results.json.

A job for each node that writes rows: table, incremental model, seed, snapshot. A view carries nothing; whoever reads it
reads what it is made of.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from flow360.monitoring import lineage

PROGRAM = "dbt"
WRITING = ("model", "seed", "snapshot")
UNWRITTEN = ("view", "ephemeral")


def emit(folder: Path) -> None:
    """Emit the events of the run that has just left its artifacts here."""
    manifest = json.loads((folder / "manifest.json").read_text("utf-8"))
    results = json.loads((folder / "run_results.json").read_text("utf-8"))["results"]
    for result in results:
        node = manifest["nodes"].get(result["unique_id"])
        if node and node["resource_type"] in WRITING and _materialized(node) not in UNWRITTEN:
            _emit(manifest, node, result)


def _emit(manifest: Mapping[str, Any], node: Mapping[str, Any], result: Mapping[str, Any]) -> None:
    timing = {one["name"]: one for one in result["timing"]}.get("execute")
    if timing is None or result["status"] not in ("success", "error"):
        return  # it was skipped
    done = result["status"] == "success"
    target = _dataset(node)
    job = lineage.Run(f"{PROGRAM}.{node['name']}", sorted(_inputs(manifest, node)), to=target)
    rows = (result["adapter_response"] or {}).get("rows_affected")
    job.say("START", at=_moment(timing["started_at"]))
    if done:
        job.wrote(target, rows if rows is not None and rows >= 0 else None)
    why = "" if done else str(result["message"] or "").strip().partition("\n")[0][:300]
    job.say("COMPLETE" if done else "FAIL", why, _moment(timing["completed_at"]))


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _materialized(node: Mapping[str, Any]) -> str:
    return node.get("config", {}).get("materialized", "")


def _dataset(node: Mapping[str, Any]) -> lineage.Dataset:
    return lineage.Dataset(
        lineage.warehouse("").namespace,
        f"{node['database']}.{node['schema']}.{node.get('alias') or node['identifier']}",
    )


def _inputs(manifest: Mapping[str, Any], node: Mapping[str, Any]) -> set[lineage.Dataset]:
    """Find what a node reads, through views to what holds rows."""
    if node["resource_type"] == "seed":
        return {lineage.Dataset("file", f"dbt/{node['original_file_path']}")}
    found = set()
    for name in node["depends_on"]["nodes"]:
        parent = manifest["sources"].get(name) or manifest["nodes"][name]
        found |= _inputs(manifest, parent) if _materialized(parent) in UNWRITTEN else {_dataset(parent)}
    return found
