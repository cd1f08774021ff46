"""What a connector needs of its database, without one: which kind it is, whose password, and what stays and why."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from contextlib import nullcontext
from types import SimpleNamespace
from typing import ClassVar

import bson
import pytest
import typer
from pymongo.errors import OperationFailure

from flow360.errors import Exit, FlowError, ServiceError
from flow360.ingestion import capture, connect, sources
from flow360.ingestion.sources import mongodb, mysql, postgres
from flow360.settings import LAYERS, settings
from flow360.stack.model import model


class Answers:
    """PostgreSQL with a slot that nobody reads, which gives one answer; what it was told is kept."""

    rowcount = 1

    def __init__(self, *row: object) -> None:
        self.row, self.told = row or None, []

    def execute(self, query: str, _parameters: object = None) -> Answers:
        self.told.append(query)
        return self

    def fetchone(self) -> tuple | None:
        return (False,) if self.told[-1].startswith("select active") else self.row


class Server:
    """MySQL, or what it says of itself; what it was told is kept."""

    def __init__(self, version: str = "8.4.11", user: bool = True, grants: tuple[str, ...] = ()) -> None:
        self.version, self.user, self.grants, self.told = version, user, grants, []

    def execute(self, query: str, _parameters: object = None) -> int:
        self.told.append(query)
        return int(self.user)

    def fetchone(self) -> tuple[str]:
        return (self.version,)

    def fetchall(self) -> list[tuple]:
        if "show binary logs" in self.told[-1]:
            return [("binlog.000003", 500, "No"), ("binlog.000004", 157, "No")]
        return [(table,) for table in self.grants]


def test_a_connector_s_class_says_which_module_and_an_unknown_one_which_there_are():
    assert sources.of(connect.connectors()["primeur-shop"]) is postgres
    assert sources.of(connect.connectors()["primeur-fleet"]) is mysql
    assert sources.of({"connector.class": mysql.MARIADB}) is mysql
    assert sources.of(connect.connectors()["primeur-catalogue"]) is mongodb
    for config in ({}, {"connector.class": "io.debezium.connector.oracle.OracleConnector"}):
        with pytest.raises(FlowError, match=r"^connector\.class '.*': known are io\.debezium\.") as caught:
            sources.of(config)
        assert caught.value.code == Exit.USAGE


def test_the_password_is_the_generated_one_that_the_file_names(monkeypatch):
    monkeypatch.setattr(settings(), "shop_capture_password", "secret")
    for config in connect.connectors().values():
        (key,) = (key for key in config if key.endswith(".password"))
        assert config[key].startswith("${env:")
    assert sources.password_of(connect.connectors()["primeur-shop"]) == "secret"
    for said in ("secret", "${env:KAFKA_PASSWORD}", "${env:NOBODY_CAPTURE_PASSWORD}", "${env:SHOP_CAPTURE_HOST}"):
        for key in ("database.password", "mongodb.password"):
            with pytest.raises(FlowError, match=f"^{key}: it is to be ") as caught:
                sources.password_of({key: said})
            assert "secret" not in caught.value.message
    with pytest.raises(FlowError, match="^a password: it is to be "):
        sources.password_of({})


def test_mysql_has_the_connector_of_the_file_and_mariadb_its_own():
    config = connect.connectors()["primeur-fleet"]
    assert config["connector.class"] == "io.debezium.connector.mysql.MySqlConnector"
    assert mysql.fitting(Server("8.4.11"), config) == config
    assert mysql.fitting(Server("11.4.5-MariaDB-log"), config) == {**config, "connector.class": mysql.MARIADB}


def test_a_table_that_is_no_longer_listed_is_taken_back():
    server = Server(grants=("fleet.vans", "fleet.loaded"))
    mysql.prepare(server, {"database.user": "capture", "table.include.list": "fleet.vans,fleet.tours"}, "secret")
    assert [query for query in server.told if query.startswith("revoke")] == [
        "revoke all privileges on `fleet`.`loaded` from %s"
    ]
    assert {query for query in server.told if query.startswith("grant select")} == {
        "grant select on `fleet`.`vans` to %s",
        "grant select on `fleet`.`tours` to %s",
    }
    assert "secret" not in " ".join(server.told), "it is a parameter"


@pytest.mark.parametrize(
    ("user", "place", "why"),
    [
        (True, {"file": "binlog.000003", "pos": 500}, ""),
        (True, {"file": "binlog.000004", "pos": 4}, ""),
        (True, {"file": "binlog.000004", "pos": 158}, "the binlog no longer holds what comes after binlog.000004, 158"),
        (True, {"file": "binlog.000002", "pos": 4}, "the binlog no longer holds what comes after binlog.000002, 4"),
        (True, None, "there is no note of what was read"),
        (False, {"file": "binlog.000003", "pos": 500}, "this server was never captured"),
    ],
)
def test_a_place_that_the_binlog_does_not_hold_or_another_server_s_is_lost_with_its_reason(user, place, why):
    assert mysql.lost(Server(user=user), {"database.user": "capture"}, place) == why


class Documents:
    """MongoDB with an account or without; what it was asked is kept. A stream behind a token begins, or does not."""

    def __init__(self, account: bool = True, knows: bool = True, ops: Sequence[dict] = ()) -> None:
        self.account, self.knows, self.ops, self.told = account, knows, list(ops), []
        self.admin = self

    def __getitem__(self, _name: str) -> Documents:
        return self

    def command(self, name: str, _value: object = 1, **more: object) -> dict:
        self.told.append((name, more))
        return {"users": [{}] * self.account, "inprog": self.ops}

    def watch(self, resume_after: dict) -> nullcontext:
        self.told.append(("watch", resume_after))
        if not self.knows:
            raise OperationFailure("the resume point may no longer be in the oplog, full error: {'code': 286}", 286)
        return nullcontext()


TOKEN = b64encode(bson.encode({"_data": "82"})).decode()


@pytest.mark.parametrize(
    ("account", "knows", "place", "why"),
    [
        (True, True, {"resume_token": TOKEN}, ""),
        (True, True, None, "there is no note of what was read"),
        (True, True, {"sec": 1, "ord": 1, "initsync": True}, "there is no note of what was read"),
        (False, True, {"resume_token": TOKEN}, "this server was never captured"),
        (
            True,
            False,
            {"resume_token": TOKEN},
            "the server does not know what comes after the last change: the resume point may no longer be in the oplog",
        ),
    ],
)
def test_a_token_that_the_server_does_not_know_or_another_server_s_is_lost_with_its_reason(account, knows, place, why):
    server = Documents(account, knows)
    assert mongodb.lost(server, {"mongodb.user": "capture", "capture.target": "catalogue"}, place) == why
    assert [asked for name, asked in server.told if name == "watch"] == [{"_data": "82"}] * (
        not why or why.startswith("the server")
    )


@pytest.mark.parametrize(("account", "command"), [(True, "updateUser"), (False, "createUser")])
def test_the_catalogues_account_is_made_once_and_reads_only_what_is_captured(account, command):
    server = Documents(account)
    word = "of its own"
    mongodb.prepare(server, connect.connectors()["primeur-catalogue"], word)
    roles = [{"role": "read", "db": "catalogue"}, {"role": "clusterMonitor", "db": "admin"}]
    assert server.told[1:] == [(command, {"pwd": word, "roles": roles})]


def test_whether_somebody_reads_the_changes_is_asked_of_the_running_commands():
    def op(name: str, user: str) -> dict:
        return {"op": name, "effectiveUsers": [{"user": user, "db": "admin"}]}

    config = {"mongodb.user": "capture"}
    assert mongodb.is_read(Documents(ops=[op("getMore", "capture")]), config)
    assert not mongodb.is_read(Documents(ops=[op("getmore", "catalogue"), op("hello", "capture"), {}]), config)


def test_a_place_of_another_server_is_forgotten_before_this_one_lets_the_connector_in(monkeypatch):
    """A job that was killed between would find a user, and take the place for one of this server."""
    done: list[str] = []
    source = SimpleNamespace(
        connect=lambda: nullcontext(Server()),
        fitting=lambda _db, config: config,
        prepare=lambda *_: done.append("prepared"),
    )
    worker = SimpleNamespace(get=lambda _path: SimpleNamespace(json=lambda: ["primeur-fleet"]))
    monkeypatch.setattr(connect.sources, "of", lambda _config: source)
    monkeypatch.setattr(connect.sources, "password_of", lambda _config: "secret")
    monkeypatch.setattr(connect, "place_lost", lambda *_: "this server was never captured")
    monkeypatch.setattr(connect, "_without_place", lambda *_: done.append("forgotten"))
    monkeypatch.setattr(connect, "apply", lambda *_, from_scratch: done.append(f"from scratch: {from_scratch}"))
    assert [*connect.bring(worker, "primeur-fleet", {})] == [
        "primeur-fleet runs, from the beginning: this server was never captured"
    ]
    assert done == ["forgotten", "prepared", "from scratch: True"]


def test_the_worker_takes_moments_as_utc_with_either_engine():
    """MariaDB's connector reads the first copy of a TIMESTAMP in the zone of its JVM, and says that it is UTC's."""
    layer = (LAYERS / "2_ingestion.yaml").read_text("utf-8")
    assert "-Duser.timezone=UTC" in model()["kafka-connect"].native.java.options
    assert (
        layer.partition("\n  kafka-connect:\n")[2].partition("connect-distributed.sh")[0].count("user.timezone=UTC")
        == 1
    )


def test_a_connector_that_there_is_not_is_named_before_anything_is_done(monkeypatch, capsys):
    monkeypatch.setattr(connect, "bring", lambda *_: pytest.fail("it began"))
    with pytest.raises(typer.Exit) as caught:
        connect.main(["primeur-shop", "x"])
    assert caught.value.exit_code == Exit.USAGE
    assert capsys.readouterr() == ("", "no connector x: there are primeur-catalogue, primeur-fleet, primeur-shop\n")


def test_a_database_that_is_down_keeps_only_its_own_connector_from_running(monkeypatch, capsys):
    def bring(_worker, name, _config):
        if name == "primeur-fleet":
            raise ServiceError("mysql does not answer: start it")
        yield f"{name} runs"

    monkeypatch.setattr(connect, "bring", bring)
    with pytest.raises(typer.Exit) as caught:
        connect.main()
    assert caught.value.exit_code == Exit.SERVICE
    others = "primeur-catalogue runs\nprimeur-shop runs\n"
    assert capsys.readouterr() == (others, "primeur-fleet: mysql does not answer: start it\n")


def test_why_a_connector_does_not_run_is_the_last_cause_of_its_trace_in_one_line(monkeypatch):
    trace = (
        "ConnectException: producer\n\tat a.b\nCaused by: DebeziumException: purged. Error code: 1236\n\t... 6 more\n"
    )
    failed = {"connector": {"state": "RUNNING"}, "tasks": [{"state": "FAILED", "trace": trace}]}
    assert [connect.cause(part) for part in (failed["connector"], *failed["tasks"])] == [
        "",
        "DebeziumException: purged. Error code: 1236",
    ]
    config = SimpleNamespace(json=dict)
    worker = SimpleNamespace(
        get=lambda _path: config, put=lambda *_, **__: None, post=lambda *_: SimpleNamespace(ok=True)
    )
    monkeypatch.setattr(connect, "SECONDS", 0.01)
    monkeypatch.setattr(connect, "state", lambda *_: failed)
    with pytest.raises(FlowError, match=r"^x does not run: DebeziumException: purged\. Error code: 1236$"):
        connect.apply(worker, "x", {}, from_scratch=False)
    monkeypatch.setattr(connect, "state", lambda *_: {"connector": {"state": "PAUSED"}, "tasks": []})
    with pytest.raises(FlowError, match="for x to run, without success"):
        connect.apply(worker, "x", {}, from_scratch=False)


def test_a_connector_that_begins_again_has_a_life_of_its_own_and_one_that_goes_on_keeps_its(monkeypatch):
    """By it, rows that an earlier one has read are known from those of this one."""

    class Worker:
        kept: ClassVar[dict] = {}

        def get(self, path: str) -> SimpleNamespace:
            return SimpleNamespace(json=lambda: ["x"] if path == "/connectors" else self.kept)

        def put(self, path: str, json: dict | None = None) -> None:
            if path.endswith("/config"):
                self.kept = json

        def post(self, *_: object) -> SimpleNamespace:
            return SimpleNamespace(ok=True)

    monkeypatch.setattr(connect, "_without_place", lambda *_: None)
    monkeypatch.setattr(connect, "runs", lambda *_: True)
    worker, lives = Worker(), []
    for from_scratch in (False, True, False, True):
        connect.apply(worker, "x", {"a": "b"}, from_scratch=from_scratch)
        assert worker.kept["a"] == "b"
        lives.append(worker.kept.get("transforms.life.value.literal", ""))
    assert lives[0] == "" < lives[1] == lives[2] < lives[3]
    connect.apply(worker, "x", {"transforms": "own", "transforms.own.type": "T"}, from_scratch=True)
    assert worker.kept["transforms"] == "own", "a configuration's own transforms stay"


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
