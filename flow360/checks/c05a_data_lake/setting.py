"""What the exercises share: places in HDFS, and an order's columns."""

from __future__ import annotations

import os
import re
from typing import Any

from flow360.checks import liberal
from flow360.settings import ROOT

DAY = "2026-05-07"
FILES = ROOT / "data" / "seed" / "files"
ORDERS = "/lab/clean/orders"

COLUMNS = {
    "order_id": "bigint",
    "customer_id": "bigint",
    "store_id": "bigint",
    "ordered_at": "timestamp",
    "channel": "string",
    "status": "string",
    "items": "bigint",
    "total_eur": "double",
}


def place(name: str, value: Any) -> str:
    """Take a path of HDFS: a text or a path object, with or without hdfs://…, with or without a slash at its end."""
    text = os.fspath(value) if isinstance(value, os.PathLike) else liberal.text(name, value)
    return re.sub(r"^hdfs:/*[^/]*(?=/)", "", text).rstrip("/") if "://" in text else text.rstrip("/")
