"""The docker engine against a real daemon: up, healthy, asked, down. FLOW360_TEST_COMPOSE=require forbids the skip."""

from __future__ import annotations

import os

import pytest

from flow360.stack.docker import DockerEngine
from flow360.stack.model import model

SERVICES = ["kafka", "postgres-dwh"]


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    """An engine whose services are up, under a project name of the tests' own."""
    os.environ["FLOW360_COMPOSE_PROJECT"] = "flow360-test"
    docker = DockerEngine(model())
    if reason := docker.answers():
        if os.environ.get("FLOW360_TEST_COMPOSE") == "require":
            pytest.fail(reason)
        pytest.skip(f"no container engine: {reason}")
    docker.up(SERVICES, print)
    yield docker
    docker.down(None, print)


@pytest.mark.timeout(900)
def test_services_are_healthy_and_answer(engine):
    states = {row.name: row.state for row in engine.status()}
    assert {states[name] for name in [*SERVICES, "zookeeper"]} == {"running"}
