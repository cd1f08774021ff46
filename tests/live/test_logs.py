"""The search engine and the shipper: real lines parsed, shut for everybody else, plain in what they refuse."""

from __future__ import annotations

import socket
import ssl
from datetime import UTC, datetime

import psutil
import pytest
import requests

from flow360 import clients
from flow360.checks import rehearsal
from flow360.clients.search import Denied, Refused
from flow360.monitoring.logs import LOGS, boards, grammar
from flow360.settings import ROOT, settings
from flow360.trace import orders
from flow360.trace.way import Thing
from tests.faults.support import report, until
from tests.live.listeners import watched

SERVICES = ("logstash", "market-api", "prometheus")
# A line of each format, as the services write them; what is expected of it.
SAMPLES = [
    (
        "2026-11-28 22:16:37,326 INFO  impl.FsDatasetImpl: Added",
        {"log.level": "INFO", "log.logger": "impl.FsDatasetImpl", "message": "Added", "@timestamp": "21:16:37.326Z"},
    ),
    (
        "2026-11-28T22:15:45,844 WARN exec.FunctionRegistry: UDF",
        {"log.level": "WARN", "message": "UDF", "@timestamp": "21:15:45.844Z"},
    ),
    ("26/11/28 22:15:48 ERROR Master: RECEIVED", {"log.level": "ERROR", "@timestamp": "21:15:48.000Z"}),
    (
        "2026-11-28T22:14:17.260053Z [warning  ] section not found [airflow.configuration] loc=parser.py:1455",
        {"log.level": "WARN", "message": "section not found", "@timestamp": "22:14:17.260Z"},
    ),
    (
        "2026-11-28T20:55:02.172Z [INFO]  core: vault is sealed",
        {"log.level": "INFO", "log.logger": "core", "@timestamp": "20:55:02.172Z"},
    ),
    (
        '2026-11-28 22:15:20.431 UTC [10528] monitor@datawarehouse ERROR:  column "x" is missing\nSTATEMENT: select x',
        {
            "log.level": "ERROR",
            "message": 'column "x" is missing',
            "user.name": "monitor@datawarehouse",
            "error.stack_trace": "STATEMENT: select x",
            "@timestamp": "22:15:20.431Z",
        },
    ),
    (
        'ts=2026-11-28T22:14:56.368Z caller=main.go:823 level=warn component=x msg="Received \\"SIGTERM\\"" more=1',
        {"log.level": "WARN", "log.logger": "main.go:823", "message": 'Received \\"SIGTERM\\"'},
    ),
    (
        "ts=2026-11-28T22:16:44.712Z caller=node_exporter.go:117 level=info collector=conntrack",
        {"log.level": "INFO", "message": "collector=conntrack"},
    ),
    ("1795903956: New connection", {"message": "New connection", "@timestamp": "2026-11-28T22:12:36"}),
    (
        "[I 2026-11-28 19:02:05.268 ServerApp] Use Control-C",
        {"log.level": "INFO", "log.logger": "ServerApp", "@timestamp": "18:02:05.268Z"},
    ),
    (
        '{"@timestamp": "2026-05-07T10:00:00.5+02:00", "level": "WARNING", "order_id": 7, "status": 503}',
        {"log.level": "WARN", "order_id": 7, "http.response.status_code": 503, "@timestamp": "08:00:00.500Z"},
    ),
    (
        '{"timestamp":"2026-05-07T10:00:00Z","event":"a task","level":"info","logger":"task"}',
        {"message": "a task", "log.level": "INFO", "@timestamp": "10:00:00.000Z"},
    ),
    ("an address: a.b@example.com", {"message": "an address: <e-mail>", "tags": ["_grokparsefailure"]}),
    ('{"level": "INFO", ', {"message": '{"level": "INFO", ', "tags": ["_jsonparsefailure"]}),
    ("2026-13-45 25:00:00,000 INFO a: b", {"tags": ["_grokparsefailure"]}),
]


@pytest.fixture(scope="module", autouse=True)
def up(stack):
    stack.up(SERVICES)


def value(document: dict, field: str) -> object:
    for part in field.split("."):
        document = document[part]
    return document


def utc(moment: str) -> str:
    return datetime.fromisoformat(moment).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


@pytest.mark.parametrize(("line", "expected"), SAMPLES)
def test_the_pipeline_takes_each_format_apart(line, expected):
    """Simulated on the server: a writer one hour east of Greenwich, whose lines say no zone."""
    source = {
        "@timestamp": "2026-01-01T00:00:00Z",
        "message": line,
        "service": {"name": "s"},
        "log": {"file": {"path": "/logs/s.log"}},
        "event": {"timezone": "+01:00"},
    }
    answer = clients.search().post(f"/_ingest/pipeline/{LOGS}/_simulate", json={"docs": [{"_source": source}]}).json()
    document = answer["docs"][0]["doc"]["_source"]
    for field, wanted in expected.items():
        found = value(document, field)
        assert (wanted in utc(found)) if field == "@timestamp" else found == wanted, document
    assert "tags" in expected or "tags" not in document, document
    assert document["event"]["original"] == line.replace("a.b@example.com", "<e-mail>")


def test_the_server_has_the_pipeline_of_the_file():
    there = clients.search().get(f"/_ingest/pipeline/{LOGS}").json()[LOGS]
    assert there == grammar.pipeline()


def test_a_request_is_found_by_its_trace_and_its_order():
    trace = "ab" * 16
    api = clients.api()
    order = api.get("/orders?limit=1").json()["items"][0]["order_id"]
    api.get(f"/orders/{order}", headers={"traceparent": f"00-{trace}-{trace[:16]}-01"})
    wanted = {"query": {"bool": {"filter": [{"term": {"trace.id": trace}}, {"term": {"order_id": order}}]}}}

    def found() -> list:
        return clients.search().get(f"/{LOGS}/_search", json=wanted).json()["hits"]["hits"]

    line = until(found, "the line of the request", 30)[0]["_source"]
    assert line["service"]["name"] == "market-api"
    assert line["url"]["path"] == f"/orders/{order}"
    assert line["milliseconds"] > 0
    assert any("market-api" in place.where for place in orders.logs(Thing("order", order)))


def test_the_saved_objects_are_drawn_from_kibanas_file():
    until(lambda: not boards.buckets("lines-by-service").empty, "a line", 30)
    for name in ("primeur-lines", "primeur-errors"):
        assert len(boards.draw(name).axes) >= 3
    assert list(boards.rows("errors"))[:2] == ["@timestamp", "service.name"]


# --- doors ------------------------------------------------------------------------------------------------------------


def test_without_a_password_the_search_engine_says_nothing():
    url = settings().elasticsearch_url
    for auth in (None, ("elastic", ""), ("elastic", "elastic"), ("admin", "admin"), ("shipper", "x")):
        for path in ("/", f"/{LOGS}/_search", "/_cluster/health", "/_plugins/_security/api/internalusers"):
            answer = requests.get(url + path, auth=auth, timeout=10)
            assert answer.status_code == 401, (auth, path)
            assert settings().elastic_password not in answer.text


def test_the_shipper_may_write_and_nothing_else():
    shipper = clients.search_as("shipper", settings().shipper_password)
    for method, path in (
        ("GET", f"/{LOGS}/_search"),
        ("DELETE", f"/{LOGS}-000001"),
        ("PUT", f"/_ingest/pipeline/{LOGS}"),
        ("PUT", "/another/_doc/1"),
        ("GET", "/_cluster/settings"),
    ):
        with pytest.raises(Denied, match="shipper may not do this"):
            shipper.request(method, path, json={"a": 1} if method == "PUT" else None)
    with pytest.raises(Refused, match="no such index"):
        clients.search().get("/nothing/_search")


def test_the_port_of_the_cluster_wants_a_certificate(stack):
    """Over it, another node could do everything: a stranger is not let in, with TLS or without."""
    process = psutil.Process(stack.host.pids()["elasticsearch"])
    ports = {one.laddr.port for one in process.net_connections("tcp") if one.status == psutil.CONN_LISTEN}
    (transport,) = ports - {settings().elasticsearch_port}
    with socket.create_connection(("127.0.0.1", transport), timeout=10) as plain:
        plain.sendall(b"ES\x00\x00\x00\x06" + bytes(6))
        plain.settimeout(10)
        try:
            said = plain.recv(100)
        except ConnectionError:
            said = b""
        assert not said.startswith(b"ES")
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection(("127.0.0.1", transport), timeout=10) as raw, pytest.raises(OSError):
        wrapped = context.wrap_socket(raw)  # with TLS 1.3 the refusal may come after the handshake
        wrapped.sendall(b"ES\x00\x00\x00\x06" + bytes(6))
        if not wrapped.recv(100):
            raise ConnectionError("closed")


def test_another_user_reads_no_file_of_either(stack, as_another):
    for name in ("elasticsearch", "logstash"):
        data = stack.host.programs.data(stack.model[name])
        for folder in (data, stack.host.state / "logs"):
            assert as_another("ls", str(folder)).returncode != 0, folder
    assert as_another("cat", str(stack.host.programs.conf(stack.model["elasticsearch"]) / "node.key")).returncode != 0


def test_no_password_stands_in_a_command_line_or_a_log(stack):
    secrets = [settings().elastic_password, settings().shipper_password]
    for name in ("elasticsearch", "logstash"):
        assert not [s for s in secrets if s in " ".join(psutil.Process(stack.host.pids()[name]).cmdline())]
        assert not [s for s in secrets if s in stack.logs(name, 100_000)]
        folder = stack.host.programs.conf(stack.model[name])
        assert not [
            path for path in folder.rglob("*") for s in secrets if path.is_file() and s.encode() in path.read_bytes()
        ]


@pytest.mark.timeout(200)
def test_from_its_first_moment_it_listens_here_only_and_lets_nobody_in(stack):
    stack.down(["elasticsearch"])
    with watched(stack.host.supervisor.service_of) as beyond:
        stack.up(["logstash"])
    report("31 doors at start", beyond_loopback=len(beyond))
    assert beyond == set()
    assert requests.get(settings().elasticsearch_url, timeout=10).status_code == 401


# --- what waits is said -----------------------------------------------------------------------------------------------


def test_prometheus_knows_what_waits_for_the_index(started):
    started("logstash", "prometheus")
    prom = clients.prometheus()
    until(lambda: prom.value("log_shipper_queue_known") == 1, "the shipper's queue")
    assert prom.value("log_shipper_queue_max_bytes") == 256 * 1024**2
    until(lambda: prom.value("log_shipper_queue_lines") < 1000, "no more than a moment's lines to wait", 60)


def test_the_alerts_wait_for_a_rush_and_end_with_the_queue():
    """What would take hours to fill is played by promtool, at the moments that matter."""
    rules, probe = (ROOT / "stack" / "prometheus" / "rules.yml").read_text("utf-8"), rehearsal.Probe

    def behind(what: str, lines: list[float], *probes: rehearsal.Probe) -> rehearsal.Case:
        return rehearsal.Case(what, {"log_shipper_queue_lines": lines}, probes)

    def filled(what: str, used: list[float], *probes: rehearsal.Probe) -> rehearsal.Case:
        room = {"log_shipper_queue_max_bytes": [1000] * len(used)}
        return rehearsal.Case(what, {"log_shipper_queue_bytes": used, **room}, probes)

    cases = [
        behind("a rush that is carried away", [0, 90_000, 50_000, 20_000, 900, 0], probe(8, fires=False)),
        behind("the index is away", [0, *range(1100, 5000, 100)], probe(30, fires=False), probe(34, fires=True)),
        behind("and comes back", [5000] * 20 + [1000, 0], probe(38, fires=True), probe(40, fires=False)),
    ]
    assert rehearsal.rehearse(rules, "ShipperBehind", cases) is None
    missed = rehearsal.rehearse(rules.replace("for: 30s", "for: 60s"), "ShipperBehind", cases)
    assert missed == rehearsal.Miss(cases[1], cases[1].probes[1], "pending"), "so it would be noticed"
    cases = [
        filled("there is room", [0, 500, 940, 950, 950, 950], probe(10, fires=False)),
        filled("full for a moment", [900, 1000, 900, 900], probe(4, fires=False), probe(6, fires=False)),
        filled("full", [900, 1000, 1000, 1000, 1000, 100], probe(2, fires=False), probe(6, fires=True)),
        filled("empty again", [1000, 1000, 1000, 1000, 100], probe(6, fires=True), probe(8, fires=False)),
    ]
    assert rehearsal.rehearse(rules, "ShipperQueueFull", cases) is None
    missed = rehearsal.rehearse(rules.replace("> 0.95", "> 0.9"), "ShipperQueueFull", cases)
    assert missed == rehearsal.Miss(cases[0], cases[0].probes[0], "firing")
