"""The clean zone of the lake: where a table's rows of a day lie, and how they are read without Spark.

    /clean/orders/business_day=2026-05-07/part-….parquet

What makes them is flow360/processing/clean.py.
"""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq

if TYPE_CHECKING:
    import pyarrow as pa

    from flow360.clients.webhdfs import Lake

ZONE = "/clean"
KEY = "business_day"
"""What a day's folder is called by, and Hive's column of it."""


def partition(table: str, day: date) -> str:
    """Name the folder where a table's rows of a day lie."""
    return f"{ZONE}/{table}/{KEY}={day}"


def read(lake: Lake, table: str, day: date, **options: Any) -> pa.Table:
    """Read the rows of a table for a day; `columns` and `filters` as pyarrow takes them.

    Raises:
        FileNotFoundError: no night has brought this day.
    """
    return pq.read_table(partition(table, day), filesystem=lake, partitioning=None, **options)
