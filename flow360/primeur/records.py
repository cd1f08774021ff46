"""Rows as plain Python records, in the form in which they leave the company."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa

from flow360.primeur.clock import PARIS

Record = dict[str, Any]


def local(moment: datetime) -> str:
    """Write a moment as Paris does: 2026-05-07T08:15:00+02:00. Its first ten characters are the business day."""
    return moment.astimezone(PARIS).isoformat()


def utc(moment: datetime) -> str:
    """Write a moment in UTC: 2026-05-07T06:15:00Z."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def outward(data: pa.Table) -> list[Record]:
    """Return the table's rows with moments in local time, dates in ISO, and money as floats with two decimals."""

    return [outward_row(row) for row in data.to_pylist()]


def outward_row(row: Mapping[str, Any]) -> Record:
    """Put one row in the form of `outward`."""

    def value(v: Any) -> Any:
        if isinstance(v, datetime):
            return local(v)
        if isinstance(v, date):
            return v.isoformat()
        return float(v) if isinstance(v, Decimal) else v

    return {k: value(v) for k, v in row.items()}


def by_day(rows: list[Record], column: str) -> dict[str, list[Record]]:
    """Group rows by the business day of a moment, days in order."""
    days: dict[str, list[Record]] = defaultdict(list)
    for row in rows:
        days[row[column][:10]].append(row)
    return dict(sorted(days.items()))
