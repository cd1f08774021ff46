"""Did each arrow of README's picture move something? Asked by the tests that let its programs work."""

from __future__ import annotations

from datetime import datetime

from flow360.monitoring.lineage import graph, journal
from flow360.monitoring.lineage.graph import Arrow

PARTS = {
    "day": {"market-day"},
    "vans": {"market-sensors", "vans-bridge", "cold-chain", "alarms-sink"},
    "night": {"night", "clean", "feed", "dbt"},
    "pipelines": {"hourly_ingestion", "backfill_deliveries", "nightly_quality"},
}
"""The programs of the picture, by the bundle in which they work."""


def at_rest(part: str, since: datetime) -> set[Arrow]:
    """Find the picture's arrows whose programs are of this part, and that have moved nothing since then."""
    wanted = {arrow for arrow in graph.recorded() if arrow.program in PARTS[part]}
    return wanted - graph.moved(_events(since))


def rows_within(program: str, since: datetime) -> int:
    """Count what a program has written since then whose way stays in one place, and so is not in the picture."""
    outputs = [
        dataset
        for event in _events(since)
        if event["job"]["name"] == program and event["eventType"] == "COMPLETE"
        for dataset in event["outputs"]
    ]
    return sum(one["outputFacets"]["outputStatistics"]["rowCount"] for one in outputs)


def _events(since: datetime) -> list[dict]:
    return [one for one in journal.read().events if datetime.fromisoformat(one["eventTime"]) >= since]
