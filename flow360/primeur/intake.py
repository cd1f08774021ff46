"""Whole rows out of bytes: `records` of a file, `rows` of its bytes or of a page of an API, `document` of a message.

No row is lost, and none costs another.

Each row comes out as a `Record`: right, or with the reason why it is not, and always with the bytes that it was. What
cannot be read at all (a header with other columns, UTF-16, half a Parquet file) is a record with its reason, too, so
for each file: records read = right + set aside.

- Text is split at line feeds only. U+2028 and its like are characters of a note. A file that has none, but carriage
  returns, is one of an old Macintosh.
- A row of CSV may go over several lines, in quotes. Quotes that are never closed, or only in another row, cost the line
  that opened them.
- The header of CSV is read: columns are taken by name, in any order, and there must be exactly those of the contract.
"""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flow360.primeur.contract import Contract, storable

if TYPE_CHECKING:
    import pyarrow as pa

LINES = 50
"""Lines that one row of CSV can have: a quote that is not closed by then never will be."""
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Record:
    """One row, judged.

    Attributes:
        line: where it begins in its file, from 1; in Parquet the row, from 1.
        original: its bytes, without the line's end.
        values: column -> value as delivered, as far as the row could be divided.
        defect: why it is not right; "" when it is.
        right: the typed values of a right row.
        fits: whether the row could be divided into the columns, right or not.
    """

    line: int
    original: bytes
    values: dict[str, Any] = field(default_factory=dict)
    defect: str = ""
    right: dict[str, Any] | None = None
    fits: bool = True

    def shown(self, encoding: str = "utf-8") -> str:
        """Show the original as a text for people, which PostgreSQL can hold; bytes of another encoding as `\\xe9`."""
        return self.original.decode(encoding, "backslashreplace").replace("\0", "\\x00")


def records(contract: Contract, path: Path) -> Iterator[Record]:
    """Yield the rows of a file, in order. It does not raise: a file that is missing or unreadable is one bad record."""
    try:
        data = path.read_bytes()
    except OSError as error:
        yield Record(1, b"", defect=f"the file cannot be read ({error.strerror or type(error).__name__})", fits=False)
        return
    yield from rows(contract, data)


def rows(contract: Contract, data: bytes) -> Iterator[Record]:
    """Yield the rows in the bytes of a file, or the items of a page of an API. It does not raise."""
    yield from {"csv": _csv, "jsonl": _jsonl, "parquet": _parquet, "json": _page}[contract.format](contract, data)


def document(contract: Contract, data: bytes | None, line: int = 1) -> Record:
    """Read one JSON object: a message, or a line of a file."""
    data = data or b""
    if not data.strip():
        return Record(line, data, defect="an empty line or message", fits=False)
    text, defect = _decoded(contract, data)
    try:
        values = parse(text)
    except Exception as error:  # noqa: BLE001 - ValueError, RecursionError, MemoryError: a parser has many ways
        why = str(error) if isinstance(error, Twice) else f"not JSON ({type(error).__name__})"
        return Record(line, data, defect=defect or why, fits=False)
    if not isinstance(values, dict):
        return Record(line, data, defect=defect or f"JSON, but not an object ({type(values).__name__})", fits=False)
    return _judged(contract, line, data, values, defect)


class Twice(ValueError):
    """A JSON object in which one name stands twice: parsers differ in which of the two they believe."""


def parse(text: str) -> Any:
    """Parse JSON as the standard has it, to the last digit. NaN and Infinity, which it has not, become floats.

    Raises:
        Twice: a name stands twice in an object.
        ValueError, RecursionError: as `json.loads`.
    """
    return _EXACT.decode(text)


def parse_finite(text: str) -> Any:
    """Parse JSON as the standard has it, with floats; NaN, Infinity and what no float can hold (1e999) are refused.

    Raises:
        Twice, ValueError, RecursionError: as `parse`.
    """
    return _FINITE.decode(text)


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:20]} is not a number that JSON and a float both have")
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise Twice("a name stands twice in the object")
    return found


# Made once: with arguments, `json.loads` would make one for each message.
_EXACT = json.JSONDecoder(parse_float=Decimal, object_pairs_hook=_object)
_FINITE = json.JSONDecoder(parse_float=_finite, parse_constant=_finite, object_pairs_hook=_object)


def _judged(contract: Contract, line: int, original: bytes, values: dict[str, Any], defect: str) -> Record:
    if defect:
        return Record(line, original, values, defect)
    right, defect = contract.judge(values)
    return Record(line, original, values, defect, right)


# --- Text -------------------------------------------------------------------------------------------------------------


def _decoded(contract: Contract, data: bytes) -> tuple[str, str]:
    """Decode the text, and name the defect when the bytes are not of the contract's encoding: U+FFFD stands there."""
    try:
        text = data.decode(contract.encoding)
    except UnicodeDecodeError:
        return data.decode(contract.encoding, "replace"), f"not {contract.encoding}"
    if contract.encoding != "utf-8" and not data.isascii():
        try:  # nearly all bytes mean something in an encoding of one byte a character; UTF-8's pattern is no accident
            data.decode("utf-8")
        except UnicodeDecodeError:
            return text, ""
        return text, f"not {contract.encoding} but utf-8"
    return text, ""


def _lines(data: bytes) -> list[bytes]:
    data = data.removeprefix(_BOM)
    if b"\n" not in data and b"\r" in data:
        data = data.replace(b"\r", b"\n")
    lines = data.removesuffix(b"\n").split(b"\n") if data else []
    return [line.removesuffix(b"\r") for line in lines] if b"\r" in data else lines


def _jsonl(contract: Contract, data: bytes) -> Iterator[Record]:
    if not data:
        yield Record(1, data, defect="the file is empty", fits=False)
    for number, line in enumerate(_lines(data), 1):
        yield document(contract, line, number)


def _page(contract: Contract, data: bytes) -> Iterator[Record]:
    """Yield the items of `{"items": [...], …}`, each with its own bytes; what is not a page is one record."""
    text = data.decode(contract.encoding, "surrogateescape")  # bytes of another encoding cost their item only
    try:
        json.loads(text)
        spans = _items(text)
    except Exception as error:  # noqa: BLE001 - as in `document`
        yield Record(1, data, defect=f"not a page of JSON ({type(error).__name__})", fits=False)
        return
    for number, (begin, end) in enumerate(spans, 1):
        yield document(contract, text[begin:end].encode(contract.encoding, "surrogateescape"), number)


_SPACE = re.compile(r"[ \t\n\r]*")


def _items(text: str) -> list[tuple[int, int]]:
    """Find where each item of a page begins and ends.

    Raises:
        ValueError: it is not an object with a list called items.
    """
    decode = json.JSONDecoder().raw_decode

    def past(at: int, token: str) -> int:
        at = _SPACE.match(text, at).end()
        if not text.startswith(token, at):
            raise ValueError(f"{token} expected")
        return _SPACE.match(text, at + len(token)).end()

    at = past(0, "{")
    while True:
        name, at = decode(text, at)
        at = past(at, ":")
        if name == "items":
            break
        at = past(decode(text, at)[1], ",")
    at, found = past(at, "["), []
    while not text.startswith("]", at):
        begin = past(at, ",") if found else at
        end = decode(text, begin)[1]
        found.append((begin, end))
        at = _SPACE.match(text, end).end()
    return found


def _csv(contract: Contract, data: bytes) -> Iterator[Record]:
    lines = _lines(data)
    refused, names = _header(contract, lines[0] if lines else b"")
    if refused:
        for number, line in enumerate(lines or [b""], 1):
            yield Record(number, line, defect=refused, fits=False)
        return
    at = 1
    while at < len(lines):
        fields, defect, end = _row(contract, lines, at, len(names))
        original = lines[at] if end == at + 1 else b"\n".join(lines[at:end])
        values = dict(zip(names, fields, strict=False))
        if len(fields) == len(names):
            yield _judged(contract, at + 1, original, values, defect)
        else:
            why = "wrong number of fields" if original else "an empty line or message"
            yield Record(at + 1, original, values, defect or why, fits=False)
        at = end


def _header(contract: Contract, line: bytes) -> tuple[str, list[str]]:
    """Say why the header is refused, or "", and return the names of its columns."""
    text, defect = _decoded(contract, line)
    if defect or not line:
        return f"header: {defect or 'missing'}", []
    try:
        (names,) = csv.reader([text], delimiter=contract.delimiter, strict=True)
    except (csv.Error, ValueError):
        return "header: not CSV", []
    wrong = {
        "twice": [name for name in names if names.count(name) > 1],
        "missing": [name for name in contract.columns if name not in names],
        "not in the contract": [name for name in names if name not in contract.columns],
    }
    for why, which in wrong.items():
        if which:
            return storable(f"header: {which[0]!r:.60} {why}"), []
    return "", names


def _row(contract: Contract, lines: Sequence[bytes], at: int, wanted: int) -> tuple[list[str], str, int]:
    """Read the row that begins at a line: its fields, its defect, and the line behind it."""
    if b'"' not in lines[at] and b"\r" not in lines[at]:
        text, defect = _decoded(contract, lines[at])
        return text.split(contract.delimiter) if text else [], defect, at + 1
    for end in range(at + 1, min(at + LINES, len(lines)) + 1):
        text, defect = _decoded(contract, b"\n".join(lines[at:end]))
        try:
            (fields,) = csv.reader([text], delimiter=contract.delimiter, strict=True)
        except (csv.Error, ValueError) as error:
            if "unexpected end of data" in str(error):  # a quote is open: the row goes on
                continue
            break
        inside = [line for value in fields if "\n" in value for line in value.split("\n")]
        swallowed = any(line.count(contract.delimiter) >= wanted - 1 for line in inside)
        if end == at + 1 or (len(fields) == wanted and not swallowed):
            return fields, defect, end
        break
    return [], "", at + 1


# --- Parquet ----------------------------------------------------------------------------------------------------------


class Unreadable:
    """Stands for a value that Python has no room for, such as a moment of the year 20,000."""

    def __str__(self) -> str:
        return "unreadable"


def _parquet(contract: Contract, data: bytes) -> Iterator[Record]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(pa.BufferReader(data), coerce_int96_timestamp_unit="us")
        table, leaves = file.read(), [file.schema.column(n) for n in range(len(file.schema))]
    except Exception as error:  # noqa: BLE001 - half a file, another compression, a key that we have not
        yield Record(1, data, defect=f"not Parquet ({type(error).__name__})", fits=False)
        return
    names = table.column_names
    # Its moments have no zone in the file, and are UTC by the habit of all who write this type (Spark, Hive, Impala).
    old = {leaf.path for leaf in leaves if leaf.physical_type == "INT96"}
    columns = [
        _values(column.cast(pa.timestamp("us", "UTC")) if name in old else column)
        for name, column in zip(names, table.columns, strict=True)
    ]
    refused = ""
    if sorted(names) != sorted(contract.columns):
        wrong = sorted({*names} ^ {*contract.columns}) or sorted(n for n in names if names.count(n) > 1)
        refused = storable(f"columns: {wrong[0]!r:.60} is missing, twice or not in the contract")
        if not table.num_rows:
            yield Record(1, data, defect=refused, fits=False)
    for number, values in enumerate(zip(*columns, strict=True), 1):
        original = _written(names, values)
        if refused:
            yield Record(number, original, defect=refused, fits=False)
        else:
            yield _judged(contract, number, original, dict(zip(names, values, strict=True)), "")


def _written(names: Sequence[str], values: Sequence[Any]) -> bytes:
    """Write a row of Parquet, which has no bytes of its own, as JSON; a name may stand twice in it, as in the file."""
    try:
        pairs = [
            f"{json.dumps(n)}: {json.dumps(v, default=str, ensure_ascii=False)}"
            for n, v in zip(names, values, strict=True)
        ]
    except Exception as error:  # noqa: BLE001 - brackets in brackets, deeper than JSON is written
        pairs = [f'"row": "cannot be written ({type(error).__name__})"']
    return ("{" + ", ".join(pairs) + "}").encode("utf-8", "backslashreplace")


def _values(column: pa.ChunkedArray) -> list[Any]:
    try:
        return column.to_pylist()
    except Exception:  # noqa: BLE001 - OverflowError, ValueError, UnicodeDecodeError: one value costs one row
        return [_value(one) for one in column]


def _value(scalar: pa.Scalar) -> Any:
    try:
        return scalar.as_py()
    except Exception:  # noqa: BLE001 - as above
        return Unreadable()
