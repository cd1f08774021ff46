"""Who tells Prometheus something of its own accord: Hadoop and Spark, each with the numbers that one would ask for."""

from __future__ import annotations

import pytest

from flow360 import clients, lesson

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
        assert set(found["job"]) == {job}, promql  # a driver that was started anew is another series
        targets = prom.targets().set_index("job")
        assert targets.loc[job, "milliseconds"] < 1000, "it must not cost more than it tells"


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
