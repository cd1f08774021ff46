"""What Kafka Connect has captured, read record by record: whose row, where it stands in the log, what it is now."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from flow360.ingestion import changes, connect
from flow360.ingestion.dead_letters import BadRecord
from flow360.ingestion.topics import Record
from flow360.processing import captured_compare as captured
from flow360.processing import captured_views

PAYMENTS, TOURS, SHEETS = "cdc.shop.public.payments", "cdc.fleet.fleet.tours", "cdc.catalogue.catalogue.sheets"
LIFE = "2026-11-29T16:16:42.999861+00:00"


def record(topic: str, key: object, value: object, life: str = LIFE, offset: int = 7) -> Record:
    headers = [("life", life.encode())] if life else []
    said = None if value is None else json.dumps(value, ensure_ascii=False).encode()
    return Record(topic, 1, offset, 0, json.dumps(key).encode(), said, headers)


def said(op: str, after: object, **source: object) -> dict:
    return {"op": op, "before": None, "after": after, "source": {"ts_ms": 1000, **source}}


@pytest.mark.parametrize(
    ("topic", "op", "source", "position"),
    [
        (PAYMENTS, "u", {"lsn": 2**40}, (2**40,)),
        (PAYMENTS, "r", {"lsn": 2**40}, ()),
        (TOURS, "c", {"file": "binlog.000012", "pos": 4, "row": 1}, (12, 4, 1)),
        (SHEETS, "c", {"ts_ms": 1795967716472, "ord": 6}, (1795967716472, 6)),
        (SHEETS, "r", {"ts_ms": 1795967716472, "ord": -1}, ()),
    ],
)
def test_a_change_says_where_it_stands_in_its_database_s_log(topic, op, source, position):
    after = '{"_id": 1}' if topic == SHEETS else {"a": "é", "b": None}
    found = changes.read(record(topic, {"id": "1"}, said(op, after, **source)))
    assert found.position == position
    assert (found.life, found.key, found.partition, found.offset) == (LIFE, '{"id": "1"}', 1, 7)
    assert found.at == datetime.fromtimestamp(source.get("ts_ms", 1000) / 1000, UTC)
    assert found.row == ('{"_id": 1}' if topic == SHEETS else '{"a":"é","b":null}')


def test_a_deleted_row_is_none_and_the_tombstone_behind_it_nothing_at_all():
    assert changes.read(record(PAYMENTS, {"id": 1}, said("d", None, lsn=1))).row is None
    assert changes.read(record(PAYMENTS, {"id": 1}, None)) is None


def test_what_is_no_number_stays_what_it_is():
    row = changes.read(record(PAYMENTS, {"id": 1}, said("c", {"a": float("nan"), "b": float("-inf")}, lsn=1))).row
    assert json.loads(row) == {"a": "NaN", "b": "-Infinity"}, "PostgreSQL reads them so"
    sheet = changes.read(record(SHEETS, {"id": "1"}, said("c", '{"_id": 1, "a": NaN, "b": [Infinity]}', ord=1))).row
    assert json.loads(sheet) == {"_id": 1, "a": {"$numberDouble": "NaN"}, "b": [{"$numberDouble": "Infinity"}]}


def test_a_long_value_that_was_not_sent_is_the_one_of_before():
    def at(lsn: int, note: str | None, status: str):
        return changes.read(record(PAYMENTS, {"id": 1}, said("u", {"note": note, "status": status}, lsn=lsn)))

    long, more = "é" * 9000, "__debezium_unavailable_value"
    (one,) = changes.newest([at(1, long, "a"), at(2, more, "b"), at(3, more, "c")])
    assert json.loads(one.row) == {"note": long, "status": "c"}
    (alone,) = changes.newest([at(3, more, "c")])
    assert json.loads(alone.over('{"note":null,"status":"b"}').row) == {"note": None, "status": "c"}
    assert alone.over(None) is alone, "nothing is known of it yet"
    assert at(4, "x", "d").over(alone.row).row == at(4, "x", "d").row


def test_a_table_that_was_emptied_has_a_place_in_the_log_and_no_key():
    found = changes.read(Record(PAYMENTS, 2, 5, 0, None, json.dumps(said("t", None, lsn=9)).encode(), []))
    assert (found.key, found.row, found.position) == ("", None, (9,))


@pytest.mark.parametrize(
    "spoilt",
    [
        Record(PAYMENTS, 0, 0, 0, None, b"{}", []),
        Record(PAYMENTS, 0, 0, 0, b"{}", b"\xff", []),
        Record(PAYMENTS, 0, 0, 0, b"{", b'{"op":"c"}', []),
        record(PAYMENTS, {}, []),
        record(PAYMENTS, {}, said("c", {})),
        record(TOURS, {}, said("c", {}, file="binlog", pos=1, row=0)),
        record(SHEETS, {}, said("c", "{", ord=1)),
        record(SHEETS, {}, said("c", {"_id": 1}, ord=1)),
        Record(PAYMENTS, 0, 0, 0, b"{}", b"[" * 100_000, []),
    ],
    ids=range(9),
)
def test_what_no_connector_has_written_is_refused_with_its_reason(spoilt):
    with pytest.raises(BadRecord, match="^not a change: "):
        changes.read(spoilt)


def test_of_two_changes_of_a_row_the_one_that_stands_last_in_the_log_is_kept():
    def at(lsn: int, amount: str, life: str = LIFE, op: str = "u"):
        return changes.read(record(PAYMENTS, {"id": 1}, said(op, {"amount": amount}, lsn=lsn), life))

    def kept(*found):
        (one,) = changes.newest(found)
        return json.loads(one.row)["amount"]

    assert kept(at(1, "a"), at(3, "c"), at(2, "b")) == "c"
    assert kept(at(3, "c"), at(9, "read", op="r")) == "c", "read before all changes of its life"
    assert kept(at(9, "before"), at(1, "now", LIFE.replace("2026", "2027"))) == "now", "another life, another log"
    assert kept(at(1, "first"), at(1, "again")) == "again"
    assert kept(at(9, "with"), at(1, "without", "")) == "with"


def test_topics_are_those_of_the_connectors_and_of_nobody_else():
    prefixes = {config["topic.prefix"] for config in connect.connectors().values()}
    assert prefixes == {f"cdc.{name}" for name in changes.SOURCES}
    heartbeats = {
        f"{config['topic.heartbeat.prefix']}.{config['topic.prefix']}" for config in connect.connectors().values()
    }
    assert heartbeats == set(changes.HEARTBEATS)
    assert [changes.source_of(one) for one in (PAYMENTS, TOURS, SHEETS)] == list(changes.SOURCES)
    for other in ("cdc.lesson10.till.sales", "cdc.heartbeat.cdc.shop", "vans.readings", "cdc.shop.test", "a.shop.b.c"):
        assert changes.source_of(other) == ""
    assert changes.table_of(PAYMENTS) == "payments"


def test_each_captured_table_is_one_that_has_columns_and_documents_are_those_of_the_catalogue():
    for source, names in captured.tables().items():
        assert source in changes.DOCUMENTS or set(names) <= set(captured_views.KNOWN[source])
    assert set(captured.tables()) == set(changes.SOURCES)


def test_a_list_has_a_view_of_its_own_whatever_its_way():
    assert captured_views.view_of(SHEETS, "") == "sheets"
    assert captured_views.view_of(SHEETS, "suppliers.certificates") == "sheets_suppliers_certificates"
