"""Content compared with content: rows as a multiset, the first difference named by its key; what must stay as it is.

expect_rows("load_orders", found=rows("select * from staging.load"), expected=truth, key=("order_id",))

before = fingerprint(query)
...
expect_untouched("load_orders", "the days beside it", before, fingerprint(query))
"""

from __future__ import annotations

import hashlib
import math
import numbers
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from flow360 import clients
from flow360.checks.verdict import NotYet, expect, shown

Row = Mapping[str, Any]


def rows(query: str, params: Sequence[Any] | Mapping[str, Any] | None = None, db: str = "warehouse") -> list[dict]:
    """Read rows as dicts, with the server's own types: a numeric is a Decimal."""
    from psycopg.rows import dict_row

    with clients.postgres(db) as connection:
        return connection.cursor(row_factory=dict_row).execute(query, params).fetchall()


def expect_rows(
    name: str,
    *,
    found: Iterable[Row],
    expected: Iterable[Row],
    key: Sequence[str],
    what: str = "rows",
    why: str = "",
) -> None:
    """Raise NotYet unless both hold the same rows, each as often; their order does not matter.

    Numbers are compared by value (4, 4.0 and Decimal("4.00") are one), moments as points in time. The columns are those
    of the expected rows; what a found row has beyond them is left alone.

    Args:
        name: the learner's variable, at the beginning of the message.
        key: the columns that name a row.
        what: what the message calls the rows.
        why: a nudge at its end, not the answer.
    """
    truth, mine = [dict(row) for row in expected], [dict(row) for row in found]
    columns = list(truth[0]) if truth else list(key)
    tail = f": {why}" if why else ""
    for row in mine:
        if missing := [column for column in columns if column not in row]:
            raise NotYet(f"{name}: {_called(row, key)} has no {missing[0]}{tail}")
    wanted, there = (Counter(tuple(_plain(row[c]) for c in columns) for row in side) for side in (truth, mine))
    if wanted == there:
        return
    of_key = [columns.index(column) for column in key]
    keys, mine_keys = (Counter(tuple(row[n] for n in of_key) for row in side.elements()) for side in (wanted, there))
    lost, more = keys - mine_keys, mine_keys - keys
    counts = f"expected {shown(wanted.total())} {what}, found {shown(there.total())}"
    if lost:
        raise NotYet(f"{name}: {counts}: {_many(lost)} missing, such as {_key(lost, key)}{tail}")
    if more:
        doubled = "there more than once" if next(iter(more)) in keys else "not expected"
        raise NotYet(f"{name}: {counts}: {_many(more)} {doubled}, such as {_key(more, key)}{tail}")
    differ = there - wanted
    first = next(iter(differ))
    place = tuple(first[n] for n in of_key)
    other = next(row for row in wanted - there if tuple(row[n] for n in of_key) == place)
    column = next(n for n in range(len(columns)) if first[n] != other[n])
    raise NotYet(
        f"{name}: {_many(differ)} with another value, such as {_key({place: 1}, key)}: {columns[column]} "
        f"expected {_text(other[column])}, found {_text(first[column])}{tail}"
    )


def _plain(value: Any) -> Any:
    """Replace a value by one that is equal where two libraries say the same, and can be counted."""
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return None
    if isinstance(value, bool) or type(value).__name__ == "bool":
        return ("bool", bool(value))
    if isinstance(value, numbers.Integral):
        return Decimal(int(value))
    if isinstance(value, numbers.Real | Decimal):
        return Decimal(str(value)) if math.isfinite(value) else repr(float(value))
    if isinstance(value, datetime):
        return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=None)
    if isinstance(value, date | str | bytes):
        return value
    if isinstance(value, Mapping):
        return tuple(sorted((str(k), _plain(v)) for k, v in value.items()))
    if isinstance(value, list | tuple):
        return tuple(map(_plain, value))
    return repr(value)


def _text(value: Any) -> str:
    if isinstance(value, tuple) and value[:1] == ("bool",):
        value = value[1]
    return str(value) if isinstance(value, Decimal | date) else shown(value)


def _called(row: Row, key: Sequence[str]) -> str:
    there = [f"{column} {_text(_plain(row[column]))}" for column in key if column in row]
    return ", ".join(there) or shown(dict(row))


def _key(places: Mapping[tuple, int], key: Sequence[str]) -> str:
    first = min(places, key=repr)
    return ", ".join(f"{column} {_text(value)}" for column, value in zip(key, first, strict=True))


def _many(count: Counter) -> str:
    return "1 is" if count.total() == 1 else f"{shown(count.total())} are"


# --- what must stay as it is ------------------------------------------------------------------------------------------


def fingerprint(query: str, params: Sequence[Any] | None = None, db: str = "warehouse") -> tuple[int, str]:
    """Take the number of rows that a query gives, and a digest of them in any order."""
    lines = sorted(repr(tuple(row.values())) for row in rows(query, params, db))
    return len(lines), hashlib.sha256("\n".join(lines).encode()).hexdigest()


def fingerprint_files(files: Iterable[Path]) -> dict[str, str]:
    """Take a digest of each file's bytes, by name."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(files)}


def expect_untouched(name: str, what: str, before: Any, after: Any) -> None:
    """Raise NotYet unless two fingerprints are the same: "load: the days beside it were changed"."""
    expect(before == after, f"{name}: {what} changed, and should have been left as it was")
