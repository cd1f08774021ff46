"""Who reports to Prometheus of its own accord: Hadoop and Spark, each with the numbers that one would ask for."""

from __future__ import annotations

import pytest
import requests

from flow360 import clients, lesson
from flow360.errors import FlowError
from flow360.settings import settings
from tests.faults.support import report

SERVICES = ("prometheus", "datanode", "spark-worker", "spark-connect")

TELLS = {
    "namenode": "fs_namesystem_num_live_data_nodes >= 1",
    "datanode": "datanode_blocks_written >= 0",
    "spark-master": "metrics_master_aliveWorkers_Value == 1",
    "spark-worker": "metrics_worker_coresFree_Value >= 0",
    "spark-connect": 'metrics_executor_totalCores{executor_id="driver"} >= 0',
}


@pytest.mark.timeout(300)
def test_hadoop_and_spark_tell_prometheus_what_they_do(started):
    started("prometheus", "datanode", "spark-worker", "spark-connect")
    prom = clients.prometheus()
    for job, promql in TELLS.items():
        lesson.wait_for(lambda job=job: prom.value(f'up{{job="{job}"}}') == 1, 30, f"{job} to answer")
        lesson.wait_for(lambda promql=promql: not prom.query(promql).empty, 30, promql)
        found = prom.query(promql)
        assert set(found["job"]) == {job}, promql  # a driver that was started again is another series
    took = prom.targets().set_index("job")["milliseconds"]
    report("what Hadoop and Spark take for an answer, in milliseconds", **{job: int(took[job]) for job in TELLS})


@pytest.mark.timeout(300)
def test_a_write_to_the_lake_begins_no_new_series(started):
    """Hadoop puts a counter into a label: left there, each write would be a thousand new series."""
    started("prometheus", "datanode")
    prom, files = clients.prometheus(), 'fs_namesystem_files_total{job="namenode"}'
    before = lesson.wait_for(lambda: prom.value(files), 30, "the NameNode's first answer")
    clients.lake().write("/tmp/flow360/series", b"one more")
    try:
        lesson.wait_for(lambda: prom.value(files) > before, 40, "the file to be counted")
        assert prom.value(f"count(count_over_time({files}[1m]))") == 1
        assert "totalsynctimes" not in prom.query(files)
    finally:
        clients.lake().rm("/tmp/flow360", recursive=True, missing_ok=True)


@pytest.mark.parametrize(("method", "path"), [("POST", "quit"), ("PUT", "quit"), ("POST", "reload"), ("PUT", "reload")])
def test_nobody_stops_prometheus_or_makes_it_read_rules_over_http(started, method, path):
    started("prometheus")
    url = f"http://127.0.0.1:{settings().prometheus_port}/-/{path}"
    answer = requests.request(method, url, headers={"Origin": "http://evil.example"}, timeout=10)
    assert answer.status_code in (403, 405)
    assert clients.prometheus().value("vector(1)") == 1


def test_rules_come_into_force_and_those_that_prometheus_refuses_do_not(started):
    started("prometheus")
    prom = clients.prometheus()
    rule = "groups: [{{name: {}, rules: [{{record: '{}', expr: vector(7)}}]}}]"
    try:
        prom.rules("live", rule.format("live", "seven"))
        lesson.wait_for(lambda: prom.value("seven") == 7, 60, "the new rule")
        for _ in range(2):
            with pytest.raises(FlowError, match="prometheus keeps its old rules"):
                prom.rules("live", rule.format("live", "no name"))
        assert prom.value("seven") == 7
    finally:
        prom.rules("live", None)
    assert "live" not in {group["name"] for group in prom._ask("rules")["groups"]}
