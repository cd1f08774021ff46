"""The source's second command, by hand from the repository's root: the logs and the secrets."""

from __future__ import annotations

import os
import shlex
import subprocess
import time

import pytest

from flow360 import clients
from flow360.monitoring.logs import LOGS
from flow360.settings import ROOT, settings
from flow360.stack import probes
from flow360.stack.docker.engine import DockerEngine
from flow360.stack.model import read_model
from tests.compose.asking import check_containers, of_project, until
from tests.compose.conftest import reason_to_skip

if reason := reason_to_skip():
    pytest.skip(reason, allow_module_level=True)
pytestmark = pytest.mark.timeout(900)
BY_HAND = "docker compose up -d elasticsearch kibana logstash vault"  # word for word


def test_logs_and_secrets_come_up_by_hand(course, monkeypatch):
    """What has no image here is left out, and named; whatever else those services need is started all the same."""
    for name, why in course.left_out.items():
        print(f"\nleft out: {name}: {why}", end="")
    words = [word for word in shlex.split(BY_HAND) if word not in course.left_out]
    wanted = words[words.index("-d") + 1 :]
    model = course.engine.model
    # Of those left out, what is ours.
    ours = [n for n in model.closure(["logstash", "kibana", "vault"]) if n not in course.left_out]
    course.engine.fetch(ours, course.say)
    project = f"flow360-test-{os.getpid()}-additions"
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("FLOW360_", "COMPOSE_"))}
    environment |= {"COMPOSE_PROJECT_NAME": project, "COMPOSE_ENV_FILES": os.environ["FLOW360_ENV_FILE"]}

    def run(*command: str) -> None:
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stderr

    try:
        start = time.monotonic()
        run(*words)
        run(*words[: words.index("-d") + 1], *(n for n in ours if n not in wanted))
        for name in ours:
            if not model[name].job:
                assert probes.wait_ready(probes.of(model, model[name]), 180, lambda: None) is None, name
        print(f"\n{' '.join(words)}\nall answer after {time.monotonic() - start:.1f} s", end="")
        monkeypatch.setenv("FLOW360_COMPOSE_PROJECT", project)
        engine = DockerEngine(read_model())
        until(lambda: all(engine.compose.containers()[n]["State"]["Status"] != "created" for n in ours), "all", 60)
        until(lambda: engine.compose.containers()["elasticsearch-setup"]["State"]["Status"] == "exited", "the job", 60)
        check_containers(engine, ours)
        search = clients.search()
        line = {"message": "2026-05-07T08:00:00+00:00 INFO a.b: one line"}
        search.post(f"/{LOGS}/_doc?refresh=true&pipeline={LOGS}", json=line)
        hit = search.get(f"/{LOGS}/_search").json()["hits"]["hits"][0]["_source"]
        assert hit["log"] == {"level": "INFO", "logger": "a.b"}, "parsed by the pipeline that the job has put there"
        assert clients.vault_at(settings().vault_url, "notebook", settings().vault_notebook_secret).is_authenticated()
        run("docker", "compose", "down")
        assert of_project("container", project) == of_project("network", project) == []
    finally:
        run("docker", "compose", "down", "--volumes")
