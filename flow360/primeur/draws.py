"""Random draws that give the same bytes on every machine.

Integers only: a weighted draw or a temperature in hundredths has no rounding that a CPU could do another way.
Each (seed, table, chunk) has a generator of its own, so a chunk never depends on who made the chunk before it.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from flow360.primeur.schema import MONEY, UTC


def rng(seed: int, name: str, *chunk: int) -> np.random.Generator:
    """Make the generator of one chunk of one table. `crc32` because `hash()` of a text changes with each process."""
    return np.random.default_rng([seed, zlib.crc32(name.encode()), *chunk])


def pick(generator: np.random.Generator, n: int, weights: Sequence[int]) -> np.ndarray:
    """Draw `n` indices into `weights`, in proportion to these whole numbers."""
    edges = np.cumsum(np.asarray(weights, np.int64))
    return np.searchsorted(edges, generator.integers(0, edges[-1], n), side="right")


def mix(seed: int, name: str, ids: np.ndarray) -> np.ndarray:
    """Hash each id to 64 bits (splitmix64): a draw that any table can repeat from the id alone.

    Args:
        ids: whole numbers, shape (n,).

    Returns:
        uint64, shape (n,), uniform.
    """
    salt = np.uint64((seed * 0x9E3779B97F4A7C15 + zlib.crc32(name.encode())) % 2**64)
    z = ids.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + salt
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def below(seed: int, name: str, ids: np.ndarray, n: int) -> np.ndarray:
    """Hash each id to a number below `n`: int64, shape of `ids`."""
    return (mix(seed, name, ids) % np.uint64(n)).astype(np.int64)


def money(cents: np.ndarray) -> pa.Array:
    """Convert whole cents to exact decimals: 1234 is 12.34. A decimal128 is two 64-bit words, the low one first."""
    words = np.empty((len(cents), 2), np.int64)
    words[:, 0] = cents
    words[:, 1] = words[:, 0] >> 63
    return pa.Array.from_buffers(MONEY, len(cents), [None, pa.py_buffer(words)])


def moments(seconds: np.ndarray) -> pa.Array:
    """Convert seconds since 1970 to UTC timestamps."""
    return pa.array(seconds.astype(np.int64)).cast(UTC)


def dates(days: np.ndarray) -> pa.Array:
    """Convert days since 1970 to dates."""
    return pa.array(days.astype(np.int32)).cast(pa.date32())


def take(pool: pa.Array, indices: np.ndarray) -> pa.Array:
    """Take the pool's values at these indices."""
    return pool.take(pa.array(indices))


def texts(values: Sequence[str | None]) -> pa.Array:
    return pa.array(values, pa.string())


def joined(*parts: pa.Array | str, by: str = "") -> pa.Array:
    """Glue texts row by row; a plain string stands for itself in every row."""
    return pc.binary_join_element_wise(*parts, by)
