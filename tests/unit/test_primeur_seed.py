"""The committed week is what the generator makes, and the manifest holds the whole truth about its defects."""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
from collections import Counter

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flow360.errors import FlowError
from flow360.primeur import files, seed
from flow360.primeur.api.feed import KEYS, feed
from flow360.primeur.defects import KINDS, Defect, fahrenheit
from flow360.primeur.manifest import manifest
from flow360.primeur.plan import DAY, SEED_PLAN
from flow360.primeur.records import by_day, outward, utc
from flow360.primeur.schema import TABLES
from flow360.primeur.snapshot import FILES, SEED, read_table, seed_table
from flow360.primeur.vans import stream
from flow360.primeur.vans.replay import messages


@pytest.fixture(scope="module")
def built() -> seed.Seed:
    return seed.build()


def test_the_seed_is_what_the_generator_makes(built: seed.Seed) -> None:
    fix = "python -m flow360.primeur.seed"
    for name, text in built.texts.items():
        path = SEED / name
        found = path.read_bytes() if path.exists() else gzip.decompress((SEED / f"{name}.gz").read_bytes())
        assert found == text, f"{name} differs: {fix}"
    # Parquet's bytes also depend on the version of pyarrow: the content is compared
    assert _bits(pq.read_table(FILES / "weather.parquet")) == _bits(built.weather), fix
    there = {p.relative_to(SEED).as_posix().removesuffix(".gz") for p in SEED.rglob("*") if p.is_file()}
    assert there == {*built.texts, "files/weather.parquet"}


def _bits(data: pa.Table) -> list:
    """Rows that can be compared although NaN is not equal to itself."""
    return [{k: repr(v) for k, v in row.items()} for row in data.to_pylist()]


def test_the_seed_is_small() -> None:
    assert sum(p.stat().st_size for p in SEED.rglob("*") if p.is_file()) < 2_000_000
    assert 1_500 <= seed_table("orders").num_rows <= 2_500


def test_tables_come_back_with_their_types() -> None:
    for name, t in TABLES.items():
        assert seed_table(name).schema.equals(t.arrow)
    with pytest.raises(FlowError, match="git checkout"):
        read_table("orders", SEED / "nowhere")


def test_manifest_is_typed() -> None:
    m = manifest()
    assert {d.kind for d in m.all} == set(KINDS)
    assert m.count(channel="files", kind="duplicate") == len(m.defects(channel="files", kind="duplicate")) > 0
    assert m.keys("order_id", channel="files", dataset="orders", day=m.day, kind="late")
    assert m.incident.van_id == "VAN-03"
    counted = Counter((d.channel, d.dataset, d.kind) for d in m.all)
    told = {(c, n, k): x for c, sets in m.head["counts"].items() for n, kinds in sets.items() for k, x in kinds.items()}
    assert counted == told


def _lines(name: str) -> list[bytes]:
    return (FILES / name).read_bytes().removesuffix(b"\n").split(b"\n")


def _by_line(name: str) -> dict[int, Defect]:
    found = {d.line: d for d in manifest().defects(channel="files", where=name)}
    assert len(found) == manifest().count(channel="files", where=name)
    return found


def test_orders_files_hold_every_order_and_nothing_unlisted() -> None:
    truth = {row["order_id"]: row for row in outward(seed_table("orders"))}
    good = Counter()
    for day in manifest().head["orders_by_day"]:
        name = f"orders_{day}.csv"
        planted = _by_line(name)
        header, *lines = _lines(name)
        assert header.decode().split(",") == list(files.ORDER_COLUMNS)
        for number, line in enumerate(lines, 2):
            defect = planted.pop(number, None)
            if defect is None or defect.kind in ("late", "duplicate"):
                order_id = int(line.split(b",")[0])
                assert line == files.order_line(truth[order_id])
                late = defect is not None and defect.kind == "late"
                assert (truth[order_id]["ordered_at"][:10] < day) == late
                if defect is None or late:
                    good[order_id] += 1
                if defect:
                    assert defect.keys == {"order_id": order_id}
            else:
                _check_order(line, defect, truth[defect.keys["order_id"]])
                good[defect.keys["order_id"]] += 1
        assert not planted
    assert good == dict.fromkeys(truth, 1)


def _check_order(line: bytes, defect: Defect, true: dict) -> None:
    clean = files.order_line(true)
    assert line != clean
    if defect.kind == "encoding":
        with pytest.raises(UnicodeDecodeError):
            line.decode("utf-8")
        assert line.decode("latin-1").encode() == clean
        return
    fields = next(csv.reader(io.StringIO(line.decode())))
    assert (len(fields) != len(files.ORDER_COLUMNS)) == (defect.kind == "bad_row")
    if defect.kind == "bad_row":
        return
    row = dict(zip(files.ORDER_COLUMNS, fields, strict=True))
    expected = {
        "wrong_unit": lambda: int(row["total_eur"]) == round(true["total_eur"] * 100),
        "not_a_number": lambda: math.isnan(float(row["total_eur"])),
        "missing_key": lambda: row["customer_id"] == "",
        "orphan": lambda: int(row["customer_id"]) >= files.UNKNOWN_CUSTOMER,
    }
    assert expected[defect.kind]()
    row[defect.column] = f"{true[defect.column]:.2f}" if defect.column == "total_eur" else true[defect.column]
    assert files.csv_line(list(row.values())) == clean


def test_reviews_file() -> None:
    truth = {row["review_id"]: row for row in outward(seed_table("reviews"))}
    planted, seen = _by_line("reviews.jsonl"), Counter()
    newest = ""
    for number, line in enumerate(_lines("reviews.jsonl"), 1):
        defect = planted.pop(number, None)
        if defect is None:
            row = json.loads(line)
            assert row == truth[row["review_id"]]
            assert row["written_at"] >= newest
            newest = row["written_at"]
            seen[row["review_id"]] += 1
            continue
        true = truth[defect.keys["review_id"]]
        assert (line == files.review_line(true)) == (defect.kind in ("duplicate", "late"))
        seen[true["review_id"]] += defect.kind != "duplicate"
        if defect.kind == "late":
            assert true["written_at"] < newest
        elif defect.kind == "bad_row":
            with pytest.raises(ValueError, match="Expecting|Unterminated"):
                json.loads(line)
        elif defect.kind == "encoding":
            with pytest.raises(UnicodeDecodeError):
                line.decode()
        elif defect.kind != "duplicate":
            row = json.loads(line)
            assert {k for k in row if row[k] != true[k]} == {defect.column}
    assert not planted
    assert seen == dict.fromkeys(truth, 1)


def test_price_file() -> None:
    clean = Counter(files.price_line(row) for row in outward(seed_table("price_lists")))
    name = f"price_list_{DAY}.csv"
    planted = _by_line(name)
    found = Counter(line for n, line in enumerate(_lines(name)[1:], 2) if n not in planted)
    extra = [d for d in planted.values() if d.kind == "duplicate"]
    assert found.total() == clean.total() - (len(planted) - len(extra))
    assert not found - clean
    assert {d.kind for d in planted.values()} >= {"encoding", "bad_row", "orphan", "not_a_number", "wrong_unit"}


def test_weather_file() -> None:
    clean, found = seed_table("weather").to_pylist(), pq.read_table(FILES / "weather.parquet").to_pylist()
    planted = {d.line: d for d in manifest().defects(channel="files", dataset="weather")}
    for n, row in enumerate(found):
        defect = planted.get(n)
        if defect is None:
            assert row == clean[n]
        elif defect.kind == "duplicate":
            assert {"store_id": row["store_id"], "observed_at": utc(row["observed_at"])} == defect.keys
        else:
            assert repr({k: v for k, v in row.items() if k != defect.column}) == repr(
                {k: v for k, v in clean[n].items() if k != defect.column}
            )
            assert row[defect.column] != clean[n][defect.column]
            if defect.kind == "wrong_unit":
                assert row["celsius"] == fahrenheit(clean[n]["celsius"])


@pytest.mark.parametrize("name", ["orders", "deliveries", "reviews"])
def test_api_feed(name: str) -> None:
    truth = {row[KEYS[name]]: row for row in outward(seed_table(name))}
    made = feed(SEED_PLAN, name, list(truth.values()))
    changed = {d.keys[KEYS[name]]: d for d in manifest().defects(channel="api", dataset=name) if d.column}
    times = Counter(row[KEYS[name]] for row in made.items())
    assert set(times) == set(truth)
    twice = manifest().keys(KEYS[name], channel="api", dataset=name, kind="duplicate")
    assert {key for key, n in times.items() if n > 1} == twice
    for row in made.items():
        defect, true = changed.get(row[KEYS[name]]), truth[row[KEYS[name]]]
        assert {k for k in row if row[k] != true[k]} == ({defect.column} if defect else set())
    assert made.items("1999-01-01") == []
    for day, rows in by_day(list(truth.values()), TABLES[name].moment).items():
        assert {row[KEYS[name]] for row in made.items(day)} == {row[KEYS[name]] for row in rows}


def test_mqtt_stream() -> None:
    day = DAY.isoformat()
    m, sent = manifest(), messages(day)
    truth = {r["reading_id"]: r for r in seed_table("temperatures").to_pylist()}
    planted = {d.keys["reading_id"]: d for d in m.defects(channel="mqtt") if "reading_id" in d.keys}
    assert [len(sent), len({x.body["reading_id"] for x in sent})] == [m.head["messages"]["sent"], 5760]
    newest: dict[str, int] = {}
    seen: Counter = Counter()
    for message in sent:
        key = message.body["reading_id"]
        defect, true = planted.get(key), truth[key]
        seen[key] += 1
        late = message.body["sequence"] < newest.get(message.van_id, 0) and seen[key] == 1
        assert late == (defect is not None and defect.kind == "late")
        newest[message.van_id] = max(newest.get(message.van_id, 0), message.body["sequence"])
        value = fahrenheit(true["celsius"]) if message.body["unit"] == "F" else true["celsius"]
        wrong = defect is not None and defect.kind in ("wrong_unit", "not_a_number")
        assert (message.body["value"] != value) == wrong
        try:
            assert json.loads(message.payload("r"))["run"] == "r"
            assert message.kind != "bad_row"
        except ValueError:
            assert defect.kind == "bad_row"
            assert message.payload("r").startswith(b'{"run": "r"')
    assert {key for key, n in seen.items() if n > 1} == {k for k, d in planted.items() if d.kind == "duplicate"}
    assert all(message.kind == "" for message in messages("2026-05-05"))
    assert {x.van_id for x in sent if x.body["unit"] == "F"} == {stream.FAHRENHEIT_VAN}
