"""The drop zone: the files that partners and branches leave at Primeur, each with its planted defects.

- `orders_<day>.csv`: the day's orders, UTF-8, comma, header; one file a day of the week;
- `reviews.jsonl`: the week's reviews, one JSON text a line;
- `price_list_<day>.csv`: a supplier's prices as its office wrote them: semicolons, decimal commas, Windows-1252;
- `weather.parquet`: the week's weather.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from flow360.primeur.defects import Chooser, Defect
from flow360.primeur.plan import DAY, Plan
from flow360.primeur.records import Record, by_day

UNKNOWN_CUSTOMER = 9_000_001
UNKNOWN_ORDER = 9_900_001
UNKNOWN_PRODUCT = 9_901
ORDER_COLUMNS = (
    "order_id", "ordered_at", "customer_id", "store_id", "channel", "status", "items", "total_eur", "delivery_note",
)  # fmt: skip
PRICE_COLUMNS = ("product_id", "valid_from", "supplier", "pack_size", "purchase_price_eur")


@dataclass
class Line:
    """One line of a text file, without its end, and what is wrong with it."""

    data: bytes
    defect: Defect | None = None


@dataclass
class DropFile:
    """One file: its bytes, its defects, and how many lines after the header it has."""

    name: str
    data: bytes
    defects: list[Defect]
    rows: int


def text_file(name: str, header: bytes | None, lines: list[Line]) -> DropFile:
    """Put a file together and tell each defect its line."""
    first = 1 if header is None else 2
    defects = []
    for number, line in enumerate(lines, first):
        if line.defect:
            line.defect.line = number
            defects.append(line.defect)
    parts = ([] if header is None else [header]) + [line.data for line in lines]
    return DropFile(name, b"\n".join(parts) + b"\n", defects, len(lines))


def csv_line(values: list[Any], delimiter: str = ",", encoding: str = "utf-8") -> bytes:
    """Write one CSV line without its end; a missing value is an empty field, quotes stand only where they must."""
    out = io.StringIO()
    csv.writer(out, delimiter=delimiter, lineterminator="").writerow(["" if v is None else v for v in values])
    return out.getvalue().encode(encoding)


def order_line(row: Record) -> bytes:
    """Write an order as its CSV line; euros have two decimals."""
    values = {**row, "total_eur": f"{row['total_eur']:.2f}"} if isinstance(row["total_eur"], float) else row
    return csv_line([values[c] for c in ORDER_COLUMNS])


class _Spoiler:
    """Plants defects of one file: `spoil(rows, kind, …)` replaces lines, `again` and `later` move them."""

    def __init__(
        self, chooser: Chooser, rows: list[Record], write: Callable[[Record], bytes], blank: dict[str, Any]
    ) -> None:
        self.chooser, self.rows, self.write, self.blank = chooser, rows, write, blank
        self.lines = [Line(write(row)) for row in rows]
        self.key = blank.pop("key")
        self.moves: list[tuple[int, Line]] = []

    def _defect(self, row: int, kind: str, **more: Any) -> Defect:
        keys = {k: self.rows[row][k] for k in self.key}
        return Defect(kind=kind, keys=keys, **self.blank, **more)

    def change(self, n: int, kind: str, column: str, new: Callable[[Any], Any], note: str) -> None:
        """Put another value into one column of `n` rows."""
        for row in self.chooser.rows(n, range(len(self.rows))):
            was = self.rows[row][column]
            now = new(was)
            self.lines[row].data = self.write({**self.rows[row], column: now})
            self.lines[row].defect = self._defect(row, kind, column=column, was=was, now=str(now), note=note)

    def rewrite(
        self, n: int, kind: str, new: Callable[[bytes], bytes], note: str, allowed: list[int] | None = None
    ) -> None:
        """Put other bytes in the place of `n` lines."""
        for row in self.chooser.rows(n, range(len(self.rows)) if allowed is None else allowed):
            self.lines[row].data = new(self.lines[row].data)
            self.lines[row].defect = self._defect(row, kind, note=note)

    def again(self, n: int, note: str) -> None:
        """Repeat `n` lines, some lines later."""
        for row in self.chooser.rows(n, range(len(self.rows))):
            copy = Line(self.lines[row].data, self._defect(row, "duplicate", note=note))
            self.moves.append((row + self.chooser.between(1, 40), copy))

    def later(self, n: int, note: str, least: int = 30) -> None:
        """Take `n` lines out and put them in again much later."""
        chosen = self.chooser.rows(n, range(max(0, len(self.rows) - 2 * least)))
        for row in chosen:
            line = Line(self.lines[row].data, self._defect(row, "late", note=note))
            self.moves.append((row + self.chooser.between(least, 2 * least), line))
        for row in chosen:
            self.lines[row].data = b""

    def done(self) -> list[Line]:
        """Return the lines in their final order."""
        placed = [(float(n), line) for n, line in enumerate(self.lines) if line.data]
        last = len(self.lines)
        placed += [(min(at, last) + 0.5, line) for at, line in self.moves]
        return [line for _, line in sorted(placed, key=lambda item: item[0])]


LATE = 3
"""Orders of each day that come a day late, in the next day's file."""


def order_files(plan: Plan, rows: list[Record]) -> list[DropFile]:
    """Write one CSV file for each day; the last day's is complete."""
    files, late = [], []
    days = by_day(rows, "ordered_at")
    for number, (day, todays) in enumerate(days.items()):
        last = number == len(days) - 1
        files.append(order_file(plan, number, day, todays, late, complete=last))
        late = held_back(plan, number, todays)
    return files


def held_back(plan: Plan, number: int, rows: list[Record]) -> list[Record]:
    """Choose the orders of a day, the `number`-th from 0, that its file lacks."""
    return [rows[n] for n in Chooser.of(plan.seed, "orders", number).rows(LATE, range(len(rows)))]


def order_file(
    plan: Plan, number: int, day: str, rows: list[Record], late: list[Record], complete: bool = False
) -> DropFile:
    """Write the orders of one day as the branches leave them.

    Args:
        number: of the day, from 0; its draws follow from it.
        day: ISO date.
        rows: the day's true orders, in the order of their numbers.
        late: those that the file of the day before lacked.
        complete: it lacks none.
    """
    chooser = Chooser.of(plan.seed, "orders", number)
    held = set() if complete else set(chooser.rows(LATE, range(len(rows))))
    name = f"orders_{day}.csv"
    kept = [row for n, row in enumerate(rows) if n not in held]
    chooser.taken = set()
    blank = {"channel": "files", "dataset": "orders", "where": name, "day": day, "key": ("order_id",)}
    s = _Spoiler(chooser, kept, order_line, blank)
    accented = [n for n, row in enumerate(kept) if not (row["delivery_note"] or "").isascii()]
    s.rewrite(3, "encoding", _latin, "the note is in Latin-1, the file is in UTF-8", accented)
    commas = [n for n, row in enumerate(kept) if "," in (row["delivery_note"] or "")]
    s.rewrite(2, "bad_row", lambda b: b.replace(b'"', b""), "the quotes are lost: one field too many", commas)
    s.rewrite(2, "bad_row", lambda b: b.rsplit(b",", 3)[0], "the line is cut: three fields too few")
    s.change(4, "wrong_unit", "total_eur", lambda v: round(v * 100), "cents instead of euros")
    s.change(3, "not_a_number", "total_eur", lambda v: "NaN", "the amount is lost")
    s.change(3, "missing_key", "customer_id", lambda v: "", "no customer")
    s.change(3, "orphan", "customer_id", lambda v: UNKNOWN_CUSTOMER + v % 7, "a customer who does not exist")
    s.again(5, "the same line again")
    lines = s.done()
    for n, row in enumerate(late):
        blank_late = {"channel": "files", "dataset": "orders", "where": name, "day": day}
        note = f"an order of {row['ordered_at'][:10]}, missing from that day's file"
        line = Line(order_line(row), Defect(kind="late", keys={"order_id": row["order_id"]}, note=note, **blank_late))
        lines.insert((n + 1) * len(lines) // 4, line)
    return text_file(name, ",".join(ORDER_COLUMNS).encode(), lines)


def _latin(line: bytes) -> bytes:
    return line.decode("utf-8").encode("latin-1", "replace")


def _unicode(line: bytes) -> bytes:
    return line.decode("cp1252").encode("utf-8")


def review_line(row: Record) -> bytes:
    """Write a review as one JSON text, accents as they are."""
    return json.dumps(row, ensure_ascii=False).encode()


def review_file(plan: Plan, rows: list[Record]) -> DropFile:
    """Write the week's reviews in the order in which they were written."""
    rows = sorted(rows, key=lambda row: (row["written_at"], row["review_id"]))
    blank = {"channel": "files", "dataset": "reviews", "where": "reviews.jsonl", "key": ("review_id",)}
    s = _Spoiler(Chooser.of(plan.seed, "reviews"), rows, review_line, blank)
    accented = [n for n, row in enumerate(rows) if "é" in row["body"] and "œ" not in row["body"]]
    s.rewrite(3, "encoding", _latin, "the text is in Latin-1, the file is in UTF-8", accented)
    s.rewrite(4, "bad_row", lambda b: b[: len(b) * 2 // 3].decode("utf-8", "ignore").encode(), "the JSON text is cut")
    s.change(3, "wrong_unit", "rating", lambda v: v * 20, "percent instead of stars")
    s.change(3, "not_a_number", "rating", lambda v: float("nan"), "NaN, which JSON does not have")
    s.change(3, "missing_key", "order_id", lambda v: None, "no order")
    s.change(3, "orphan", "order_id", lambda v: UNKNOWN_ORDER + v % 7, "an order that does not exist")
    s.again(4, "the same line again")
    s.later(4, "written long before its neighbours in the file")
    return text_file("reviews.jsonl", None, s.done())


def price_line(row: Record) -> bytes:
    """Write a price as the supplier's office does: semicolons and a decimal comma."""
    price = row["purchase_price_eur"]
    price = f"{price:.2f}".replace(".", ",") if isinstance(price, float) else price
    return csv_line([*(row[c] for c in PRICE_COLUMNS[:-1]), price], ";", "cp1252")


def price_file(plan: Plan, rows: list[Record]) -> DropFile:
    """Write all prices of the week. The name of each product is not in it: the number is the key."""
    name = f"price_list_{DAY}.csv"
    blank = {"channel": "files", "dataset": "price_list", "where": name, "key": ("product_id", "valid_from")}
    s = _Spoiler(Chooser.of(plan.seed, "price_list"), rows, price_line, blank)
    s.rewrite(2, "bad_row", lambda b: b.replace(b";", b",", 2), "two separators are commas: two fields too few")
    s.change(3, "wrong_unit", "purchase_price_eur", lambda v: round(v * 100), "cents instead of euros")
    s.change(3, "not_a_number", "purchase_price_eur", lambda v: "n.c.", "the price is not communicated")
    s.change(2, "missing_key", "product_id", lambda v: None, "no product")
    s.change(2, "orphan", "product_id", lambda v: UNKNOWN_PRODUCT + v % 7, "a product that does not exist")
    s.again(3, "the same line again")
    accented = [n for n, row in enumerate(rows) if not row["supplier"].isascii()]
    s.rewrite(2, "encoding", _unicode, "the line is in UTF-8, the file is in Windows-1252", accented)
    return text_file(name, csv_line(list(PRICE_COLUMNS), ";"), s.done())
