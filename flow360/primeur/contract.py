"""What a row of each channel looks like, and the judge who holds rows against it.

`contracts/*.odcs.yaml` say it, in the form of the Open Data Contract Standard: one file a channel, columns by name.
Everybody who takes rows in asks here, so that the nightly file, the landing tables, the consumers on Kafka, dbt's tests
and data/README.md cannot tell different stories:

    contract("orders_csv").judge({"order_id": "100001", ...})     ({"order_id": 100001, ...}, "")
    contract("orders_csv").judge({"order_id": "2_0001", ...})     (None, "order_id: not a whole number")

A value is right in the channel's own grammar, which is narrower than Python's and PostgreSQL's: no `2_0001`, no
`1.5e3`, no moment without its offset. It is in the column's range, which fits the type of the table that it goes to.
Whole rows out of bytes are the job of `intake`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime
from decimal import Decimal
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NotRequired

from pydantic import BeforeValidator, ConfigDict, Field, TypeAdapter
from pydantic_core import PydanticCustomError
from typing_extensions import TypedDict

from flow360.errors import FlowError

if TYPE_CHECKING:
    from open_data_contract_standard.model import CustomProperty, SchemaProperty

FOLDER = Path(__file__).parent / "contracts"
NAMES = tuple(sorted(path.name.removesuffix(".odcs.yaml") for path in FOLDER.glob("*.odcs.yaml")))
"""The contracts, by the names of their files."""

PLACES = 20
"""Decimals of a number whose contract says nothing about them: as many as a double ever shows."""
LONGEST_REASON = 200
AHEAD = "ahead of"
"""So a reason says that a moment is later than the one it may not be after."""
UNSTORABLE = re.compile("[\0\ud800-\udfff]")
"""What PostgreSQL's text cannot hold: NUL, and half a pair of surrogates (JSON can spell it)."""
_UNREADABLE = re.compile("[\0\ud800-\udfff\ufffd]")
_TYPES = {"integer": int, "number": Decimal, "string": str, "boolean": bool, "timestamp": datetime, "date": date}
_REASONS = {
    "missing": "missing",
    "extra_forbidden": "not in the contract",
    "greater_than_equal": "out of range",
    "less_than_equal": "out of range",
    "literal_error": "not one of the known values",
    "string_too_long": "too long",
}
"""Pydantic's kinds of error, in the words of a quarantine. Ours bring their own."""


def _wrong(why: str) -> PydanticCustomError:
    return PydanticCustomError("contract", why)


@dataclass(frozen=True)
class Column:
    """One column of a contract.

    Attributes:
        kind: ODCS's logical type: integer, number, string, boolean, timestamp or date.
        required: whether a value must be there; an empty text is none.
        rules: (pattern of the whole text, reason) for values that are texts.
        least, most: both allowed; None where the kind has no order.
        places: decimals of a number, at most; exactly so many in its canonical text.
        values: the only ones allowed; empty allows all.
        longest: characters of a text, at most.
        key: a part of what makes a row one row.
        unit: "" where a value has none.
        decimal_mark: of a number that comes as text.
        not_after: the column whose moment this one may not be after, "" where there is none.
        ahead: seconds that it may be after it all the same: no two clocks agree.
    """

    name: str
    kind: str
    required: bool
    rules: tuple[tuple[re.Pattern[str], str], ...] = ()
    least: Any = None
    most: Any = None
    places: int | None = None
    values: tuple[str, ...] = ()
    longest: int | None = None
    key: bool = False
    unit: str = ""
    decimal_mark: str = "."
    not_after: str = ""
    ahead: int = 0

    def is_ahead(self, right: Mapping[str, Any]) -> bool:
        """Say whether its moment is too far after the one that it may not be after."""
        mine, other = right.get(self.name), right.get(self.not_after)
        return bool(mine and other) and (mine - other).total_seconds() > self.ahead

    @property
    def type(self) -> Any:
        """What pydantic asks of a value of this column."""
        kind: Any = Literal[self.values] if self.values else _TYPES[self.kind]
        kind = Annotated[kind, Field(ge=self.least, le=self.most, max_length=self.longest)]
        return Annotated[kind if self.required else kind | None, BeforeValidator(self.convert)]

    def convert(self, value: Any) -> Any:
        """Convert a value as it was delivered to one of the column's kind; its range is not looked at yet.

        Raises:
            PydanticCustomError: it is missing, or not of the grammar; the message is the reason.
        """
        if value is None or value == "":
            if self.required:
                raise PydanticCustomError("missing", "missing")
            return None
        if isinstance(value, str):
            for pattern, why in self.rules:
                if not pattern.fullmatch(value):
                    raise _wrong(why)
        return _CONVERT[self.kind](self, value)

    def text(self, value: Any) -> str | None:
        """Write a right value in the one way that PostgreSQL reads as the same value under every setting."""
        if value is None or isinstance(value, str):
            return value
        if isinstance(value, bool):
            return str(value).lower()
        if isinstance(value, Decimal):
            return f"{value:f}" if self.places is None else f"{value:.{self.places}f}"
        return value.isoformat() if isinstance(value, date) else str(value)


def _integer(column: Column, value: Any) -> int:
    if isinstance(value, str) and column.rules:
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise _wrong("not a whole number")
    return value


def _number(column: Column, value: Any) -> Decimal:
    if isinstance(value, str) and column.rules:
        value = Decimal(value.replace(column.decimal_mark, "."))
    elif isinstance(value, float):
        value = Decimal(repr(value))
    elif isinstance(value, int) and not isinstance(value, bool):
        value = Decimal(value)
    if not isinstance(value, Decimal) or not value.is_finite():
        raise _wrong("not a number")
    if -value.as_tuple().exponent > (PLACES if column.places is None else column.places):
        raise _wrong(f"more than {PLACES if column.places is None else column.places} decimals")
    return value


def _string(column: Column, value: Any) -> str:
    if not isinstance(value, str):
        raise _wrong("not a text")
    if _UNREADABLE.search(value):
        raise _wrong("not readable (NUL, or a character that was lost)")
    return value


def _boolean(column: Column, value: Any) -> bool:
    if isinstance(value, str) and column.rules:
        return value == "t"
    if not isinstance(value, bool):
        raise _wrong("not true or false")
    return value


def _timestamp(column: Column, value: Any) -> datetime:
    if isinstance(value, str) and column.rules:
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            raise _wrong("not a moment") from None
    if not isinstance(value, datetime):
        raise _wrong("not a moment with its offset")
    if value.tzinfo is None:
        raise _wrong("a moment without its offset")
    if getattr(value, "nanosecond", 0):
        raise _wrong("finer than a microsecond")
    return value


def _date(column: Column, value: Any) -> date:
    if isinstance(value, str) and column.rules:
        try:
            return date.fromisoformat(value)
        except ValueError:
            raise _wrong("not a day") from None
    if isinstance(value, datetime) or not isinstance(value, date):
        raise _wrong("not a day")
    return value


_CONVERT: dict[str, Callable[[Column, Any], Any]] = {
    "integer": _integer,
    "number": _number,
    "string": _string,
    "boolean": _boolean,
    "timestamp": _timestamp,
    "date": _date,
}


@dataclass(frozen=True)
class Contract:
    """One channel's rows.

    Attributes:
        name: the file's.
        title: for people.
        table: the table that the rows belong to: of `schema.TABLES`, but for what only travels over Kafka.
        grain: what one row is.
        columns: by name.
        format: csv, jsonl, parquet or json (one document at a time).
        path: of the files in the drop zone, a pattern; of a service, the API's path or the topic.
        encoding, delimiter: of a text file.
    """

    name: str
    title: str
    table: str
    grain: str
    columns: Mapping[str, Column]
    format: str
    path: str
    encoding: str = "utf-8"
    delimiter: str = ","

    @property
    def is_file(self) -> bool:
        """Whether its rows come as files of the drop zone, not one document at a time."""
        return self.format != "json"

    @property
    def is_daily(self) -> bool:
        """Whether a file has one day in its name, and the rows of that day; another has rows of many days."""
        return self.is_file and "*" in self.path

    @cached_property
    def _judge(self) -> TypeAdapter[dict[str, Any]]:
        fields = {c.name: c.type if c.required else NotRequired[c.type] for c in self.columns.values()}
        row = TypedDict(self.name, fields)
        row.__pydantic_config__ = ConfigDict(strict=True, extra="forbid", arbitrary_types_allowed=True)
        return TypeAdapter(row)

    def judge(self, values: Mapping[str, Any]) -> tuple[dict[str, Any] | None, str]:
        """Hold one row against the contract. It does not raise, whatever stands in the row.

        Args:
            values: column -> value as delivered: texts of a CSV file, JSON's or Parquet's values.

        Returns:
            (typed values, "") for a right row, otherwise (None, the reason).
        """
        try:
            right = self._judge.validate_python(values)
        except Exception as error:  # noqa: BLE001 - whatever a value does to its judge, it is not a right one
            return None, storable(_reason(error))[:LONGEST_REASON]
        for column in self._clocks:
            if column.is_ahead(right):
                return None, f"{column.name}: {AHEAD} {column.not_after}"
        return right, ""

    @cached_property
    def _clocks(self) -> tuple[Column, ...]:
        return tuple(column for column in self.columns.values() if column.not_after)

    def only(self, *names: str) -> Contract:
        """Make the same promises for some of the columns: for whoever takes only these."""
        return replace(self, columns={name: self.columns[name] for name in names})

    def texts(self, right: Mapping[str, Any]) -> dict[str, str | None]:
        """Write a right row's values, each in its one canonical text."""
        return {name: self.columns[name].text(value) for name, value in right.items()}


def _reason(error: Exception) -> str:
    try:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        return f"{where}: {_REASONS.get(first['type'], first['msg'])}"
    except Exception:  # noqa: BLE001 - an error that is not pydantic's, or that cannot even be told
        return f"cannot be judged ({type(error).__name__})"


def storable(text: str) -> str:
    """Replace what PostgreSQL cannot hold in a text by U+FFFD, which no contract takes for readable."""
    return UNSTORABLE.sub("\ufffd", text)


@cache
def contract(name: str) -> Contract:
    """Read a contract, once a process.

    Raises:
        FlowError: there is none of this name.
    """
    from open_data_contract_standard.model import OpenDataContractStandard

    if name not in NAMES:
        raise FlowError(f"there is no contract {name!r}: {', '.join(NAMES)}")
    said = OpenDataContractStandard.from_file(str(FOLDER / f"{name}.odcs.yaml"))
    (table,), server = said.schema_, said.servers[0]
    more = _custom(server.customProperties)
    return Contract(
        name=name,
        title=said.name,
        table=table.name,
        grain=table.dataGranularityDescription,
        columns={column.name: _column(column) for column in table.properties},
        format=server.format or "json",
        path=server.path or server.location or more["topic"],
        encoding=server.encoding or "utf-8",
        delimiter=more.get("delimiter", ","),
    )


def of_table(table: str) -> tuple[Contract, ...]:
    """Return the contracts whose rows belong to a table."""
    return tuple(one for one in map(contract, NAMES) if one.table == table)


def rules(table: str) -> dict[str, dict[str, Any]]:
    """Collect what the contracts promise of a landing table's columns, in the form of dbt's test `keeps_the_contract`.

    All contracts of a table promise the same; they differ in how it is written on the way.

    Returns:
        Column -> type (PostgreSQL's), and what there is of required (false), least, most, values, pattern.
    """
    from flow360.primeur.schema import TABLES

    found: dict[str, dict[str, Any]] = {}
    for column in TABLES[table].columns:
        for promised in (one.columns[column.name] for one in of_table(table) if column.name in one.columns):
            bounds = {"least": promised.least, "most": promised.most}
            rule = {"type": _SQL.get(column.sql_type.partition("(")[0], column.sql_type.partition("(")[0])}
            rule |= {name: _plain(one) for name, one in bounds.items() if one is not None}
            rule |= {} if promised.required else {"required": False}
            rule |= {"values": list(promised.values)} if promised.values else {}
            if promised.kind == "string" and promised.rules:
                rule["pattern"] = promised.rules[0][0].pattern
            found[column.name] = rule
    return found


_SQL = {"double precision": "float8"}


def _plain(bound: Any) -> int | float | str:
    if isinstance(bound, Decimal):
        return int(bound) if bound == bound.to_integral_value() else float(bound)
    return bound.isoformat() if isinstance(bound, date) else bound


def _custom(properties: list[CustomProperty] | None) -> dict[str, Any]:
    return {one.property: one.value for one in properties or ()}


def _column(said: SchemaProperty) -> Column:
    options = said.logicalTypeOptions or {}
    more = _custom(said.customProperties)
    rules = [(one.arguments["pattern"], one.description) for one in said.quality or () if one.metric == "invalidValues"]
    if "pattern" in options:
        rules.append((options["pattern"], "not of its form"))
    read = {"number": lambda v: Decimal(str(v)), "timestamp": datetime.fromisoformat, "date": date.fromisoformat}
    bounds = [options.get(name) for name in ("minimum", "maximum")]
    least, most = (None if one is None else read.get(said.logicalType, int)(one) for one in bounds)
    step = options.get("multipleOf")
    return Column(
        name=said.name,
        kind=said.logicalType,
        required=bool(said.required),
        rules=tuple((re.compile(pattern, re.ASCII), why) for pattern, why in rules),
        least=least,
        most=most,
        places=None if step is None else -Decimal(str(step)).as_tuple().exponent,
        values=tuple(one.value for one in said.enum or ()),
        longest=options.get("maxLength"),
        key=bool(said.primaryKey),
        unit=more.get("unit", ""),
        decimal_mark=more.get("decimalMark", "."),
        not_after=more.get("notAfter", ""),
        ahead=more.get("toleranceSeconds", 0),
    )
