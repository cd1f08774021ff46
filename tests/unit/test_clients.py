"""Clients without services: each says in one line which service is down, and nothing hangs."""

from __future__ import annotations

import socket
import struct
import subprocess
import sys
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import requests

from flow360 import clients
from flow360.clients import databases, query, reach
from flow360.errors import Exit, FlowError
from flow360.settings import PORTS, settings
from flow360.waiting import patient


@pytest.fixture(autouse=True)
def nobody_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Ports on which nothing listens (1 to 7: never used), whatever runs on this machine."""
    monkeypatch.setenv("FLOW360_ENV_FILE", str(tmp_path / ".env"))
    for number, name in enumerate(PORTS, 1):
        monkeypatch.setenv(name, str(number))
    settings.cache_clear()
    yield
    settings.cache_clear()


def use_zookeeper() -> None:
    with clients.zookeeper(timeout=1.0):  # seconds, which it also takes to give up
        pass


CALLS = {
    "postgres-dwh": clients.postgres,
    "postgres-source": lambda: clients.engine("source"),
    "mysql": clients.mysql,
    "mysql ": lambda: clients.engine("mysql"),
    "mongodb": clients.mongodb,
    "kafka": clients.producer,
    "kafka ": lambda: clients.consumer("orders"),
    "kafka  ": clients.kafka_admin,
    "kafka   ": clients.confluent,
    "zookeeper": use_zookeeper,
    "mosquitto": clients.mqtt,
    "market-api": lambda: clients.api().get("/orders"),
    "spark-connect": clients.spark,
}


@pytest.mark.parametrize(
    ("files", "server"),
    [("compose.yaml", "postgres-dwh"), ("compose.yaml:stack/layers/split.yaml", "postgres-airflow")],
)
def test_where_airflow_s_state_is(files: str, server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMPOSE_FILE", files)
    settings.cache_clear()
    with pytest.raises(FlowError, match=f"{server} does not answer on 127.0.0.1:{clients.port_of(server)}"):
        clients.postgres("airflow")


@pytest.mark.parametrize("service", CALLS)
def test_a_service_that_is_down_is_one_line(service: str, caplog, capfd) -> None:
    call, service = CALLS[service], service.strip()
    began = time.monotonic()
    with pytest.raises(FlowError) as error:
        call()
    assert str(error.value) == (
        f"{service} does not answer on 127.0.0.1:{clients.port_of(service)}: start it with `flow360 up {service}`"
    )
    assert error.value.code == Exit.SERVICE
    assert time.monotonic() - began < patient(reach.CONNECT_SECONDS + 3)
    assert capfd.readouterr().err == ""


def test_zookeeper_that_hangs_up_is_not_called_a_wrong_password(monkeypatch: pytest.MonkeyPatch, capfd) -> None:
    """It takes the session (protocol, milliseconds, id, password, not read-only) and closes at the login."""
    session = struct.pack(">iiqi16s?", 0, 1000, 1, 16, b"", False)

    def hang_up(server: socket.socket) -> None:
        with suppress(OSError):  # the test is over
            while True:
                with server.accept()[0] as one:
                    if one.recv(4096):
                        one.sendall(struct.pack(">i", len(session)) + session)
                        one.recv(4096)

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=hang_up, args=[server], daemon=True).start()
        monkeypatch.setenv("ZOOKEEPER_PORT", str(server.getsockname()[1]))
        settings.cache_clear()
        with pytest.raises(FlowError) as error:
            use_zookeeper()
    assert str(error.value).startswith("zookeeper closed the connection before it let us in: try again"), error.value
    assert "Traceback" not in capfd.readouterr().err


def test_an_unknown_database_names_those_that_are() -> None:
    with pytest.raises(FlowError, match='"warehouse", "source", "airflow" or "metastore"'):
        clients.postgres("mysql")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('FATAL:  password authentication failed for user "shop"', "refused the password of .env"),
        ("fe_sendauth: no password supplied", "refused the password of .env"),
        ("FATAL:  the database system is starting up", "not ready yet"),
        (
            'connection failed:\nFATAL:  database "x" does not exist',
            'postgres-dwh: FATAL:  database "x" does not exist',
        ),
        ('FATAL:  permission denied for database "y"', 'postgres-dwh: FATAL:  permission denied for database "y"'),
        ("Connection refused", "flow360 up postgres-dwh"),
    ],
)
def test_what_postgres_says_becomes_one_line(text: str, says: str) -> None:
    line = str(databases._postgres_error("postgres-dwh", text))
    assert says in line
    assert "\n" not in line


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            'connection failed: connection to server at "127.0.0.1", port 5 failed: '
            "server does not support SSL, but SSL was required\n",
            "but: server does not support SSL, but SSL was required: see `flow360 logs postgres-dwh`",
        ),
        ('connection is bad: invalid sslmode value: "x"', 'but: invalid sslmode value: "x": see'),
    ],
)
def test_of_a_server_that_runs_the_driver_s_reason_is_said(
    text: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        monkeypatch.setenv("POSTGRES_DWH_PORT", str(listening.getsockname()[1]))
        settings.cache_clear()
        line = str(databases._postgres_error("postgres-dwh", text))
        assert line.startswith(f"postgres-dwh runs on 127.0.0.1:{listening.getsockname()[1]}, ")
    assert says in line
    assert "start it" not in line


@pytest.mark.parametrize(
    ("port", "call"),
    [("KAFKA_PORT", clients.producer), ("ZOOKEEPER_PORT", use_zookeeper), ("MQTT_PORT", clients.mqtt)],
)
def test_a_port_on_which_somebody_listens_and_says_nothing_is_not_called_down(
    port: str, call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reach, "CONNECT_SECONDS", 1)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        monkeypatch.setenv(port, str(listening.getsockname()[1]))
        settings.cache_clear()
        with pytest.raises(
            FlowError, match=rf"runs on 127.0.0.1:{listening.getsockname()[1]}, but: .+: see `flow360 logs"
        ):
            call()


def test_a_service_without_a_port_cannot_be_asked() -> None:
    assert clients.port_of("market-sensors") is None
    assert clients.answers("market-sensors")


def test_librdkafka_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reach, "answers", lambda service: True)
    made = clients.confluent(group_id="g", error_cb=print, **{"linger.ms": 5})
    assert (made["group.id"], made["error_cb"], made["linger.ms"]) == ("g", print, 5)
    assert made["bootstrap.servers"] == settings().kafka_bootstrap


class Answer(BaseHTTPRequestHandler):
    """429 on /busy, a cut connection on /cut, silence on /slow, else 200."""

    stop = threading.Event()

    def do_GET(self) -> None:
        if self.path == "/cut":
            self.connection.close()
            return
        if self.path == "/slow":
            self.stop.wait(5)
            return
        self.send_response(429 if self.path == "/busy" else 200)
        self.end_headers()

    def log_message(self, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch):
    from http.server import ThreadingHTTPServer

    http: HTTPServer = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    monkeypatch.setenv("MARKET_API_PORT", str(http.server_port))
    settings.cache_clear()
    yield
    Answer.stop.set()
    http.shutdown()
    http.server_close()


def test_the_api_session_leaves_http_to_the_caller(server: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    session = clients.api(seconds=0.2)
    assert session.get("/orders").status_code == 200
    assert session.get("/busy").status_code == 429
    with pytest.raises(requests.ConnectionError):
        session.get("/cut")
    with pytest.raises(requests.Timeout):
        session.get("/slow")


@pytest.mark.parametrize("body", ["<html>\nlog in</html>", "", '{"error": "later"}', "[]", "null", '{"status": '])
def test_a_good_status_with_something_else_in_it_is_one_line(body: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Odd(Answer):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body.encode())

        do_POST = do_GET

    http = HTTPServer(("127.0.0.1", 0), Odd)
    threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True).start()
    for port in ("PROMETHEUS_PORT", "AIRFLOW_PORT"):
        monkeypatch.setenv(port, str(http.server_port))
    settings.cache_clear()
    try:
        for service, ask in (("prometheus", lambda: clients.prometheus().query("up")), ("airflow", clients.airflow)):
            with pytest.raises(FlowError, match=rf"^{service}: .*200") as error:
                ask()
            assert "\n" not in str(error.value)
    finally:
        http.shutdown()
        http.server_close()


def test_importing_is_fast() -> None:
    heavy = ["kafka", "psycopg", "sqlalchemy", "kazoo", "paho", "requests", "pandas", "confluent_kafka"]
    program = f"import sys, flow360.clients; print([m for m in {heavy} if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert out.stdout.strip() == "[]"


def test_whole_numbers_stay_whole_beside_missing_ones() -> None:
    rows = [(2**53 + 1, 2**53 + 1, 1.5, None), (None, 1, None, None)]
    table = query._frame(rows, [("gap", True), ("gap", True), ("share", False), ("none", True)])
    assert [str(kind) for kind in table.dtypes] == ["Int64", "int64", "float64", "Int64"]
    assert table.iat[0, 0] == table.iat[0, 1] == 2**53 + 1
    assert query._frame([], [("gap", True)]).columns.tolist() == ["gap"]
