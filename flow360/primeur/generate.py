"""Primeur's tables at any size: chunk by chunk, on all cores, always the same bytes.

A chunk is drawn and written to memory by one of `threads` workers (numpy and pyarrow release the GIL while they work);
the chunks are taken out in order, and no more than a few wait. So ten gigabytes need the memory of some chunks, and
neither the number of threads nor their luck can change a byte.

    from flow360.primeur.generate import customers_csv, table
    rows, size = customers_csv("customers.csv", rows=1_000_000)
    orders = table("orders", Plan(scale=0.01))
"""

from __future__ import annotations

import io
import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import BinaryIO, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from flow360.primeur import catalogue, customers, fleet, orders, tours, weather
from flow360.primeur.copying import csv_bytes
from flow360.primeur.plan import CHUNK, SEED_PLAN, Plan
from flow360.primeur.schema import FLEET, TABLES

T = TypeVar("T")
Maker = Callable[[Plan, int], pa.Table]


def _one(plan: Plan) -> int:
    return 1


_MAKERS: dict[str, tuple[Maker, Callable[[Plan], int]]] = {
    "customers": (customers.customers, lambda plan: -(-plan.customers // CHUNK)),
    "stores": (catalogue.stores, _one),
    "products": (catalogue.products, _one),
    "orders": (orders.orders, lambda plan: len(orders.chunks(plan))),
    "order_lines": (orders.order_lines, lambda plan: len(orders.chunks(plan))),
    "payments": (orders.payments, lambda plan: len(orders.chunks(plan))),
    "van_routes": (tours.van_routes, lambda plan: len(plan.waves())),
    "deliveries": (orders.deliveries, lambda plan: len(orders.chunks(plan))),
    "temperatures": (tours.temperatures, tours.temperature_chunks),
    "reviews": (orders.reviews, lambda plan: len(orders.chunks(plan))),
    "price_lists": (catalogue.price_lists, _one),
    "weather": (weather.weather, _one),
    "stock": (catalogue.stock, _one),
    "vans": (fleet.vans, _one),
    "drivers": (fleet.drivers, _one),
    "tours": (fleet.tours, _one),
    "maintenance": (fleet.maintenance, _one),
}


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _ordered(make: Callable[[int], T], n: int, threads: int) -> Iterator[T]:
    """Yield the results of make(0) … make(n - 1) in order, `threads` at work, at most two more waiting."""
    if threads <= 1 or n == 1:
        yield from map(make, range(n))
        return
    with ThreadPoolExecutor(threads) as pool:
        waiting = deque()
        for number in range(n):
            waiting.append(pool.submit(make, number))
            if len(waiting) >= threads + 2:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def chunks(name: str, plan: Plan = SEED_PLAN, threads: int | None = None) -> Iterator[pa.Table]:
    """Yield the chunks of a table in order.

    Args:
        name: one of `schema.TABLES` or `schema.FLEET`.
        plan: seed, scale and days.
        threads: workers; None means one for each core. It does not change the result.

    Raises:
        ValueError: there is no such table.
    """
    make, count = _maker(name)
    yield from _ordered(lambda n: make(plan, n), count(plan), threads or _cores())


def _maker(name: str) -> tuple[Maker, Callable[[Plan], int]]:
    if name not in _MAKERS:
        raise ValueError(f"no table {name!r}: one of {', '.join(_MAKERS)}")
    return _MAKERS[name]


def table(name: str, plan: Plan = SEED_PLAN) -> pa.Table:
    """Build a whole table in memory."""
    return pa.concat_tables(list(chunks(name, plan)))


def write_csv(
    name: str, target: str | Path | BinaryIO, plan: Plan = SEED_PLAN, threads: int | None = None
) -> tuple[int, int]:
    """Write a table as CSV.

    Args:
        target: a path, or a file opened for bytes (`io.BytesIO`, a pipe).

    Returns:
        (rows, bytes) written, the header's bytes included.
    """
    make, count = _maker(name)

    def one(n: int) -> tuple[int, pa.Buffer]:
        data = make(plan, n)
        return len(data), csv_bytes(data, header=n == 0)

    rows = size = 0
    with Path(target).open("wb") if isinstance(target, str | Path) else nullcontext(target) as file:
        for n, buffer in _ordered(one, count(plan), threads or _cores()):
            file.write(buffer)
            rows, size = rows + n, size + buffer.size
    return rows, size


def write_parquet(
    name: str, path: str | Path, plan: Plan = SEED_PLAN, threads: int | None = None, compression: str = "zstd"
) -> int:
    """Write a table as Parquet, one row group a chunk. Returns the rows.

    The content follows from the plan; the bytes also follow from the version of pyarrow, which signs the file.
    """
    rows = 0
    with pq.ParquetWriter(path, (TABLES | FLEET)[name].arrow, compression=compression) as writer:
        for chunk in chunks(name, plan, threads):
            writer.write_table(chunk, row_group_size=max(1, len(chunk)))
            rows += len(chunk)
    return rows


def customers_csv(
    target: str | Path | BinaryIO | None = None,
    rows: int = 1_000_000,
    seed: int = SEED_PLAN.seed,
    threads: int | None = None,
) -> tuple[int, int]:
    """Write `rows` customers (12 columns, about 170 bytes a row) as CSV: what `flow360 bench` measures.

    Args:
        target: where to; None keeps nothing but the count.

    Returns:
        (rows, bytes).
    """
    sink = _Nowhere() if target is None else target
    return write_csv("customers", sink, Plan(seed=seed, scale=rows / 800_000), threads)


class _Nowhere(io.RawIOBase):
    """A file that forgets what it is given."""

    def writable(self) -> bool:
        return True

    def write(self, data) -> int:  # noqa: ANN001 - any buffer
        return len(data)
