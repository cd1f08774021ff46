"""Exercise 5: which service is saturated."""

from __future__ import annotations

import json
import re
import time
from typing import Any

from flow360 import clients
from flow360.checks import rehearsal
from flow360.checks.c06_metrics.asking import asked
from flow360.checks.verdict import NotYet, exercise, expect, expect_type
from flow360.errors import FlowError, ServiceError
from flow360.monitoring.incidents import LONGEST, SERVICES, Incident

QUEUES = {
    "market-api": "sum(market_api_requests_in_progress)",
    "postgres-dwh": 'sum(pg_stat_activity_count{state="active"})',
    "kafka": "sum(kafka_consumergroup_lag)",
}
QUEUE = 5
"""So many must wait at least."""
WORK = "market_api_requests_total|market_api_request_seconds_.+|kafka_.+_current_offset|pg_stat_database_.+"
"""The metrics that count what was done, and not what waits."""


@exercise
def saturated_service(incident: Any, saturated: Any, evidence: Any) -> None:
    """Check which service has a queue that grew, and the PromQL that shows it."""
    expect_type("incident", incident, Incident)
    expect_type("saturated", saturated, str)
    expect_type("evidence", evidence, str)
    expect(saturated in SERVICES, f"saturated: expected one of {', '.join(SERVICES)}, found {saturated!r}")
    at = min(incident.ended or time.time(), incident.began + LONGEST - 10)  # it ends by itself, and then nothing waits
    # What waits in each service, before and now: the truth is measured, too, and not only remembered.
    grown = {
        name: _one("the queue", promql, at) - _one("the queue", promql, incident.began)
        for name, promql in QUEUES.items()
    }
    if saturated != incident.answer:
        raise NotYet(
            f"saturated: the queue of {saturated} grew by {max(0, grown[saturated]):,.0f}; look at the other two"
        )
    if rate := re.search(r"\b(i?rate|increase|i?delta|deriv)\s*\(", evidence):
        raise NotYet(f"evidence: {rate[1]}() says how busy a service is: how much waits there?")
    calm = f"vector(1) unless sum({_vector(evidence)}) >= {QUEUE}"
    if rehearsal.fails("evidence", calm, [_nothing_waits()]):
        raise NotYet("evidence: in a rehearsal it grows where much is done and nothing waits: how much waits there?")
    before, now = _one("evidence", evidence, incident.began), _one("evidence", evidence, at)
    expect(
        now >= QUEUE and now >= 3 * before,
        f"evidence: {before:,.3g} before and {now:,.3g} in the incident: that is not a queue",
    )


def _nothing_waits() -> rehearsal.Case:
    """Make a minute in which all that counts work rises, and nothing waits."""
    length = 60 // rehearsal.EVERY + 1
    done = [100 * number for number in range(length)]
    series = {
        f"{labels.pop('__name__')}{{{', '.join(f'{key}={json.dumps(value)}' for key, value in labels.items())}}}": done
        for labels, _ in clients.prometheus().series(f'{{__name__=~"{WORK}"}}', minutes=1)
    }
    return rehearsal.Case("much is done", series, (rehearsal.Probe(60, fires=False),))


def _vector(promql: str) -> str:
    """Make a vector of a scalar, too: sum() takes no scalar."""
    scalar = f"vector(\n{promql}\n)"
    try:
        clients.prometheus().query(scalar)
    except ServiceError:
        raise
    except FlowError:
        return f"(\n{promql}\n)"
    return scalar


def _one(name: str, promql: str, at: float) -> float:
    rows = asked(name, promql, at)
    expect(len(rows) <= 1, f"{name}: expected one number, found {len(rows)} series: sum() them")
    return 0.0 if rows.empty else float(rows["value"].iat[0])
