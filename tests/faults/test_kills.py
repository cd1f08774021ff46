"""A service is killed, and `up` is called at once: it is ready again, and it never listens beyond this machine."""

from __future__ import annotations

import time

import psutil
import pytest

from tests.environment import FULL
from tests.faults.support import ready, report
from tests.live.listeners import watched

ROUNDS = 30 if FULL else 2
GROUPS = (
    ("kafka", "spark-connect", "namenode"),
    ("zookeeper", "spark-master", "spark-worker", "datanode", "hive-metastore", "hive-server", "elasticsearch"),
)

SERVICES = ("kafka", "spark-connect", "spark-worker", "hive-server", "elasticsearch")


def test_every_java_service_is_among_those_that_are_killed(stack):
    java = {s.name for s in stack.model.services.values() if s.native.java and not s.job}
    alike = {"datanode-2", "datanode-3"}  # the same program and command as the first
    elsewhere = {"kafka-connect"}  # tests/live/test_connect.py
    assert {name for group in GROUPS for name in group} == java - alike - elsewhere


@pytest.mark.timeout(120 * ROUNDS + 300)
@pytest.mark.parametrize("names", GROUPS, ids=lambda names: names[0])
def test_up_right_after_a_kill_is_ready_again_and_nothing_listens_beyond_this_machine(stack, started, names):
    """They meet what they left: ports, locks, the broker its own registration in ZooKeeper."""
    seconds = []
    with watched(stack.host.supervisor.service_of) as beyond:
        stack.down(names)
        started(*names)  # the watcher sees an orderly start, too
        for _ in range(ROUNDS):
            for pid in [stack.host.pids()[name] for name in names]:
                psutil.Process(pid).kill()
            began = time.monotonic()
            stack.up(names)
            seconds.append(time.monotonic() - began)
            assert all(ready(stack, name) for name in names)
    report(f"killed and up at once: {', '.join(names)}", rounds=len(seconds), slowest=max(seconds), beyond=len(beyond))
    assert not beyond
    assert stack.host.supervisor.orphans() == []
