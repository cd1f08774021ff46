"""How the checks of 06 ask Prometheus for the learner."""

from __future__ import annotations

import pandas as pd

from flow360 import clients
from flow360.checks.verdict import NotYet
from flow360.errors import FlowError, ServiceError


def asked(name: str, promql: str, at: float | None = None) -> pd.DataFrame:
    """Ask the learner's expression; what Prometheus says against it is the verdict."""
    try:
        return clients.prometheus().query(promql, at)
    except ServiceError:
        raise
    except FlowError as error:
        raise NotYet(f"{name}: {error}") from None


def values_by(rows: pd.DataFrame, label: str) -> dict[str, float]:
    """Return the numbers of an answer by a label; none where it has no such label; what is not a number is left out."""
    if label not in rows:
        return {}
    return rows.dropna(subset="value").set_index(label)["value"].to_dict()
