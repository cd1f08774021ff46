"""What chapter 02 shows of delivery: the kill falls into the gap, the answer gets lost, a merge can be repeated."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pandas as pd
import pytest
from psycopg import DataError, sql
from psycopg.rows import dict_row

from flow360 import clients, lesson
from flow360.errors import FlowError
from flow360.ingestion import topics, trial
from flow360.ingestion.loading import merge_by_copy

SERVICES = ("02",)

TABLE = "staging.test_delivery"


@pytest.fixture(scope="module", autouse=True)
def services() -> None:
    lesson.start("02_ingestion")


@pytest.fixture
def table(request: pytest.FixtureRequest) -> Iterator[str]:
    """An empty table; with the parameter "key", orders are unique in it."""
    key = "primary key" if getattr(request, "param", "") == "key" else ""
    lesson.sql(f"drop table if exists {TABLE}")
    lesson.sql(f"create table {TABLE} (order_id bigint {key}, total_eur numeric(10,2))")
    yield TABLE
    lesson.sql(f"drop table {TABLE}")


def test_commit_first_loses_and_doubles_nothing(table: str) -> None:
    found = trial.delivery_trial(n=300, commit="before", kill_at=120, table=table)
    assert found.sent == 300
    assert found.lost > 0
    assert found.doubled == 0
    assert found.rows == found.written == 300 - found.lost


def test_commit_last_doubles_and_loses_nothing(table: str) -> None:
    found = trial.delivery_trial(n=300, commit="after", kill_at=120, table=table)
    assert found.lost == 0
    assert found.doubled > 0
    assert found.rows == found.written == 300 + found.doubled


@pytest.mark.parametrize("table", ["key"], indirect=True)
def test_an_idempotent_sink_holds_each_order_once(table: str) -> None:
    found = trial.delivery_trial(300, "after", 120, "on conflict do nothing", table)
    assert (found.rows, found.lost, found.doubled) == (300, 0, 0)
    assert found.written > 300


def test_a_reader_that_never_reaches_the_gap_is_one_line(table: str) -> None:
    with pytest.raises(FlowError, match="did not come to the gap"):
        trial.delivery_trial(n=20, kill_at=500, table=table)
    with clients.kafka_admin() as admin:
        assert not [name for name in admin.list_topics() if name.startswith("delivery-trial-")]


@pytest.mark.parametrize(("idempotent", "doubled"), [(False, True), (True, False)])
def test_a_lost_answer(idempotent: bool, doubled: bool) -> None:
    topic = topics.fresh_topic("test-lost-answer")
    try:
        with trial.losing_cable() as line, clients.producer(proxy_url=line, enable_idempotence=idempotent) as out:
            for number in range(100):
                out.send(topic, str(number).encode())
        held = Counter(int(record.value) for record in topics.read_all(topic))
    finally:
        topics.drop_topics(topic)
    assert held.keys() == set(range(100))
    assert (held.total() > 100) == doubled


@pytest.mark.parametrize("table", ["key"], indirect=True)
def test_a_merge_says_what_it_did_and_is_all_or_nothing(table: str) -> None:
    rows = pd.DataFrame({"order_id": [1, 2, 3], "total_eur": [1.5, None, 2.25]})
    with clients.postgres() as db:
        assert merge_by_copy(db, table, rows, "order_id") == {"new": 3, "changed": 0, "same": 0}
        assert merge_by_copy(db, table, rows, "order_id") == {"new": 0, "changed": 0, "same": 3}
    rows.loc[1, "total_eur"] = 7
    rows = pd.concat([rows, pd.DataFrame({"order_id": [4], "total_eur": [9.75]})])  # keys stay whole numbers
    with clients.postgres() as db:
        assert merge_by_copy(db, table, rows, "order_id") == {"new": 1, "changed": 1, "same": 2}
    with pytest.raises(Exception, match="cannot affect row a second time"), clients.postgres() as db:
        merge_by_copy(db, table, pd.concat([rows.assign(total_eur=0), rows]), "order_id")
    assert lesson.sql(f"select sum(total_eur) from {table}").iat[0, 0] == 1.5 + 7 + 2.25 + 9.75


@pytest.fixture
def odd_table() -> Iterator[str]:
    """A table with one of each: partitions, two keys, a gap, quotes, json, an identity, a computed column."""
    name = 'staging.Test "merge" 100%'
    quoted = sql.Identifier(*name.split("."))
    with clients.postgres() as db:
        db.execute(sql.SQL("drop table if exists {}").format(quoted))
        db.execute(
            sql.SQL("""create table {} (
                day date, order_id bigint, items int, "Note {{}} ""x"" 100%" text,
                about json, tags jsonb, price numeric,
                nr bigint generated always as identity, twice int generated always as (items * 2) stored,
                primary key (order_id, day)
            ) partition by range (day)""").format(quoted)
        )
        db.execute(sql.SQL("create table staging.test_merge_may partition of {} default").format(quoted))
    yield name
    with clients.postgres() as db:
        db.execute(sql.SQL("drop table {}").format(quoted))


def test_a_merge_knows_every_kind_of_table(odd_table: str) -> None:
    note = 'Note {} "x" 100%'
    rows = pd.DataFrame(
        {
            "day": ["2026-05-07", "2026-05-08", "2026-05-08"],
            "order_id": [1, 1, 2**53 + 1],
            "items": [3, None, 4],
            note: ["a", "b", None],
            "about": [{"a": [1, None]}, None, '{"b" :2}'],
            "tags": [["x"], None, {"y": 1.5}],
            "price": [1.50, 2, None],
        }
    )
    keys = ["order_id", "day"]
    with clients.postgres() as db:
        assert merge_by_copy(db, odd_table, rows, keys) == {"new": 3, "changed": 0, "same": 0}
        there = pd.DataFrame(
            db.execute(sql.SQL("select * from {}").format(sql.Identifier(*odd_table.split(".")))).fetchall(),
            columns=["day", "order_id", "items", note, "about", "tags", "price", "nr", "twice"],
        )
        assert there["order_id"].tolist() == [1, 1, 2**53 + 1]
        assert there["items"].tolist()[0] == 3
        assert there["about"].tolist() == [{"a": [1, None]}, None, {"b": 2}]
        # what came out goes in again, with what the table counts and computes
        assert merge_by_copy(db, odd_table, rows, keys) == {"new": 0, "changed": 0, "same": 3}
        rows.loc[1, "items"], rows.loc[2, "price"] = 7, 1
        again = pd.concat([rows, rows.iloc[:1].assign(order_id=5)]).assign(nr=there["nr"].max() + 1, twice=0)
        assert merge_by_copy(db, odd_table, again, keys) == {"new": 1, "changed": 2, "same": 1}
        db.row_factory = dict_row
        assert merge_by_copy(db, odd_table, rows[keys], keys) == {"new": 0, "changed": 0, "same": 3}
        with pytest.raises(DataError, match="invalid input syntax for type integer"):
            merge_by_copy(db, odd_table, rows.assign(items=[1.5, None, 2]), keys)


def test_what_sql_answers_is_exact() -> None:
    """Beyond 2**53 a float is another order; moments and days are the server's."""
    found = lesson.sql("""
        select * from (values
            (9007199254740993::bigint, 7::smallint, date '9999-12-31', '2026-05-07 10:00+02'::timestamptz),
            (null, null, null, null)
        ) t(order_id, items, day, at)
    """)
    assert [str(value) for value in found.iloc[0]][:3] == ["9007199254740993", "7", "9999-12-31"]
    assert found["at"].iloc[0].isoformat() == "2026-05-07T08:00:00+00:00"
    assert found.iloc[1].isna().all()
