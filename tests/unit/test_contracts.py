"""The contracts, and their judge: each row is right, or set aside with its reason and its bytes."""

from __future__ import annotations

import gzip
import io
import json
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import open_data_contract_standard
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from flow360.errors import FlowError
from flow360.ingestion.dead_letters import BadRecord, decode_json
from flow360.primeur.contract import FOLDER, NAMES, UNSTORABLE, contract, of_table, rules
from flow360.primeur.intake import Record, document, records
from flow360.primeur.manifest import manifest
from flow360.primeur.schema import TABLES
from flow360.primeur.snapshot import FILES
from flow360.processing import dbt, landing

# --- The contracts themselves -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_a_contract_is_one_of_the_standard(name: str) -> None:
    said = yaml.safe_load((FOLDER / f"{name}.odcs.yaml").read_text("utf-8"))
    jsonschema.validate(said, json.loads((resources.files(open_data_contract_standard) / "schema.json").read_text()))
    assert said["id"] == name


KINDS = {
    "smallint": "integer",
    "integer": "integer",
    "bigint": "integer",
    "text": "string",
    "date": "date",
    "timestamptz": "timestamp",
    "double precision": "number",
    "numeric(10,2)": "number",
}
LARGEST = {"smallint": 2**15 - 1, "integer": 2**31 - 1, "bigint": 2**63 - 1, "numeric(10,2)": Decimal("99999999.99")}


@pytest.mark.parametrize("name", [name for name in NAMES if contract(name).table in TABLES])
def test_a_right_row_fits_its_table(name: str) -> None:
    """Or the judge says good, and the table refuses it, at each retry."""
    promised, table = contract(name), TABLES[contract(name).table]
    columns = {column.name: column for column in table.columns}
    for column in promised.columns.values():
        if name == "readings" and column.name in ("run", "sent_at", "value", "unit"):
            continue  # the landing table has °C, and only what was measured
        there = columns[column.name]
        assert column.kind == KINDS[there.sql_type], column.name
        assert column.required is not there.nullable, column.name
        if there.sql_type in LARGEST:
            assert -LARGEST[there.sql_type] <= column.least <= column.most <= LARGEST[there.sql_type], column.name
        if there.sql_type == "numeric(10,2)":
            assert column.places == 2, column.name
        if column.kind == "timestamp":
            assert column.least.tzinfo
            assert column.most.tzinfo
    assert {c.name for c in promised.columns.values() if c.key} == set(table.key)


def test_the_contracts_of_a_table_promise_the_same() -> None:
    for table in TABLES:
        first, *others = of_table(table) or [None]
        for other in others:
            for name, column in other.columns.items():
                one = first.columns[name]
                for what in ("kind", "required", "least", "most", "places", "values", "longest", "key"):
                    assert getattr(one, what) == getattr(column, what), f"{table}.{name}: {what}"


def test_dbt_asks_for_what_the_contracts_promise() -> None:
    sources = yaml.safe_load((dbt.PROJECT / "models" / "staging" / "_sources.yml").read_text("utf-8"))["sources"]
    (tables,) = [one["tables"] for one in sources if one["name"] == landing.SCHEMA]
    asked = {
        table["name"]: test["keeps_the_contract"]["arguments"]["columns"]
        for table in tables
        for test in table.get("data_tests", [])
        if "keeps_the_contract" in test
    }
    wanted = {table: rules(table) for table in TABLES if of_table(table)}
    assert asked == wanted, "dbt/models/staging/_sources.yml is to say: " + yaml.safe_dump(wanted, sort_keys=False)


def test_a_contract_that_there_is_not() -> None:
    with pytest.raises(FlowError, match="orders_csv"):
        contract("orders")


# --- Orders as CSV ----------------------------------------------------------------------------------------------------

HEADER = "order_id,ordered_at,customer_id,store_id,channel,status,items,total_eur,delivery_note"
GOOD = "200001,2026-05-10T08:00:00+02:00,1301,1,web,delivered,2,7.50,a"
FORM, WHOLE, EUROS = "not a moment with its offset", "not a whole number", "not an amount with two decimals"
FIELDS, EMPTY = "wrong number of fields", "an empty line or message"
READABLE = "not readable (NUL, or a character that was lost)"


def order(**changed: str) -> str:
    return ",".join({**dict(zip(HEADER.split(","), GOOD.split(","), strict=True)), **changed}.values())


def read(name: str, data: bytes, tmp_path: Path) -> list[Record]:
    """What comes out of a file; in passing: each record is one of the two, can be stored, and lands."""
    path = tmp_path / "file"
    path.write_bytes(data)
    found = list(records(contract(name), path))
    for one in found:
        assert (one.right is None) == bool(one.defect)
        row = landing.row_of(contract(name), one, "file")
        texts = [*row.values.values(), row.defect, row.rescued, one.shown()]
        assert not any(UNSTORABLE.search(text) for text in texts if text is not None)
        assert (row.original == one.original) if one.defect else (row.original is None)
    return found


def defects(name: str, data: bytes, tmp_path: Path) -> list[str]:
    return [one.defect for one in read(name, data, tmp_path)]


@pytest.mark.parametrize(
    ("column", "value", "defect"),
    [
        # moments
        ("ordered_at", "10/05/2026 08:15", FORM),
        ("ordered_at", "05/10/2026 8:15 AM", FORM),
        ("ordered_at", "2026-05-10 00:30:00", FORM),
        ("ordered_at", "2026-05-10T08:00:00", FORM),
        ("ordered_at", "2026-05-10", FORM),
        ("ordered_at", "46152.34375", FORM),
        ("ordered_at", "1778400000", FORM),
        ("ordered_at", "20260510T080000+0200", FORM),
        ("ordered_at", "2026-W19-7T08:00:00+02:00", FORM),
        ("ordered_at", "2026-05-10T08:00:00 Europe/Paris", FORM),
        ("ordered_at", "2026-05-10T08:00:00+02:00 ", FORM),
        ("ordered_at", "2026-05-10T08:00:00.1234567+02:00", FORM),
        ("ordered_at", "2026-05-10T08:00:00+15:00", FORM),
        ("ordered_at", "now", FORM),
        ("ordered_at", "infinity", FORM),
        ("ordered_at", "２０２６-05-10T08:00:00+02:00", FORM),
        ("ordered_at", "2026-02-30T08:00:00+02:00", "not a moment"),
        ("ordered_at", "2026-05-10T24:00:01+02:00", "not a moment"),
        ("ordered_at", "0001-01-01T00:00:00+14:00", "out of range"),
        ("ordered_at", "9999-12-31T23:59:59-14:00", "out of range"),
        ("ordered_at", "", "missing"),
        # whole numbers
        ("order_id", "2_0001", WHOLE),
        ("order_id", "+7", WHOLE),
        ("order_id", "-7", WHOLE),
        ("order_id", "7.0", WHOLE),
        ("order_id", "2e5", WHOLE),
        ("order_id", "0x10", WHOLE),
        ("order_id", " 7", WHOLE),
        ("order_id", "7\u2009001", WHOLE),
        ("order_id", "７", WHOLE),
        ("order_id", "٧", WHOLE),
        ("order_id", "\ufeff200001", WHOLE),
        ("order_id", "99999999999999999999", WHOLE),
        ("order_id", "0", "out of range"),
        ("items", "32768", "out of range"),
        ("store_id", "1301", "out of range"),
        ("customer_id", "", "missing"),
        ("customer_id", "None", WHOLE),
        # money
        ("total_eur", "1_000.00", EUROS),
        ("total_eur", "1.5e3", EUROS),
        ("total_eur", "-7.50", EUROS),
        ("total_eur", "+7.50", EUROS),
        ("total_eur", "NaN", EUROS),
        ("total_eur", "Infinity", EUROS),
        ("total_eur", "-inf", EUROS),
        ("total_eur", "7.5", EUROS),
        ("total_eur", "7.500", EUROS),
        ("total_eur", ".50", EUROS),
        ("total_eur", "7.50 €", EUROS),
        ("total_eur", "1\u202f000.00", EUROS),
        ("total_eur", "1 000.00", EUROS),
        ("total_eur", "123456789.00", EUROS),
        ("total_eur", "７.50", EUROS),
        ("total_eur", "700", "cents, not euros"),
        ("total_eur", "", "missing"),
        # texts
        ("channel", "fax", "not one of the known values"),
        ("channel", "Web", "not one of the known values"),
        ("status", "delivered ", "not one of the known values"),
        ("delivery_note", "a\0b", READABLE),
        ("delivery_note", "caf\ufffd", READABLE),
        ("delivery_note", "x" * 1001, "too long"),
        ("delivery_note", "x" * 140_000, "too long"),
    ],
)
def test_a_value_is_right_in_the_files_own_grammar_only(column: str, value: str, defect: str, tmp_path: Path) -> None:
    (found,) = read("orders_csv", f"{HEADER}\n{order(**{column: value})}\n".encode(), tmp_path)
    assert found.defect == f"{column}: {defect}"
    assert found.original == order(**{column: value}).encode()


@pytest.mark.parametrize(
    ("column", "value", "right"),
    [
        ("ordered_at", "2026-05-10T08:00:00Z", datetime(2026, 5, 10, 8, tzinfo=UTC)),
        ("ordered_at", "2026-05-10T08:00:00.5-03:30", datetime(2026, 5, 10, 11, 30, 0, 500_000, tzinfo=UTC)),
        ("order_id", "999999999999999999", 999_999_999_999_999_999),
        ("order_id", "007", 7),
        ("total_eur", "0.00", Decimal(0)),
        ("total_eur", "99999.99", Decimal("99999.99")),
        ("delivery_note", "", None),
        ("delivery_note", "Bon\u2028et\x85frais\x0b\x1c", "Bon\u2028et\x85frais\x0b\x1c"),
    ],
)
def test_what_is_right_is_read_to_the_last_digit(column: str, value: str, right: Any, tmp_path: Path) -> None:
    (found,) = read("orders_csv", f"{HEADER}\n{order(**{column: value})}\n".encode(), tmp_path)
    assert (found.defect, found.right[column]) == ("", right)


def noted(note: str) -> str:
    return order(delivery_note=note)


def file(*lines: str, header: str = HEADER) -> bytes:
    return "".join(f"{line}\n" for line in (header, *lines)).encode()


SWAPPED = HEADER.replace("customer_id,store_id", "store_id,customer_id")
FILES_OF_ORDERS: dict[str, tuple[bytes, list[str]]] = {
    "blank line": (file(GOOD, "", GOOD), ["", EMPTY, ""]),
    "only blank lines": (b"\n\n\n", ["header: missing"] * 3),
    "a line of one space": (file(" ", GOOD), [FIELDS, ""]),
    "newline in quotes": (file(noted('"Sonner\nmerci"'), GOOD), ["", ""]),
    "newlines and commas in quotes": (file(noted('"a,b\n\n\nc"')), [""]),
    "quote never closed": (file(noted('"a'), GOOD, GOOD), [FIELDS, "", ""]),
    "quote never closed before a quoted note": (file(noted('"a'), noted('"b, c"')), [FIELDS, ""]),
    "quote closed by another row": (file(noted('"a'), GOOD, noted('b"'), GOOD), [FIELDS, "", "", ""]),
    "quote in a note": (file(noted('12" pizza')), [""]),
    "text behind a quote": (file(noted('"a"b'), GOOD), [FIELDS, ""]),
    "NUL": (file(noted("a\0b"), GOOD), [f"delivery_note: {READABLE}", ""]),
    "UTF-16": (file(GOOD).decode().encode("utf-16"), ["header: not utf-8"] * 3),
    "UTF-16 without mark": (file(GOOD).decode().encode("utf-16-le"), ["header: 'order_id' missing"] * 3),
    "Latin-1": (file(noted("à droite"), GOOD).decode().encode("latin-1"), ["not utf-8", ""]),
    "BOM": (b"\xef\xbb\xbf" + file(GOOD), [""]),
    "BOM in the middle": (file(GOOD, f"\ufeff{HEADER}", GOOD), ["", f"order_id: {WHOLE}", ""]),
    "CRLF": (file(GOOD).replace(b"\n", b"\r\n"), [""]),
    "CRLF and LF": (file(f"{GOOD}\r", GOOD), ["", ""]),
    "CR": (file(GOOD, GOOD).replace(b"\n", b"\r"), ["", ""]),
    "CR among LF": (file(f"{GOOD}\r{GOOD}", GOOD), [FIELDS, ""]),
    "no last line feed": (file(GOOD)[:-1], [""]),
    "cut": (file(GOOD)[:-20], [FIELDS]),
    "tabs": (file(GOOD).replace(b",", b"\t"), ["header: 'order_id' missing"] * 2),
    "semicolons": (file(GOOD).replace(b",", b";"), ["header: 'order_id' missing"] * 2),
    "semicolons below a good header": (file(GOOD.replace(",", ";")), [FIELDS]),
    "header in capitals": (file(GOOD, header=HEADER.upper()), ["header: 'order_id' missing"] * 2),
    "header with spaces": (file(GOOD, header=HEADER.replace(",", ", ")), ["header: 'ordered_at' missing"] * 2),
    "no header": (file(GOOD, header=GOOD), ["header: 'order_id' missing"] * 2),
    "missing column": (file(GOOD, header=HEADER.replace(",items", "")), ["header: 'items' missing"] * 2),
    "extra column": (file(f"{GOOD},1", header=f"{HEADER},tip"), ["header: 'tip' not in the contract"] * 2),
    "column without a name": (file(f"{GOOD},", header=f"{HEADER},"), ["header: '' not in the contract"] * 2),
    "column twice": (file(f"{GOOD},3", header=f"{HEADER},items"), ["header: 'items' twice"] * 2),
    "header again": (file(GOOD, HEADER), ["", f"order_id: {WHOLE}"]),
    "quoted header": (file(GOOD, header='"' + HEADER.replace(",", '","') + '"'), [""]),
    "swapped": (file("200001,2026-05-10T08:00:00+02:00,7,1301,web,delivered,2,7.50,a", header=SWAPPED), [""]),
    "empty": (b"", ["header: missing"]),
    "header only": (file(), []),
    "long line without commas": (file("x" * 200_000, GOOD), [FIELDS, ""]),
    "long field in quotes": (file(noted('"' + "x" * 140_000 + '"'), GOOD), [FIELDS, ""]),
    "Latin-1 and a field too many": (file(noted("à, b")).decode().encode("latin-1"), ["not utf-8"]),
    "a note of two lines in the first column": (
        file('"x\ny",' + GOOD.removesuffix(",a"), header="delivery_note," + HEADER.removesuffix(",delivery_note")),
        [""],
    ),
    "surrogates as bytes": (file(GOOD)[:-1] + b"\xed\xa0\xbd\n", ["not utf-8"]),
}


@pytest.mark.parametrize("name", FILES_OF_ORDERS)
def test_a_bad_row_costs_one_row_and_a_bad_header_is_never_guessed(name: str, tmp_path: Path) -> None:
    data, wanted = FILES_OF_ORDERS[name]
    found = defects("orders_csv", data, tmp_path)
    assert len(found) == len(wanted), found
    assert all(one == want or (want and one.startswith(want)) for one, want in zip(found, wanted, strict=True)), found


def test_a_row_that_has_another_encoding_and_too_many_fields_is_rescued_whole(tmp_path: Path) -> None:
    (found,) = read("orders_csv", FILES_OF_ORDERS["Latin-1 and a field too many"][0], tmp_path)
    assert not found.fits
    assert landing.row_of(contract("orders_csv"), found, "f").rescued.endswith(",\\xe0, b")


def test_columns_are_taken_by_name(tmp_path: Path) -> None:
    (found,) = read("orders_csv", FILES_OF_ORDERS["swapped"][0], tmp_path)
    assert (found.right["customer_id"], found.right["store_id"]) == (1301, 7)


def test_a_record_says_the_line_on_which_it_begins(tmp_path: Path) -> None:
    found = read("orders_csv", FILES_OF_ORDERS["newlines and commas in quotes"][0] + GOOD.encode(), tmp_path)
    assert [one.line for one in found] == [2, 6]
    assert found[0].right["delivery_note"] == "a,b\n\n\nc"


@pytest.mark.parametrize("cut", [0, 5, 30, 60])
def test_a_compressed_file_is_no_csv_whole_or_cut(cut: int, tmp_path: Path) -> None:
    data = gzip.compress(f"{HEADER}\n{GOOD}\n".encode(), mtime=0)
    found = defects("orders_csv", data[: len(data) - cut], tmp_path)
    assert found
    assert all(one.startswith("header: ") for one in found)


def test_a_file_that_is_not_there_or_a_folder_is_one_bad_record(tmp_path: Path) -> None:
    for path in (tmp_path / "gone.csv", tmp_path):
        (found,) = records(contract("orders_csv"), path)
        assert found.defect.startswith("the file cannot be read (")
        assert not found.fits


# --- Prices, reviews, readings ----------------------------------------------------------------------------------------

PRICES = "product_id;valid_from;supplier;pack_size;purchase_price_eur"
COMMA = "not an amount with a comma and two decimals"


@pytest.mark.parametrize(
    ("line", "defect"),
    [
        ("101;2026-05-04;Frères Gaillard;12;1,78", ""),
        ("101;2026-05-04;Moreau;12;1.78", f"purchase_price_eur: {COMMA}"),
        ("101;2026-05-04;Moreau;12;1.234,56", f"purchase_price_eur: {COMMA}"),
        ("101;2026-05-04;Moreau;12;1\u00a0234,56", f"purchase_price_eur: {COMMA}"),
        ("101;2026-05-04;Moreau;12;178", "purchase_price_eur: cents, not euros"),
        ("101;2026-05-04;Moreau;12;n.c.", f"purchase_price_eur: {COMMA}"),
        ("101;2026-05-04;Moreau;12;0,00", "purchase_price_eur: out of range"),
        ("101;04/05/2026;Moreau;12;1,78", "valid_from: not a day"),
        ("101;2026-05-04T00:00:00Z;Moreau;12;1,78", "valid_from: not a day"),
        ("101;2026-02-30;Moreau;12;1,78", "valid_from: not a day"),
        ("101,2026-05-04,Moreau;12;1,78", FIELDS),
    ],
)
def test_a_price_is_written_as_its_office_writes(line: str, defect: str, tmp_path: Path) -> None:
    assert defects("price_list_csv", f"{PRICES}\n{line}\n".encode("cp1252"), tmp_path) == [defect]


def test_a_decimal_comma_is_landed_as_a_point_and_accents_are_kept(tmp_path: Path) -> None:
    (one,) = read("price_list_csv", f"{PRICES}\n101;2026-05-04;Frères;12;1,78\n".encode("cp1252"), tmp_path)
    row = landing.row_of(contract("price_list_csv"), one, "f")
    assert (row.values["purchase_price_eur"], row.values["supplier"]) == ("1.78", "Frères")
    data = f"{PRICES}\n101;2026-05-04;Frères;12;1,78\n".encode()
    assert defects("price_list_csv", data, tmp_path) == ["not cp1252 but utf-8"]


REVIEW = {"review_id": 1, "order_id": 100010, "customer_id": 1997, "product_id": 185, "rating": 4, "body": "ok"}
REVIEW |= {"written_at": "2026-05-04T21:19:44+02:00"}


def review(**changed: Any) -> bytes:
    return json.dumps({**REVIEW, **changed}, ensure_ascii=False).encode("utf-8", "surrogatepass")


@pytest.mark.parametrize(
    ("line", "defect"),
    [
        (review(), ""),
        (review(body="Bon\u2028et frais\u2029\x85"), ""),
        (b"null", "JSON, but not an object (NoneType)"),
        (b"[]", "JSON, but not an object (list)"),
        (b"1", "JSON, but not an object (int)"),
        (b"", EMPTY),
        (b"   ", EMPTY),
        (review()[:60], "not JSON (JSONDecodeError)"),
        (review() + review(), "not JSON (JSONDecodeError)"),
        (b"[" * 4000, "not JSON (RecursionError)"),
        (b'{"a":' * 100_000, "not JSON (RecursionError)"),
        (b'{"rating": ' + b"9" * 5000 + b"}", "not JSON (ValueError)"),
        (review()[:-1] + b', "rating": 5}', "a name stands twice in the object"),
        (review(rating=float("nan")), f"rating: {WHOLE}"),
        (review(rating=float("inf")), f"rating: {WHOLE}"),
        (review(rating="4"), f"rating: {WHOLE}"),
        (review(rating=4.0), f"rating: {WHOLE}"),
        (review(rating=True), f"rating: {WHOLE}"),
        (review(rating=80), "rating: out of range"),
        (review(rating=None), "rating: missing"),
        (review(order_id=10**30), "order_id: out of range"),
        (review(order_id=[1]), f"order_id: {WHOLE}"),
        (review(body={"a": 1}), "body: not a text"),
        (review(body=""), "body: missing"),
        (review(body="a\0b"), f"body: {READABLE}"),
        (json.dumps({**REVIEW, "body": "\ud83d"}).encode(), f"body: {READABLE}"),
        (review(body="\ud83d"), "not utf-8"),
        (review(body="x" * 140_000), "body: too long"),
        (review(body="qualité").decode().encode("latin-1"), "not utf-8"),
        (review().decode().encode("utf-16"), "not utf-8"),
        (review(written_at="2026-05-04 21:19:44"), f"written_at: {FORM}"),
        (review(written_at="04/05/2026 21:19"), f"written_at: {FORM}"),
        (review(written_at=1778000000), f"written_at: {FORM}"),
        (review(stars=5), "stars: not in the contract"),
        (json.dumps({**REVIEW, "\ud83d" * 9: 5}).encode(), "\ufffd"),
        (json.dumps({**REVIEW, "x" * 600_000: 5}).encode(), "x" * 200),
        (json.dumps({k: v for k, v in REVIEW.items() if k != "rating"}).encode(), "rating: missing"),
        (b"\xef\xbb\xbf" + review(), ""),
    ],
)
def test_a_line_of_reviews(line: bytes, defect: str, tmp_path: Path) -> None:
    found = read("reviews_jsonl", line + b"\n", tmp_path)
    assert len(found) == 1
    assert found[0].defect == defect or (defect in ("\ufffd", "x" * 200) and found[0].defect), found[0].defect


def test_an_empty_file_of_reviews_is_no_week_without_reviews(tmp_path: Path) -> None:
    assert defects("reviews_jsonl", b"", tmp_path) == ["the file is empty"]


def test_reviews_around_a_bad_line_are_kept_whole(tmp_path: Path) -> None:
    data = b"\n".join([review(), b"null", b"", review(body="Bon\u2028et frais"), b"[" * 9000, review()]) + b"\n"
    found = read("reviews_jsonl", data, tmp_path)
    assert [bool(one.defect) for one in found] == [False, True, True, False, True, False]
    assert found[3].right["body"] == "Bon\u2028et frais"


READING = {"run": "r", "reading_id": 1, "van_id": "VAN-01", "sequence": 1, "measured_at": "2026-05-07T06:15:00Z"}
READING |= {"value": 3.02, "unit": "C"}


@pytest.mark.parametrize(
    ("changed", "defect", "celsius"),
    [
        ({}, None, "3.02"),
        ({"value": 41, "unit": "F"}, None, "5.00"),
        ({"value": 38.01, "unit": "F"}, None, "3.34"),
        ({"value": None}, "value: missing", None),
        ({"value": "3.02"}, "value: not a number", "3.02"),
        ({"value": [3]}, "value: not a number", "[3]"),
        ({"value": 1e400}, "value: not a number", "inf"),
        ({"value": 400}, "value: out of range", "400"),
        ({"unit": None}, "unit: missing", "3.02"),
        ({"unit": "K"}, "unit: not one of the known values", "3.02"),
        ({"van_id": "VAN-1; drop"}, "van_id: not of its form", "3.02"),
        ({"measured_at": "2026-05-07T06:15:00"}, f"measured_at: {FORM}", "3.02"),
    ],
)
def test_a_vans_message_is_landed_in_celsius_or_as_it_came(changed: dict, defect: str, celsius: str) -> None:
    row = landing.reading_row(json.dumps({**READING, **changed}).encode(), "t")
    assert (row.defect, row.values.get("celsius")) == (defect, celsius)


@pytest.mark.parametrize("depth", [*range(50, 1200, 50), 5000])
def test_brackets_in_brackets_cost_one_row(depth: int, tmp_path: Path) -> None:
    """Some depths can be read and not written again."""
    deep = b"[" * depth + b"]" * depth
    line = review()[:-1] + b', "x": ' + deep + b"}"
    found = read("reviews_jsonl", line + b"\n" + line.replace(b'"rating": 4', b'"rating": ' + deep) + b"\n", tmp_path)
    assert all(one.defect for one in found)
    assert len(found) == 2


def test_no_message_ends_its_consumer() -> None:
    for data in (None, b"", b"\0" * 900_000, b"[" * 900_000, b"{" * 9, bytes(range(256)), b'{"value": NaN}'):
        assert document(contract("readings"), data).defect


@pytest.mark.parametrize("celsius", [b"NaN", b"Infinity", b"-Infinity", b"1e999", b'"4"', b"true", b"null"])
def test_a_consumer_of_records_takes_json_for_what_it_is(celsius: bytes) -> None:
    from types import SimpleNamespace

    fields = {"celsius": (int, float)}
    with pytest.raises(BadRecord):
        decode_json(SimpleNamespace(key=b"k", value=b'{"celsius": ' + celsius + b"}"), fields)
    for data in ('{"celsius": 4}'.encode("utf-16"), b'{"celsius": 4, "celsius": 5}'):
        with pytest.raises(BadRecord, match="bad json"):
            decode_json(SimpleNamespace(key=b"k", value=data), fields)


# --- Parquet ----------------------------------------------------------------------------------------------------------

HOUR = datetime(2026, 5, 7, 16, tzinfo=UTC)


def weather(**columns: pa.Array) -> bytes:
    table = {
        "store_id": pa.array([1, 2], pa.int32()),
        "observed_at": pa.array([HOUR, HOUR], pa.timestamp("ms", "UTC")),
        "celsius": pa.array([14.5, 15.5]),
        "rain_mm": pa.array([0.0, 0.5]),
        "wind_kmh": pa.array([10.0, 12.5]),
    }
    return parquet(pa.table({**table, **columns}))


def parquet(table: pa.Table, **options: Any) -> bytes:
    out = io.BytesIO()
    pq.write_table(table, out, **options)
    return out.getvalue()


PLAIN = pq.read_table(io.BytesIO(weather()))
NAIVE = HOUR.replace(tzinfo=None)
FAR = pa.array([2**62, 0], pa.int64()).cast(pa.timestamp("us", "UTC"))


@pytest.mark.parametrize(
    ("data", "wanted"),
    [
        (weather(), ["", ""]),
        (parquet(PLAIN.select(["wind_kmh", "celsius", "store_id", "rain_mm", "observed_at"])), ["", ""]),
        (weather(store_id=pa.array([1, 2], pa.int64())), ["", ""]),
        (weather(store_id=pa.array([1, 2]).dictionary_encode()), ["", ""]),
        (weather(celsius=pa.array([14.5, 15.5], pa.float32())), ["", ""]),
        (weather(celsius=pa.array([Decimal("14.5"), Decimal("15.5")])), ["", ""]),
        (weather(observed_at=pa.array([HOUR, HOUR], pa.timestamp("ns", "Europe/Paris"))), ["", ""]),
        (weather(observed_at=pa.array([HOUR, None], pa.timestamp("us", "UTC"))), ["", "observed_at: missing"]),
        (
            weather(observed_at=pa.array([1, 1000], pa.int64()).cast(pa.timestamp("ns", "UTC"))),
            ["observed_at: finer than a microsecond", "observed_at: out of range"],
        ),
        (
            weather(observed_at=pa.array([NAIVE, None], pa.timestamp("us"))),
            ["observed_at: a moment without its offset", "observed_at: missing"],
        ),
        (weather(observed_at=pa.array(["2026-05-07T16:00:00Z"] * 2)), [f"observed_at: {FORM}"] * 2),
        (weather(observed_at=pa.array([HOUR.date()] * 2)), [f"observed_at: {FORM}"] * 2),
        (weather(observed_at=FAR), [f"observed_at: {FORM}", "observed_at: out of range"]),
        (weather(store_id=pa.array([1.0, None])), [f"store_id: {WHOLE}", "store_id: missing"]),
        (weather(store_id=pa.array(["1", "2"])), [f"store_id: {WHOLE}"] * 2),
        (weather(celsius=pa.array([float("nan"), 73.4])), ["celsius: not a number", "celsius: out of range"]),
        (weather(celsius=pa.array(["14,5", "15,5"])), ["celsius: not a number"] * 2),
        (weather(celsius=pa.array([{"a": 1}, None])), ["celsius: not a number", "celsius: missing"]),
        (weather(station=pa.array([1, 2])), ["columns: 'station' is missing, twice or not in the contract"] * 2),
        (parquet(PLAIN.drop_columns(["rain_mm"])), ["columns: 'rain_mm'"] * 2),
        (parquet(PLAIN.rename_columns([n.upper() for n in PLAIN.column_names])), ["columns: 'CELSIUS'"] * 2),
        (parquet(PLAIN.append_column("celsius", PLAIN["celsius"])), ["columns: 'celsius'"] * 2),
        (parquet(PLAIN.slice(0, 0)), []),
        (parquet(PLAIN.slice(0, 0).drop_columns(["rain_mm"])), ["columns: 'rain_mm'"]),
        (parquet(PLAIN, compression="zstd"), ["", ""]),
        (weather()[:-20], ["not Parquet (ArrowInvalid)"]),
        (b"PAR1", ["not Parquet (ArrowInvalid)"]),
        (b"", ["not Parquet (ArrowInvalid)"]),
        (b"store_id,observed_at\n", ["not Parquet (ArrowInvalid)"]),
        (parquet(PLAIN, use_deprecated_int96_timestamps=True), ["", ""]),
    ],
)
def test_a_row_of_parquet(data: bytes, wanted: list[str], tmp_path: Path) -> None:
    found = read("weather_parquet", data, tmp_path)
    assert len(found) == len(wanted)
    for one, want in zip(found, wanted, strict=True):
        assert one.defect == want or (want and one.defect.startswith(want)), one.defect
        if one.right:
            assert one.right["observed_at"] == HOUR


# --- Whatever comes ---------------------------------------------------------------------------------------------------

PIECES = [
    b"\n",
    b"\r",
    b'"',
    b",",
    b";",
    b"\0",
    b"\xff",
    b"\xef\xbb\xbf",
    "\u2028é".encode(),
    b"{",
    b"}",
    b"[",
    b"null",
]
PIECES += [GOOD.encode(), HEADER.encode(), review(), PRICES.encode(), b"101;2026-05-04;Moreau;12;1,78"]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=30), st.booleans())
def test_no_byte_is_lost_and_nothing_raises(tmp_path_factory: Any, pieces: list[bytes], headed: bool) -> None:
    """Rows read = right + set aside, and the originals put together are the file."""
    folder = tmp_path_factory.mktemp("any", numbered=True)
    for name, header in (("orders_csv", HEADER), ("price_list_csv", PRICES), ("reviews_jsonl", "")):
        data = (f"{header}\n".encode() if headed and header else b"") + b"".join(pieces)
        found = read(name, data, folder)
        lines = data.removeprefix(b"\xef\xbb\xbf")
        lines = lines if b"\n" in lines else lines.replace(b"\r", b"\n")
        lines = [line.removesuffix(b"\r") for line in lines.removesuffix(b"\n").split(b"\n")] if lines else []
        if found and found[0].line == 2:
            lines = lines[1:]
        if found and lines:
            assert b"\n".join(one.original for one in found) == b"\n".join(lines)
        assert len(found) or not lines or (header and len(lines) == 1)


def test_the_drop_zone_adds_up_and_only_what_was_planted_is_set_aside() -> None:
    wanted = {"encoding", "bad_row", "wrong_unit", "not_a_number", "missing_key"}  # the others need a second source
    counted = Counter()
    for name in NAMES:
        if contract(name).format not in ("csv", "jsonl", "parquet"):
            continue
        for path in sorted(FILES.glob(contract(name).path)):
            found = list(records(contract(name), path))
            bad = [one for one in found if one.defect]
            planted = [d for d in manifest().defects(channel="files", where=path.name) if d.kind in wanted]
            assert len(bad) == len(planted), path.name
            assert len(found) == len(bad) + sum(one.right is not None for one in found)
            counted += Counter(read=len(found), right=len(found) - len(bad), quarantined=len(bad))
    print(dict(counted))
    assert counted == {"read": 4977, "right": 4811, "quarantined": 166}


def test_a_file_that_no_contract_names_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert landing.strangers() == []
    names = [
        "ORDERS_2026-05-10.csv",
        "orders_2026-05-10.csv",
        "orders_2026-05-11.csv.gz",
        "reviews.json",
        "weather.csv",
    ]
    for name in names:
        (tmp_path / name).touch()
    monkeypatch.setattr(landing, "FILES", tmp_path)
    assert landing.strangers() == [names[0], *names[2:]]


def test_judging_is_no_bottleneck(tmp_path: Path) -> None:
    rows = 20_000
    path = tmp_path / "orders_2026-05-10.csv"
    path.write_text(f"{HEADER}\n" + f"{GOOD}\n" * rows, "utf-8")
    contract("orders_csv").judge({})  # built once a process
    began = time.process_time()
    right = sum(one.right is not None for one in records(contract("orders_csv"), path))
    pace = rows / (time.process_time() - began)
    print(f"{pace:,.0f} rows a second")
    assert right == rows
    assert pace > 5_000, "a night of 200,000 orders would take longer than its load"


def test_the_clock_changes_and_odd_offsets_are_moments(tmp_path: Path) -> None:
    moments = ["2026-10-25T02:30:00+02:00", "2026-10-25T02:30:00+01:00", "2026-03-29T02:30:00+01:00"]
    data = f"{HEADER}\n" + "\n".join(order(ordered_at=moment) for moment in moments)
    first, second, _ = (one.right["ordered_at"] for one in read("orders_csv", data.encode(), tmp_path))
    assert second - first == timedelta(hours=1)
