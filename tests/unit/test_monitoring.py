"""Layer 6 without services: the exporter's arithmetic, the dashboard's file, the rules, the API's own metrics."""

from __future__ import annotations

import json
import re
import threading
import time

import pytest
import yaml
from fastapi.testclient import TestClient
from prometheus_client import REGISTRY

from flow360.clients import metrics
from flow360.course.services import resolve
from flow360.errors import FlowError
from flow360.monitoring import dashboards
from flow360.monitoring.incidents import SERVICES
from flow360.monitoring.logs import exporter
from flow360.primeur.api.server import create_app
from flow360.settings import ROOT
from flow360.stack.facade import Stack
from flow360.stack.model import STACK, model, read_compose

BOARDS = sorted(dashboards.FOLDER.glob("*.json"))


@pytest.mark.parametrize("file", BOARDS, ids=lambda file: file.stem)
def test_a_dashboard_is_one_that_both_can_show(file):
    board = json.loads(file.read_text("utf-8"))
    assert board["uid"] == file.stem
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        assert panel["type"] in dashboards.DRAWERS, panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"] in dashboards.UNITS, panel["title"]
        assert panel["datasource"]["uid"] == "prometheus"
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= dashboards.COLUMNS
        cells = {(x + place["x"], y + place["y"]) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken, f"{panel['title']} lies over another one"
        taken |= cells


def test_grafana_finds_prometheus_and_the_dashboards_where_compose_puts_them():
    folder = ROOT / "stack" / "grafana" / "provisioning"
    (source,) = yaml.safe_load((folder / "datasources" / "prometheus.yml").read_text("utf-8"))["datasources"]
    host, port = re.fullmatch(r"http://([\w-]+):(\d+)", source["url"]).groups()
    assert int(port) in model()[host].published
    assert source["uid"] == "prometheus"
    (provider,) = yaml.safe_load((folder / "dashboards" / "course.yml").read_text("utf-8"))["providers"]
    mounts = read_compose()["services"]["grafana"]["volumes"]
    assert f"../grafana/dashboards:{provider['options']['path']}:ro" in mounts


def test_each_alert_says_how_bad_it_is_and_what_it_is_about():
    groups = yaml.safe_load((ROOT / "stack" / "prometheus" / "rules.yml").read_text("utf-8"))["groups"]
    alerts = [rule for group in groups for rule in group["rules"] if "alert" in rule]
    assert alerts
    for rule in alerts:
        assert rule["labels"]["severity"] in ("page", "ticket"), rule["alert"]
        assert rule["annotations"]["summary"], rule["alert"]


def test_an_unknown_dashboard_and_panel_are_one_line():
    with pytest.raises(FlowError, match="no dashboard 'nothing'. There are: primeur"):
        dashboards.read("nothing")
    with pytest.raises(FlowError, match="panel 'X': type 'pie' is not drawn here, only timeseries, stat, bargauge"):
        dashboards.draw({"title": "X", "type": "pie"})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: [", "not YAML"),
        ("groups: 1", "the form is another one"),
        ("rules: []", "'groups' is missing"),
        ("groups: [{name: a, rules: [{alert: X}]}]", "'expr' is missing"),
    ],
)
def test_rules_that_are_none_are_refused_in_one_line(text, expected):
    with pytest.raises(FlowError, match=expected) as caught:
        list(metrics._expressions(text))
    assert "\n" not in caught.value.message


def test_series_are_named_by_the_labels_in_which_they_differ():
    two = [{"__name__": "up", "job": job, "instance": f"i{job}", "env": "x"} for job in ("a", "b")]
    assert metrics._names(two) == ["ia a", "ib b"]
    assert metrics._names([{"__name__": "up", "job": "a"}]) == ["up"]
    assert metrics._names([{"route": "/orders"}]) == ["/orders"]


def test_a_number_is_read_when_prometheus_has_asked_each_job_anew(monkeypatch):
    """A scrape from before the call does not count, and neither does one that nobody answered (an empty result)."""
    prom, now = metrics.Prometheus(), time.time()
    answers = {"kafka": [now - 1, None, now + 60], "kafka-exporter": [now + 60]}

    def value(promql):
        said = answers["kafka" if '"kafka"' in promql else "kafka-exporter"]
        return said.pop(0) if len(said) > 1 else said[0]

    monkeypatch.setattr(prom, "value", value)
    assert prom.await_scrape("kafka", "kafka-exporter") >= now
    assert answers["kafka"] == [now + 60]


def test_a_job_that_does_not_answer_is_named(monkeypatch):
    prom = metrics.Prometheus()
    monkeypatch.setattr(prom, "value", lambda promql: None)
    with pytest.raises(FlowError, match="Prometheus to ask market-api"):
        prom.await_scrape("market-api", seconds=0.1)


def test_the_api_counts_its_answers_by_route_and_not_by_path(tmp_path):
    route = "/orders/{order_id}"

    def counted() -> list[float]:
        """Since this process began: other tests' questions are counted, too."""
        answers = [("requests_total", {"method": "GET", "route": route, "status": status}) for status in ("200", "429")]
        buckets = ("request_seconds_bucket", {"le": "+Inf", "route": route})
        return [REGISTRY.get_sample_value(f"market_api_{name}", labels) or 0 for name, labels in (*answers, buckets)]

    with TestClient(create_app(tmp_path, key="key"), "http://127.0.0.1", headers={"X-Chaos-Key": "key"}) as client:
        before = counted()
        client.post("/chaos", json={"errors": 0, "slow": 0, "trickle": 0, "rate": 0.001, "burst": 3})
        for number in (100001, 100002, 100003, 100004):
            client.get(f"/orders/{number}")
        client.get("/nowhere")
        page = client.get("/metrics").text
        new = [after - one for after, one in zip(counted(), before, strict=True)]
    assert new == [3, 1, 4], "what the limit refuses is an answer, too"
    assert f'market_api_requests_total{{method="GET",route="{route}",status="200"}}' in page
    assert "/orders/1" not in page
    assert 'route="other"' in page
    assert "market_api_requests_in_progress 0.0" in page


def test_incidents_are_about_services_that_prometheus_watches():
    config = yaml.safe_load((ROOT / "stack" / "prometheus" / "prometheus.yml").read_text("utf-8"))
    jobs = {job["job_name"] for job in config["scrape_configs"]}
    assert {"market-api", "kafka", "postgres-exporter"} <= jobs
    assert set(SERVICES) <= set(model().services)


def test_monitoring_does_not_depend_on_what_it_watches():
    needed = model().closure(["prometheus"])
    assert {model()[name].layer for name in needed} == {6}, needed


def test_the_exporter_subtracts_and_says_when_the_broker_is_away():
    from flow360.monitoring.kafka_exporter import KafkaCollector

    collector = KafkaCollector("127.0.0.1:1")
    (only,) = collector.collect()
    assert [(sample.name, sample.value) for sample in only.samples] == [("kafka_up", 0)]


def test_a_client_that_got_no_answer_is_not_asked_again(monkeypatch):
    from flow360.monitoring import kafka_exporter

    made = []

    class Stuck:
        def __init__(self, config):
            made.append(config["bootstrap.servers"])

        def list_topics(self, timeout):
            raise TimeoutError

    monkeypatch.setattr(kafka_exporter, "AdminClient", Stuck)
    collector = kafka_exporter.KafkaCollector("127.0.0.1:1")
    for _ in range(3):
        assert [sample.value for family in collector.collect() for sample in family.samples] == [0]
    assert made == ["127.0.0.1:1"] * 3


def test_scrapes_do_not_queue_up_behind_a_broker_that_hangs(monkeypatch):
    from flow360.monitoring.kafka_exporter import KafkaCollector

    collector, asked, go = KafkaCollector("127.0.0.1:1"), [], threading.Event()

    def ask() -> list[str]:
        asked.append(len(asked))
        assert go.wait(10)
        return [f"answer {len(asked)}"]

    monkeypatch.setattr(collector, "_ask", ask)
    collector._last = ["the answer before"]
    hanging = threading.Thread(target=collector.collect)
    hanging.start()
    while not asked:
        go.wait(0.01)
    assert collector.collect() == ["the answer before"]
    go.set()
    hanging.join(10)
    assert collector.collect() == ["answer 2"]


def test_a_profile_leaves_out_what_this_engine_cannot_run_and_says_so(tmp_path):
    events, stack = [], Stack("native", model(), tmp_path)
    found = stack._possible(resolve(["minimal"]), events.append, ["minimal"])
    assert "prometheus" in found
    assert "grafana" not in found
    assert [(event.service, event.detail.partition(":")[0]) for event in events] == [("grafana", "compose only")]
    assert stack._possible(["grafana"], events.append, None) == ["grafana"], (
        "anyone who asks for it by name gets an error"
    )


# --- what waits for the index -----------------------------------------------------------------------------------------

NOTE = "<OPB:1:qqueue:1:\n+iQueueSize:2:4:2817:\n+tVars.disk.sizeOnDisk:2:6:971245:\n>End\n.\n"
CONF = STACK / "logstash" / "rsyslog.conf"


def samples(collector: exporter.ShipperCollector) -> dict[str, float]:
    return {sample.name: sample.value for family in collector.collect() for sample in family.samples}


def test_rsyslogs_queue_is_read_from_its_own_note(tmp_path):
    collector = exporter.ShipperCollector(lambda: exporter.of_rsyslog(tmp_path, CONF))
    assert exporter.of_rsyslog(tmp_path, CONF) == (0, 0, 256 * 1024**2), "before the first line there is none"
    (tmp_path / "lines.qi").write_text(NOTE)
    assert samples(collector) == {
        "log_shipper_queue_known": 1,
        "log_shipper_queue_lines": 2817,
        "log_shipper_queue_bytes": 971245,
        "log_shipper_queue_max_bytes": 256 * 1024**2,
    }


def test_a_queue_that_cannot_be_looked_at_has_no_numbers_and_is_said_once(tmp_path, caplog):
    (tmp_path / "lines.00000001").write_text("a line\n")
    for note in ("", NOTE[:20], "no note"):
        (tmp_path / "lines.qi").write_text(note)
        collector = exporter.ShipperCollector(lambda: exporter.of_rsyslog(tmp_path, CONF))
        caplog.clear()
        assert samples(collector) == samples(collector) == {"log_shipper_queue_known": 0}
        assert [record.message for record in caplog.records] == [f"{tmp_path / 'lines.qi'}: no note of a queue"]
    with pytest.raises(ValueError, match=r"no queue.maxDiskSpace beside lines"):
        exporter.of_rsyslog(tmp_path, ROOT / "README.md")
    with pytest.raises(ValueError, match="lines.qi: no note of a queue"):
        exporter.of_rsyslog(tmp_path / "nowhere", CONF)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (
            {"type": "persisted", "events_count": 7, "queue_size_in_bytes": 90, "max_queue_size_in_bytes": 100},
            (7, 90, 100),
        ),
        ({"type": "memory", "events_count": 0}, "KeyError"),
        (None, "TypeError"),
    ],
)
def test_logstashs_queue_is_asked_of_its_api(monkeypatch, said, expected):
    class Answer:
        def json(self):
            return {"pipelines": {"main": {"queue": said}}}

    monkeypatch.setattr(exporter.requests, "get", lambda url, timeout: Answer())
    if isinstance(expected, tuple):
        assert exporter.of_logstash("http://logstash:9600") == expected
    else:
        with pytest.raises(ValueError, match=f"http://logstash:9600: {expected}"):
            exporter.of_logstash("http://logstash:9600")


def test_a_logstash_that_is_away_is_no_number():
    with pytest.raises(ValueError, match="http://127.0.0.1:1: ConnectionError"):
        exporter.of_logstash("http://127.0.0.1:1")
