"""What a connector needs of its database, without one: which kind it is, whose password, and what stays and why."""

from __future__ import annotations

import pytest

from flow360.errors import Exit, FlowError, ServiceError
from flow360.ingestion import capture, connect, sources
from flow360.ingestion.sources import postgres
from flow360.settings import settings


class Answers:
    """A database that gives one answer; what it was told is kept."""

    def __init__(self, *row: object) -> None:
        self.row, self.told = row or None, []
        self.rowcount = 1

    def execute(self, query: str, _parameters: object = None) -> Answers:
        self.told.append(query)
        return self

    def fetchone(self) -> tuple | None:
        return self.row


def test_a_connector_s_class_says_which_module_and_an_unknown_one_which_there_are():
    assert sources.of(connect.connectors()["primeur-shop"]) is postgres
    for config in ({}, {"connector.class": "io.debezium.connector.oracle.OracleConnector"}):
        with pytest.raises(FlowError, match=r"^connector\.class '.*': known are io\.debezium\.") as caught:
            sources.of(config)
        assert caught.value.code == Exit.USAGE


def test_the_password_is_the_generated_one_that_the_file_names(monkeypatch):
    monkeypatch.setattr(settings(), "shop_capture_password", "secret")
    for config in connect.connectors().values():
        assert config["database.password"].startswith("${env:")
    assert sources.password_of(connect.connectors()["primeur-shop"]) == "secret"
    for said in ("secret", "${env:KAFKA_PASSWORD}", "${env:NOBODY_CAPTURE_PASSWORD}", "${env:SHOP_CAPTURE_HOST}"):
        with pytest.raises(FlowError, match=r"^database\.password: it is to be ") as caught:
            sources.password_of({"database.password": said})
        assert "secret" not in caught.value.message


@pytest.mark.parametrize(
    ("row", "place", "why"),
    [
        ((False, False), {"lsn": 7}, ""),
        ((), {"lsn": 7}, "there is no slot x"),
        ((), None, "there is no slot x"),
        ((True, None), {"lsn": 7}, "the slot x has lost what was not read yet"),
        ((False, True), {"lsn": 7}, "the slot x begins too late"),
        ((False, None), None, "there is no note of what was read"),
    ],
)
def test_a_slot_that_does_not_hold_what_comes_next_goes_with_its_reason(row, place, why):
    db = Answers(*row)
    assert postgres.lost(db, {"slot.name": "x"}, place) == why
    assert any("pg_drop_replication_slot" in query for query in db.told) == bool(why and row)


def test_a_capture_ends_when_all_its_parts_are_gone_and_names_those_that_stay(monkeypatch):
    gone, stays = connect.Part("lesson10"), connect.Part("the slot lesson10", "postgres-source does not answer")
    assert [str(gone), str(stays)] == [
        "lesson10 is removed",
        "the slot lesson10 stays: postgres-source does not answer",
    ]
    monkeypatch.setattr(capture.clients, "connect", lambda: None)
    monkeypatch.setattr(capture.connect, "forget", lambda *_: iter([gone, stays]))
    with pytest.raises(FlowError, match=f"^{stays}$"):
        capture.end("lesson10")


def test_what_does_not_answer_keeps_its_part_and_the_other_goes(monkeypatch):
    class Worker:
        def get(self, _path: str) -> None:
            raise ConnectionError("no\nanswer")

    def down() -> None:
        raise ServiceError("postgres-source does not answer: start it")

    monkeypatch.setattr(postgres, "connect", down)
    parts = list(connect.forget(Worker(), "primeur-shop", connect.connectors()["primeur-shop"]))
    assert [str(part) for part in parts] == [
        "primeur-shop stays: no answer",
        "the slot primeur_shop stays: postgres-source does not answer: start it",
    ]
