"""Kafka Connect with its three connectors: what a change becomes, what a kill costs, who may ask it."""

from __future__ import annotations

import contextlib
import json
import random
import threading
import time
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator
from datetime import UTC as GMT
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import bson
import psutil
import psycopg
import pymysql
import pytest
import requests
from bson import Decimal128, Int64, ObjectId, json_util
from confluent_kafka import KafkaError
from confluent_kafka.admin import AdminClient
from pymongo.collection import Collection
from pymongo.errors import OperationFailure
from pymysql.cursors import Cursor

from flow360 import clients
from flow360.checks import rehearsal
from flow360.errors import FlowError
from flow360.ingestion import binlog, capture, connect
from flow360.ingestion.topics import NoSuchTopic, read_all
from flow360.monitoring import dashboards
from flow360.primeur.schema import FLEET, MONEY, UTC
from flow360.settings import ROOT, settings
from flow360.trace import vans
from flow360.waiting import wait_for
from tests.faults.support import SEED, kill, ready, recovered, report, until
from tests.live.listeners import watched
from tests.live.test_fleet import rows

SERVICES = ("kafka-connectors", "kafka-connectors-fleet", "kafka-connectors-catalogue", "prometheus")
NAME, TOPIC, KEY = "primeur-shop", "cdc.shop.public.payments", "payment_id"
VANS, WORK, JOB = "primeur-fleet", "cdc.fleet.fleet.maintenance", "maintenance_id"
PAPERS, SHEETS = "primeur-catalogue", "cdc.catalogue.catalogue.sheets"
LOST = "the server does not know what comes after the last change"
CHANGES, KEYS = 1000, 100
CYCLE = 1_000_000_000  # milliseconds after which a new key may be an old one's: eleven days


@pytest.fixture(scope="module", autouse=True)
def beyond(stack) -> set[str]:
    """All that the tests need; what could be reached from another machine while the worker started."""
    with watched(stack.host.supervisor.service_of) as found:
        stack.down(["kafka-connect"])
        stack.up(SERVICES)
        connect.main()  # a job that was done is not done again; what a killed run has left is put right
    until_it_streams()
    return found


def until_it_streams() -> None:
    """Wait until the connector has read the tables, and their changes come."""
    until(_streams, "the connector to have read the tables")


def _streams() -> bool:
    """Whether a new row comes as a change; while the tables are read for the first time, it is one row of them."""
    key = new_key()
    with clients.postgres("source") as db:
        pay(db, key, "1.00")
        db.commit()
        until(lambda: events(key, key), "a new row")
        db.execute("delete from payments where payment_id = %s", [key])
    return events(key, key)[0][1]["op"] == "c"


def _place_is_kept(name: str) -> bool:
    """Whether Connect has written down how far in the log it is: killed before, it would read the tables again."""
    places = clients.connect().get(f"/connectors/{name}/offsets").json()["offsets"]
    return bool(places) and not any({"snapshot", "initsync"} & set(one["offset"]) for one in places)


@pytest.fixture
def shop() -> Iterator[psycopg.Connection]:
    """The shop's database, each statement a transaction; rows of ours are gone afterwards."""
    with clients.postgres("source") as db:
        db.autocommit = True
        yield db
        db.execute("delete from payments where payment_id >= 9000000000")


def pay(db: psycopg.Connection, number: int, amount: str) -> None:
    db.execute(
        "insert into payments select %s, min(order_id), 'charge', 'card', %s, now() from orders",
        [number, Decimal(amount)],
    )


@pytest.fixture
def fleet() -> Iterator[Cursor]:
    """The fleet's database, each statement a transaction; rows of ours are gone afterwards."""
    with clients.mysql(autocommit=True) as db, db.cursor() as cursor:
        yield cursor
        cursor.execute("delete from maintenance where maintenance_id >= 9000000000")


def mend(db: Cursor, number: int, cost: str) -> None:
    db.execute("insert into maintenance values (%s, 'VAN-01', 'tyres', now(), null, %s, null)", [number, cost])


def paying(shop: psycopg.Connection) -> Callable[..., None]:
    """What inserts, changes or deletes a payment of ours."""

    def do(what: str, key: int, amount: str = "") -> None:
        if what == "insert":
            pay(shop, key, amount)
        elif what == "delete":
            shop.execute("delete from payments where payment_id = %s", [key])
        else:
            shop.execute("update payments set amount_eur = %s where payment_id = %s", [Decimal(amount), key])

    return do


def mending(fleet: Cursor) -> Callable[..., None]:
    """The same of a van's maintenance."""

    def do(what: str, key: int, cost: str = "") -> None:
        if what == "insert":
            mend(fleet, key, cost)
        elif what == "delete":
            fleet.execute("delete from maintenance where maintenance_id = %s", [key])
        else:
            fleet.execute("update maintenance set cost_eur = %s where maintenance_id = %s", [cost, key])

    return do


@pytest.fixture
def sheets() -> Iterator[Collection]:
    """The catalogue's sheets, each write a transaction; documents of ours are gone afterwards."""
    with clients.mongodb() as client:
        yield client.catalogue.sheets
        client.catalogue.sheets.delete_many({"_id": {"$gte": 9_000_000_000}})


def new_key() -> int:
    """A key that no test has used before on this stack: it holds the millisecond in which it was made."""
    return 9_000_000_000 + time.time_ns() // 1_000_000 % CYCLE * 1000


def events(first: int, last: int, topic: str = TOPIC, column: str = KEY) -> list[tuple[int, dict | None]]:
    """What a topic holds of these keys, in order: key, and the change (None: the tombstone behind a delete).

    What is older than the keys is not read: the topic holds whole tables, and whoever waits asks many times.
    """
    found = []
    now = time.time_ns() // 1_000_000
    age = (now - (first - 9_000_000_000) // 1000) % CYCLE
    try:
        records = read_all(topic, since=now - age)
    except NoSuchTopic:
        return []
    for record in records:
        if record.key is None:  # the table was emptied
            continue
        key = json.loads(record.key)[column]
        key = json.loads(key) if isinstance(key, str) else key  # a document's may be of any type, and is JSON again
        if isinstance(key, int) and first <= key <= last:
            found.append((key, record.value and json.loads(record.value)))
    return found


# --- what a change becomes --------------------------------------------------------------------------------------------


def test_insert_update_delete_and_a_rollback(shop):
    key = new_key()
    pay(shop, key, "12.50")
    with contextlib.suppress(psycopg.Rollback), shop.transaction():
        shop.execute("update payments set amount_eur = 99 where payment_id = %s", [key])
        pay(shop, key + 1, "1.00")
        raise psycopg.Rollback
    shop.execute("update payments set amount_eur = 7.25 where payment_id = %s", [key])
    shop.execute("delete from payments where payment_id = %s", [key])
    pay(shop, key + 2, "3.00")  # read after what was rolled back, but its partition may be ahead of the other
    until(lambda: len(events(key, key)) == 4 and events(key + 2, key + 2), "the last change of either key")
    assert not events(key + 1, key + 1), "it was rolled back"
    insert, update, delete, tombstone = [change for _, change in events(key, key)]
    assert [insert["op"], update["op"], delete["op"], tombstone] == ["c", "u", "d", None]
    assert (insert["before"], insert["after"]["amount_eur"]) == (None, "12.50"), "a decimal stays what it was"
    assert update["after"]["amount_eur"] == "7.25"
    assert delete["after"] is None
    assert delete["before"]["payment_id"] == key
    assert insert["source"]["lsn"] < update["source"]["lsn"] < delete["source"]["lsn"]
    assert insert["after"]["paid_at"].endswith("Z")


def captured(table: str) -> list[dict[str, Any]]:
    """The rows of a table of the fleet as its topic has them last, each value in the type of its column."""
    state = {}
    for change in capture.changes(f"cdc.fleet.fleet.{table}"):
        (key,) = change.key.values()
        state[key] = change.after
    read = {
        MONEY: lambda text: Decimal(text),
        UTC: lambda text: datetime.fromisoformat(text).astimezone(GMT).replace(tzinfo=None),
        FLEET["vans"].arrow.field("bought_on").type: lambda text: date.fromisoformat(text.removesuffix("Z")),
    }
    for column in FLEET[table].columns:
        for row in filter(None, state.values()):
            if row[column.name] is not None and column.type in read:
                assert isinstance(row[column.name], str), "a number would have been rounded, or mean a day"
                row[column.name] = read[column.type](row[column.name])
    return [state[key] for key in sorted(state) if state[key]]


def test_the_fleets_rows_are_the_databases_after_the_copy_and_after_changes(fleet):
    """Each row of each table: exact decimals, dates, moments whatever the writer's zone, letters of four bytes."""
    until(lambda: {name: captured(name) for name in FLEET} == {name: rows(name) for name in FLEET}, "the copy")
    key = new_key()
    fleet.execute("set time_zone = '+05:30'")
    fleet.execute(
        "insert into maintenance values (%s, 'VAN-01', 'tyres', '2026-10-25 07:59:59', '2026-03-29 07:30:00',"
        " 99999999.99, %s), (%s, 'VAN-02', 'brakes', '1970-01-02 00:00:00', '2038-01-19 03:14:07', 0.10, %s)",
        [key, "🚐 Œuvre, l'été — 漢字\n\"\\", key + 1, ""],
    )
    fleet.execute(
        "insert into vans values ('VAN-99', 1, 'ÉÀ-99-Œ', '𝔼', 'diesel', 1, '1000-01-01', 0.30000000000000004)"
    )
    until(lambda: events(key + 1, key + 1, WORK, JOB), "the last of them")
    assert captured("maintenance") == rows("maintenance")
    until(lambda: captured("vans") == rows("vans"), "the van")
    fleet.execute("update vans set bought_on = '9999-12-31', odometer_km = 1e15 where van_id = 'VAN-99'")
    fleet.execute("update maintenance set cost_eur = null, note = null where maintenance_id = %s", [key])
    until(lambda: captured("vans") == rows("vans"), "the other van")
    fleet.execute("delete from vans where van_id = 'VAN-99'")
    fleet.execute("delete from maintenance where maintenance_id = %s", [key])
    until(lambda: len(events(key, key, WORK, JOB)) == 4, "the last change")
    assert {name: captured(name) for name in FLEET} == {name: rows(name) for name in FLEET}
    insert, update, delete, tombstone = [change for _, change in events(key, key, WORK, JOB)]
    assert [insert["op"], update["op"], delete["op"], tombstone] == ["c", "u", "d", None]
    assert update["before"] == insert["after"]
    assert (insert["after"]["cost_eur"], update["after"]["cost_eur"]) == ("99999999.99", None)
    assert insert["after"]["reported_at"] == "2026-10-25T02:29:59Z"
    assert delete["before"] == update["after"]


def documents(name: str) -> dict[str, dict[str, Any]]:
    """A collection, each document with the type of each value, by its `_id`."""
    with clients.mongodb() as client:
        return {str(one["_id"]): one for one in client.catalogue[name].find()}


def captured_documents(name: str) -> dict[str, dict[str, Any]]:
    """The documents of a collection as its topic has them last."""
    state = {}
    for change in capture.changes(f"cdc.catalogue.catalogue.{name}"):
        state[change.key["id"]] = change.after
    return {str(one["_id"]): one for one in map(json_util.loads, filter(None, state.values()))}


def test_the_catalogues_documents_are_the_databases_after_the_copy_and_after_changes(sheets):
    """Each document to the last byte: decimals, moments, whole numbers, lists in lists, letters, fields unknown."""

    def same() -> bool:
        return all(bson_of(captured_documents(name)) == bson_of(documents(name)) for name in ("sheets", "reviews"))

    until(same, "the copy")
    key = new_key()
    strange = {
        "price": Decimal128("0.10"),
        "at": datetime(2026, 10, 25, 2, 29, 59, 123000, GMT),
        "long": Int64(2**62),
        "double": 0.1 + 0.2,
        "lists": [[1, [2, "3"]], [], {}, [{"a": None}]],
        "🚐 Œuvre": "l'été — 漢字\n\"\\",
        "id of its own": ObjectId(),
        "yes": True,
    }
    sheets.insert_one({"_id": key, "name": "Pommes"} | strange)
    sheets.insert_one({"_id": key + 1})
    until(same, "both sheets")
    sheets.update_one({"_id": key}, {"$set": {"lists.0.1.1": "4"}, "$unset": {"name": ""}})
    until(same, "the change")
    sheets.delete_one({"_id": key})
    until(lambda: len(events(key, key, SHEETS, "id")) == 4, "the last change")
    assert same()
    insert, update, delete, tombstone = [change for _, change in events(key, key, SHEETS, "id")]
    assert [insert["op"], update["op"], delete["op"], tombstone] == ["c", "u", "d", None]
    assert bson.encode(json_util.loads(insert["after"])) == bson.encode({"_id": key, "name": "Pommes"} | strange)
    assert update["updateDescription"]["removedFields"] == ["name"]
    assert delete["after"] is None


def bson_of(found: dict[str, dict[str, Any]]) -> dict[str, bytes]:
    """Documents as MongoDB keeps them: what is equal to the last byte has the same types."""
    return {key: bson.encode(one) for key, one in found.items()}


def test_a_trace_finds_a_tour_in_the_fleet_and_what_was_captured_of_it():
    way = vans.follow("VAN-03", "2026-05-07")
    assert [len(way[hop].places) > 1 for hop in ("fleet", "changes")] == [True, True], [step.said for step in way.steps]
    tours = [row["route_id"] for row in rows("tours") if (row["van_id"], str(row["day"])) == ("VAN-03", "2026-05-07")]
    assert [place.where for place in way["fleet"].places] == [f"table tours, route_id = {tour}" for tour in tours]


def step(lot: random.Random, first: int, number: int, held: dict[int, str | None], do: Callable[..., Any]) -> None:
    """Insert, change or delete the row of one key, and note what is to be there then."""
    key = first + lot.randrange(KEYS)
    if held.get(key) is None:
        held[key] = f"{number}.00"
        do("insert", key, held[key])
    elif lot.random() < 0.2:
        held[key] = None
        do("delete", key)
    else:
        held[key] = f"{number}.50"
        do("update", key, held[key])


@pytest.mark.timeout(200)
def test_the_worker_is_killed_among_changes_of_three_databases(stack, shop, fleet, sheets, beyond):
    until(lambda: all(map(_place_is_kept, (NAME, VANS, PAPERS))), "the places in the logs to be written down")
    first, lot = new_key(), random.Random(SEED)
    paid: dict[int, str | None] = {}
    mended: dict[int, str | None] = {}
    described: dict[int, str | None] = {}
    killed: list[float] = []

    in_shop, in_fleet = paying(shop), mending(fleet)

    def in_catalogue(what: str, key: int, name: str = "") -> None:
        if what == "insert":
            sheets.insert_one({"_id": key, "name": name})
        elif what == "delete":
            sheets.delete_one({"_id": key})
        else:
            sheets.update_one({"_id": key}, {"$set": {"name": name}})

    for number in range(CHANGES):
        if number == CHANGES // 3:
            threading.Thread(target=lambda: killed.append(kill(stack, "kafka-connect"))).start()
        step(lot, first, number, paid, in_shop)
        if number % 2:
            step(lot, first, number, mended, in_fleet)
        else:
            step(lot, first, number, described, in_catalogue)
    last = first + KEYS
    pay(shop, last, "1.00")
    mend(fleet, last, "1.00")
    sheets.insert_one({"_id": last, "name": "1.00"})
    until(lambda: killed, "the kill")
    back = recovered(stack, "kafka-connect", killed[0])
    ends = ((TOPIC, KEY), (WORK, JOB), (SHEETS, "id"))
    until(lambda: all(events(last, last, *one) for one in ends), "the last change of each", 90)
    own = "between %s and %s", [first, last - 1]
    fleet.execute(f"select maintenance_id, cost_eur from maintenance where maintenance_id {own[0]}", own[1])
    of_shop = shop.execute(f"select payment_id, amount_eur from payments where payment_id {own[0]}", own[1])
    of_catalogue = ((one["_id"], one["name"]) for one in sheets.find({"_id": {"$gte": first, "$lt": last}}))
    half, papers = CHANGES // 2, events(first, last - 1, SHEETS, "id")
    for what, changes, expected, there, found, amount, place in (
        ("the shop's", CHANGES, paid, of_shop, events(first, last - 1), "amount_eur", ("lsn",)),
        ("the fleet's", half, mended, fleet, events(first, last - 1, WORK, JOB), "cost_eur", ("file", "pos")),
        ("the catalogue's", half, described, of_catalogue, papers, "name", ("ts_ms", "ord")),
    ):
        said = [(tuple(one["source"][part] for part in place), key, one) for key, one in found if one]
        state = {key: _held(one, amount) for _, key, one in sorted(said, key=lambda one: one[:2])}
        places = {one[:2] for one in said}
        report(
            f"Connect's worker killed among {what} changes",
            changes=changes,
            distinct=len(places),
            doubled=len(said) - len(places),
            lost=changes - len(places),
            recovery=back,
            beyond=len(beyond),
        )
        assert len(places) == changes
        assert state == expected
        assert {key: after for key, after in expected.items() if after} == {key: str(held) for key, held in there}
    with watched(stack.host.supervisor.service_of) as after_a_kill:
        psutil.Process(stack.host.pids()["kafka-connect"]).kill()
        stack.up(["kafka-connect"])
        assert ready(stack, "kafka-connect")
    assert not beyond | after_a_kill


def _held(change: dict, column: str) -> str | None:
    """What a change leaves in a column, None where it leaves no row. A document is JSON within JSON."""
    after = change["after"]
    return after and (json.loads(after) if isinstance(after, str) else after)[column]


@pytest.mark.parametrize(
    ("gone", "why"),
    [
        ("slot", "there is no slot primeur_shop"),
        ("offset", "there is no note of what was read"),
        ("what the slot held", "the slot primeur_shop begins too late"),
    ],
)
def test_a_slot_or_an_offset_that_is_gone_means_that_the_tables_are_read_again(shop, capsys, gone, why):
    worker, slot = clients.connect(), "primeur_shop"
    until_it_streams()
    worker.put(f"/connectors/{NAME}/stop")
    until(lambda: connect.state(worker, NAME)["connector"]["state"] == "STOPPED", "the connector to stop")
    active = "select active from pg_replication_slots where slot_name = %s"
    until(lambda: shop.execute(active, [slot]).fetchone() == (False,), "the task to leave its slot, too")
    key = new_key()
    pay(shop, key, "5.00")
    if gone == "offset":
        wait_for(lambda: worker.delete(f"/connectors/{NAME}/offsets").ok, 60, "the offset to be gone")
    else:
        shop.execute("select pg_drop_replication_slot(%s)", [slot])
    if gone == "what the slot held":  # another one, younger than the offset
        shop.execute("select pg_create_logical_replication_slot(%s, 'pgoutput')", [slot])
    connect.main([NAME])
    assert capsys.readouterr().out == f"{NAME} runs, from the beginning: {why}\n"
    until(lambda: events(key, key), "the row that nobody saw")
    assert {change["op"] for _, change in events(key, key)} == {"r"}
    pay(shop, key + 1, "6.00")
    until(lambda: events(key + 1, key + 1), "a change after that")
    before = worker.get(f"/connectors/{NAME}/offsets").json()
    connect.main([NAME])
    assert connect.runs(worker, NAME)
    pay(shop, key + 2, "7.00")
    until(lambda: events(key + 2, key + 2), "a change after the second time")
    seen = [[change["op"] for _, change in events(one, one)] for one in (key, key + 1, key + 2)]
    assert seen == [["r"], ["c"], ["c"]], f"the second time, nothing was read again: {before}"


# --- who may ask ------------------------------------------------------------------------------------------------------

PATHS = (
    ("GET", "/"),
    ("GET", "/connectors"),
    ("POST", "/connectors"),
    ("GET", f"/connectors/{NAME}/config"),
    ("PUT", f"/connectors/{NAME}/config"),
    ("POST", f"/connectors/{NAME}/tasks"),
    ("PUT", f"/connectors/{NAME}/fence"),
    ("DELETE", f"/connectors/{NAME}"),
    ("GET", "/connector-plugins"),
    ("GET", "/admin/loggers"),
    ("PUT", "/admin/loggers/root"),
    ("GET", "/application.wadl"),
    ("GET", "/nothing"),
)


@pytest.mark.parametrize(("method", "path"), PATHS)
def test_without_the_password_it_answers_nothing_and_to_a_page_nothing_either(method, path):
    url = settings().kafka_connect_url + path
    json_too = {"headers": {"Content-Type": "application/json"}, "data": "[]"} if method != "GET" else {}
    for login in (None, ("primeur", "x"), ("primeur", ""), ("admin", settings().kafka_connect_password)):
        assert requests.request(method, url, auth=login, timeout=20, **json_too).status_code == 401
    ours = ("primeur", settings().kafka_connect_password)
    page = requests.get(url, auth=ours, headers={"Origin": "http://evil.example"}, timeout=20)
    assert page.status_code == 403
    assert not [name for name in page.headers if name.startswith("Access-Control")]


def test_a_wrong_password_and_an_unknown_connector_are_one_line_each(monkeypatch):
    with pytest.raises(FlowError, match="^kafka-connect: GET /connectors/none/status: 404: No status found"):
        connect.state(clients.connect(), "none")
    monkeypatch.setattr(settings(), "kafka_connect_password", "x")
    with pytest.raises(FlowError, match=r"401: .*: is it the \.env that kafka-connect was started with\?$"):
        clients.connect().get("/connectors")


def validated(change: dict[str, str]) -> dict[str, dict]:
    """What the worker says of each field of a configuration that it is only to look at; of some it says nothing."""
    config = {**connect.connectors()[NAME], **change, "name": "evil", "slot.name": "evil"}
    kind = config["connector.class"].rpartition(".")[2]
    answer = clients.connect().put(f"/connector-plugins/{kind}/config/validate", json=config).json()
    return {one["value"]["name"]: one["value"] for one in answer["configs"] if one["value"]}


def test_a_connector_logs_in_as_nobody_else():
    config = {**connect.connectors()[NAME], "producer.override.security.protocol": "PLAINTEXT"}
    said = [error for field in validated(config).values() for error in field["errors"]]
    assert "does not allow" in " ".join(said)


@pytest.mark.parametrize("asked", ["${env:KAFKA_CONNECT_PASSWORD}", "${env:PATH}", "${file:/etc/os-release:ID}"])
def test_a_connector_reaches_no_variable_and_no_file_that_is_not_meant_for_it(asked):
    """In a field whose error repeats what it holds: there, a variable that is meant for connectors can be read."""

    def held(text: str) -> str:
        (said,) = validated({"topic.prefix": f"{text}/"})["topic.prefix"]["errors"]
        return said.partition(" is invalid: ")[2].partition("/ has invalid format")[0]

    port = str(settings().postgres_source_port)
    assert held("${env:SHOP_CAPTURE_PORT}") in (port, "5432"), "in a container it is that of the containers' network"
    assert held(asked) == asked


def test_no_secret_stands_in_its_topics_its_command_line_its_files_or_its_log(stack):
    from tests.live.test_broker import all_of

    names = (
        "kafka",
        "kafka_connect",
        "shop_capture",
        "fleet_capture",
        "fleet_root",
        "catalogue_capture",
        "catalogue_root",
    )
    secrets = [getattr(settings(), f"{name}_password") for name in names]
    service = stack.model["kafka-connect"]
    told = " ".join(psutil.Process(stack.host.pids()[service.name]).cmdline())
    files = [file for file in stack.host.programs.conf(service).rglob("*") if file.suffix == ".properties"]
    jobs = ("kafka-connectors", "kafka-connectors-fleet", "kafka-connectors-catalogue")
    writers = ("kafka-connect", *jobs, "postgres-source", "mysql", "mongodb")
    logs = [stack.host.programs.log(stack.model[name]) for name in writers]
    binlogs = [*(stack.host.programs.data(stack.model["mysql"]) / "db").glob("binlog.0*")]
    assert binlogs
    texts = [told, *(file.read_text("utf-8", "replace") for file in (*files, *logs, *binlogs))]
    kept = [value for topic in ("connect-configs", "connect-offsets", "connect-status") for value in all_of(topic)]
    kept += all_of("connect-history-fleet")
    assert files
    assert any(b"${env:SHOP_CAPTURE_PASSWORD}" in value for value in kept)
    for secret in secrets:
        assert len(secret) > 20
        assert not [text for text in texts if secret in text]
        assert not [value for value in kept if secret.encode() in value]


def test_the_role_reads_the_captured_tables_and_nothing_else(shop):
    s = settings()
    at = {"host": "127.0.0.1", "port": s.postgres_source_port, "dbname": "shop", "user": "capture"}
    with psycopg.connect(**at, password=s.shop_capture_password, connect_timeout=10, autocommit=True) as db:
        assert db.execute("select count(*) from payments").fetchone()[0] > 0
        for query in ("select * from customers", "delete from payments", "select pg_read_file('/etc/passwd')"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                db.execute(query)
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(**at, password="x", connect_timeout=10)


def test_the_fleets_user_reads_the_captured_tables_and_nothing_else():
    at = {"user": "capture", "password": settings().fleet_capture_password}
    with clients.mysql(**at, autocommit=True) as db, db.cursor() as cursor:
        assert cursor.execute("select * from vans") > 0
        for query in (
            "select * from loaded",
            "delete from vans",
            "create table fleet.mine (id int)",
            "select * from mysql.user",
            "select 1 into outfile '/tmp/flow360-x'",
        ):
            with pytest.raises(pymysql.Error, match="denied"):
                cursor.execute(query)
    with pytest.raises(FlowError, match="mysql refused the password"):
        clients.mysql(user="capture", password="x")


def test_the_catalogues_account_reads_the_captured_database_and_nothing_else():
    with clients.mongodb(username="capture", password=settings().catalogue_capture_password) as client:
        assert client.catalogue.sheets.count_documents({}) > 0
        assert "catalogue" in client.list_database_names()
        for call in (
            lambda: client.catalogue.sheets.insert_one({}),
            lambda: client.catalogue.sheets.drop(),
            lambda: client.workshop.trial.find_one(),
            lambda: client.admin["system.users"].find_one(),
            lambda: client.admin.command("createUser", "x", pwd="y", roles=["root"]),
        ):
            with pytest.raises(OperationFailure, match="not authorized"):
                call()
    with pytest.raises(FlowError, match="mongodb refused the password"):
        clients.mongodb(username="capture", password="x")


def test_without_a_login_nobody_invents_a_change_of_fleet_or_catalogue_or_sees_the_history_of_tables():
    from tests.live.test_broker import SECONDS, send

    for topic in (WORK, SHEETS):
        before = len(read_all(topic))
        assert send(clients.confluent(), topic).code() == KafkaError.TOPIC_AUTHORIZATION_FAILED
        assert len(read_all(topic)) == before > 0, "everybody reads those there are"
    seen = AdminClient(clients.confluent()).list_topics(timeout=SECONDS).topics
    assert WORK in seen
    assert "connect-history-fleet" not in seen


# --- what is measured -------------------------------------------------------------------------------------------------


def test_a_binlog_that_is_purged_fails_the_task_and_somebody_is_told_and_the_tables_are_read_again(fleet, capsys):
    prometheus, worker, key = clients.prometheus(), clients.connect(), new_key()
    running = f'kafka_connect_task_state{{connector="{VANS}", state="running"}}'
    until(lambda: len(prometheus.query(running)), "the task to be seen running")
    until(lambda: _place_is_kept(VANS), "its place to be written down")
    connect.stop(worker, VANS)
    with binlog.root(autocommit=True) as db, db.cursor() as cursor:
        mend(fleet, key, "1.00")
        cursor.execute("flush binary logs")
        mend(fleet, key + 1, "2.00")
        cursor.execute("flush binary logs")
        cursor.execute("show binary logs")
        cursor.execute("purge binary logs to %s", [cursor.fetchall()[-1][0]])
    worker.put(f"/connectors/{VANS}/resume")
    until(lambda: "FAILED" in json.dumps(connect.state(worker, VANS)), "the task to fail")
    assert "required binlog files have been purged" in connect.state(worker, VANS)["tasks"][0]["trace"]
    assert not events(key, key + 1, WORK, JOB), "what it does not know, it does not pass over"
    told = prometheus.alerts
    until(lambda: VANS in [labels["connector"] for labels in told("CaptureFailed").labels], "the alert")
    connect.main([VANS])
    said = capsys.readouterr().out
    assert said.startswith(f"{VANS} runs, from the beginning: the binlog no longer holds what comes after binlog.")
    assert said.count("\n") == 1
    until(lambda: captured("maintenance") == rows("maintenance"), "the tables to be read again")
    assert {change["op"] for _, change in events(key, key + 1, WORK, JOB)} == {"r"}
    connect.main([VANS])
    assert capsys.readouterr().out == f"{VANS} runs, from where it was\n"


def test_a_token_that_the_server_does_not_know_fails_the_task_and_somebody_is_told_and_all_is_read_again(
    sheets, capsys
):
    prometheus, worker, key = clients.prometheus(), clients.connect(), new_key()
    until(lambda: _place_is_kept(PAPERS), "its place to be written down")
    connect.stop(worker, PAPERS)
    offsets = f"/connectors/{PAPERS}/offsets"
    (place,) = worker.get(offsets).json()["offsets"]
    place["offset"]["resume_token"] = _before_all(place["offset"]["resume_token"])
    worker.patch(offsets, json={"offsets": [place]})
    sheets.insert_one({"_id": key})
    worker.put(f"/connectors/{PAPERS}/resume")
    until(lambda: "FAILED" in json.dumps(connect.state(worker, PAPERS)), "the task to fail")
    assert not events(key, key, SHEETS, "id"), "what it does not know, it does not pass over"
    told = prometheus.alerts
    until(lambda: PAPERS in [labels["connector"] for labels in told("CaptureFailed").labels], "the alert")
    connect.main([PAPERS])
    said = capsys.readouterr().out
    assert said.startswith(f"{PAPERS} runs, from the beginning: {LOST}: ")
    assert said.count("\n") == 1
    until(lambda: events(key, key, SHEETS, "id"), "the documents to be read again")
    assert {change["op"] for _, change in events(key, key, SHEETS, "id")} == {"r"}
    until(lambda: _place_is_kept(PAPERS), "the new place to be written down")
    connect.main([PAPERS])
    assert capsys.readouterr().out == f"{PAPERS} runs, from where it was\n"


def _before_all(token: str) -> str:
    """Make the token, as Debezium keeps it, of a change that the server has long removed."""
    place = bson.decode(bytes.fromhex(bson.decode(b64decode(token))["_data"]))
    return b64encode(bson.encode({"_data": bson.encode(place | {"s": 0}).hex()})).decode()


def test_a_server_that_was_made_again_is_read_from_the_beginning(stack, capsys):
    """Its places begin at 1 again, so a token of the one before would be taken for one of its own."""
    stack.reset(["mongodb"])
    stack.up(["catalogue-load"])
    with clients.mongodb() as client:
        client.catalogue.sheets.insert_one({"_id": (key := new_key())})
    connect.main([PAPERS])
    assert capsys.readouterr().out == f"{PAPERS} runs, from the beginning: this server was never captured\n"
    until(lambda: events(key, key, SHEETS, "id"), "the documents to be read again")
    with clients.mongodb() as client:
        client.catalogue.sheets.delete_one({"_id": key})
    until(lambda: len(events(key, key, SHEETS, "id")) == 3, "the deletion and its tombstone")
    assert bson_of(captured_documents("sheets")) == bson_of(documents("sheets"))


def test_the_alert_waits_for_a_hiccup_and_ends_with_the_failure():
    """What has not happened is played by promtool, at the moments that matter."""
    rules = (ROOT / "stack" / "prometheus" / "rules.yml").read_text("utf-8")
    task = f'kafka_connect_task_state{{connector="{NAME}",task="0",state='
    failed, other = f'{task}"failed"}}', f'{task}"running"}}'

    def case(what: str, samples: list[float], *probes: rehearsal.Probe) -> rehearsal.Case:
        return rehearsal.Case(what, {failed: samples, other: [1 - one for one in samples]}, probes)

    cases = [
        case("runs", [0] * 10, rehearsal.Probe(18, fires=False)),
        case("fails for a moment", [0, 1, 0, 0, 0], rehearsal.Probe(2, fires=False), rehearsal.Probe(8, fires=False)),
        case("has failed", [0, 1, 1, 1, 1], rehearsal.Probe(2, fires=False), rehearsal.Probe(6, fires=True)),
        case("was repaired", [1, 1, 1, 1, 0, 0], rehearsal.Probe(6, fires=True), rehearsal.Probe(10, fires=False)),
    ]
    assert rehearsal.rehearse(rules, "CaptureFailed", cases) is None
    missed = rehearsal.rehearse(rules.replace("== 1\n        for: 4s", "== 1\n        for: 8s"), "CaptureFailed", cases)
    assert missed == rehearsal.Miss(cases[2], cases[2].probes[1], "pending"), "so it would be noticed"


def test_the_dashboard_shows_the_three_captures(shop, fleet, sheets):
    """Each panel has an answer of each connector while a change is on its way."""
    exprs = [
        target["expr"]
        for panel in dashboards.read("primeur")["panels"]
        for target in panel["targets"]
        if "kafka_connect" in target["expr"]
    ]
    assert len(exprs) == 3
    pay(shop, new_key(), "1.00")
    mend(fleet, new_key(), "1.00")
    sheets.insert_one({"_id": new_key()})
    for expr in exprs:
        late = "behind" in expr
        label, all_of = (
            ("server", {"cdc.shop", "cdc.fleet", "cdc.catalogue"}) if late else ("connector", {NAME, VANS, PAPERS})
        )
        until(lambda expr=expr, at=label, due=all_of: due <= set(clients.prometheus().query(expr).get(at, ())), expr)


# --- at the end -------------------------------------------------------------------------------------------------------


def test_a_reset_removes_connector_slot_and_publication(stack, shop):
    said: list[str] = []
    stack.reset(["kafka-connect"], lambda event: said.append(event.detail))
    assert said[:4] == [
        f"{PAPERS} is removed",
        f"{VANS} is removed",
        f"{NAME} is removed",
        "the slot primeur_shop is removed",
    ]
    assert shop.execute("select from pg_replication_slots").rowcount == 0
    assert shop.execute("select from pg_publication").rowcount == 0
    key = new_key()
    pay(shop, key, "2.00")
    stack.up(["kafka-connectors"])
    until(lambda: events(key, key), "the tables to be read again")
    assert {change["op"] for _, change in events(key, key)} == {"r"}
    assert list(clients.connect().get("/connectors").json()) == [NAME]
