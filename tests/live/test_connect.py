"""Kafka Connect with the shop's connector: what a change becomes, what a kill costs, who may ask it anything."""

from __future__ import annotations

import contextlib
import json
import random
import threading
import time
from collections.abc import Iterator
from decimal import Decimal

import psutil
import psycopg
import pytest
import requests

from flow360 import clients
from flow360.checks import rehearsal
from flow360.errors import FlowError
from flow360.ingestion import connect
from flow360.ingestion.topics import NoSuchTopic, read_all
from flow360.monitoring import dashboards
from flow360.settings import ROOT, settings
from flow360.waiting import wait_for
from tests.faults.support import SEED, kill, ready, recovered, report, until
from tests.live.listeners import watched

SERVICES = ("kafka-connectors", "prometheus")
NAME, TOPIC = "primeur-shop", "cdc.shop.public.payments"
CHANGES, KEYS = 1000, 100
CYCLE = 1_000_000_000  # milliseconds after which a new key may be an old one's: eleven days


@pytest.fixture(scope="module", autouse=True)
def beyond(stack) -> set[str]:
    """All that the tests need; what could be reached from another machine while the worker started."""
    with watched(stack.host.supervisor.service_of) as found:
        stack.down(["kafka-connect"])
        stack.up(["kafka-connectors", "prometheus"])
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


def _place_is_kept() -> bool:
    """Whether Connect has written down how far in the log it is: killed before, it would read the tables again."""
    places = clients.connect().get(f"/connectors/{NAME}/offsets").json()["offsets"]
    return bool(places) and not any("snapshot" in one["offset"] for one in places)


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


def new_key() -> int:
    """A key that no test has used before on this stack: it holds the millisecond in which it was made."""
    return 9_000_000_000 + time.time_ns() // 1_000_000 % CYCLE * 1000


def events(first: int, last: int) -> list[tuple[int, dict | None]]:
    """What the topic holds of these keys, in order: key, and the change (None: the tombstone behind a delete).

    What is older than the keys is not read: the topic holds whole tables, and whoever waits asks many times.
    """
    found = []
    now = time.time_ns() // 1_000_000
    age = (now - (first - 9_000_000_000) // 1000) % CYCLE
    try:
        records = read_all(TOPIC, since=now - age)
    except NoSuchTopic:
        return []
    for record in records:
        key = json.loads(record.key)["payment_id"]
        if first <= key <= last:
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


@pytest.mark.timeout(200)
def test_the_worker_is_killed_among_a_thousand_changes(stack, shop, beyond):
    until(_place_is_kept, "the place in the log to be written down")
    first, lot = new_key(), random.Random(SEED)
    expected: dict[int, str | None] = {}
    killed: list[float] = []

    def killer() -> None:
        killed.append(kill(stack, "kafka-connect"))

    for number in range(CHANGES):
        if number == CHANGES // 3:
            threading.Thread(target=killer).start()
        key = first + lot.randrange(KEYS)
        if expected.get(key) is None:
            expected[key] = f"{number}.00"
            pay(shop, key, expected[key])
        elif lot.random() < 0.2:
            expected[key] = None
            shop.execute("delete from payments where payment_id = %s", [key])
        else:
            expected[key] = f"{number}.50"
            shop.execute("update payments set amount_eur = %s where payment_id = %s", [Decimal(expected[key]), key])
    last = first + KEYS
    pay(shop, last, "1.00")
    until(lambda: killed, "the kill")
    back = recovered(stack, "kafka-connect", killed[0])
    until(lambda: any(key == last for key, _ in events(last, last)), "the last change", 90)
    found = [(key, change) for key, change in events(first, last - 1) if change]
    places = {(key, change["source"]["lsn"]) for key, change in found}
    state: dict[int, tuple[int, str | None]] = {}
    for key, change in found:
        after = change["after"] and change["after"]["amount_eur"]
        state[key] = max(state.get(key, (0, None)), (change["source"]["lsn"], after), key=lambda one: one[0])
    held = {
        key: str(amount)
        for key, amount in shop.execute(
            "select payment_id, amount_eur from payments where payment_id between %s and %s", [first, last - 1]
        )
    }
    report(
        "Connect's worker killed among changes",
        changes=CHANGES,
        distinct=len(places),
        doubled=len(found) - len(places),
        lost=CHANGES - len(places),
        recovery=back,
        beyond=len(beyond),
    )
    assert len(places) == CHANGES
    assert {key: after for key, (_, after) in state.items()} == expected
    assert {key: after for key, after in expected.items() if after} == held
    with watched(stack.host.supervisor.service_of) as after_a_kill:
        psutil.Process(stack.host.pids()["kafka-connect"]).kill()
        stack.up(["kafka-connect"])
        assert ready(stack, "kafka-connect")
    assert not beyond | after_a_kill


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
    connect.main()
    assert capsys.readouterr().out == f"{NAME} runs, from the beginning: {why}\n"
    until(lambda: events(key, key), "the row that nobody saw")
    assert {change["op"] for _, change in events(key, key)} == {"r"}
    pay(shop, key + 1, "6.00")
    until(lambda: events(key + 1, key + 1), "a change after that")
    before = worker.get(f"/connectors/{NAME}/offsets").json()
    connect.main()
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

    assert held("${env:SHOP_CAPTURE_PORT}") == str(settings().postgres_source_port)
    assert held(asked) == asked


def test_no_secret_stands_in_its_topics_its_command_line_its_files_or_its_log(stack):
    from tests.live.test_broker import all_of

    secrets = [getattr(settings(), f"{name}_password") for name in ("kafka", "kafka_connect", "shop_capture")]
    service = stack.model["kafka-connect"]
    told = " ".join(psutil.Process(stack.host.pids()[service.name]).cmdline())
    files = [file for file in stack.host.programs.conf(service).rglob("*") if file.suffix == ".properties"]
    logs = [
        stack.host.programs.log(stack.model[name]) for name in ("kafka-connect", "kafka-connectors", "postgres-source")
    ]
    texts = [told, *(file.read_text("utf-8", "replace") for file in (*files, *logs))]
    kept = [value for topic in ("connect-configs", "connect-offsets", "connect-status") for value in all_of(topic)]
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


# --- what is measured -------------------------------------------------------------------------------------------------


def test_a_task_that_failed_is_in_the_metrics_and_somebody_is_told(shop):
    prometheus, worker = clients.prometheus(), clients.connect()
    running = f'kafka_connect_task_state{{connector="{NAME}", state="running"}}'
    until(lambda: len(prometheus.query(running)), "the task to be seen running")
    config = connect.connectors()[NAME]
    try:
        worker.put(f"/connectors/{NAME}/config", json={**config, "publication.name": "there_is_none"})
        until(lambda: "FAILED" in json.dumps(connect.state(worker, NAME)), "the task to fail")
        until(lambda: "CaptureFailed" in set(prometheus.alerts()["alert"]), "the alert")
    finally:
        connect.main()
    until(lambda: connect.runs(worker, NAME), "the connector to run again")


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


def test_the_dashboard_shows_the_capture(shop):
    """Each panel has an answer while a change is on its way."""
    exprs = [
        target["expr"]
        for panel in dashboards.read("primeur")["panels"]
        for target in panel["targets"]
        if "kafka_connect" in target["expr"]
    ]
    assert len(exprs) == 3
    pay(shop, new_key(), "1.00")
    for expr in exprs:
        until(lambda expr=expr: not clients.prometheus().query(expr).empty, expr)


# --- at the end -------------------------------------------------------------------------------------------------------


def test_a_reset_removes_connector_slot_and_publication(stack, shop):
    said: list[str] = []
    stack.reset(["kafka-connect"], lambda event: said.append(event.detail))
    assert said[:2] == [f"{NAME} is removed", "the slot primeur_shop is removed"]
    assert shop.execute("select from pg_replication_slots").rowcount == 0
    assert shop.execute("select from pg_publication").rowcount == 0
    key = new_key()
    pay(shop, key, "2.00")
    stack.up(["kafka-connectors"])
    until(lambda: events(key, key), "the tables to be read again")
    assert {change["op"] for _, change in events(key, key)} == {"r"}
    assert list(clients.connect().get("/connectors").json()) == [NAME]
