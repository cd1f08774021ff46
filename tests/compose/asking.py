"""Questions that more than one file of the compose tests asks."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable

import psutil

from flow360.stack import probes
from flow360.stack.docker.compose import PROJECT
from flow360.stack.docker.engine import DockerEngine


def docker(*arguments: str) -> str:
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def of_project(kind: str, project: str) -> list[str]:
    """List the containers, networks or volumes of a project."""
    everything = ["--all"] if kind == "container" else []
    return docker(kind, "ls", "--quiet", *everything, "--filter", f"label={PROJECT}={project}").split()


def all_volumes() -> set[str]:
    return set(docker("volume", "ls", "--quiet").split())


def until(condition, what: str, deadline: float = 30.0):
    found = []

    def ask() -> str | None:
        found[:] = [condition()]
        return None if found[0] else what

    assert probes.wait_ready(ask, deadline, lambda: None) is None, what
    return found[0]


def check_containers(engine: DockerEngine, names: Iterable[str]) -> None:
    """Check that exactly these services have a container; each healthy, bounded, and published on this machine only.

    A job that was done on the same volumes before has none.
    """
    containers = engine.compose.containers()
    names = set(names)
    done = {name for name in names if engine.model[name].job} - set(containers)
    assert set(containers) == names - done, set(containers) ^ names
    published = set()
    for name, row in containers.items():
        assert row["HostConfig"]["Memory"] > 0, name
        assert not row["HostConfig"]["Privileged"]
        if engine.model[name].job:
            assert row["State"]["ExitCode"] == 0
            continue
        assert row["State"]["Health"]["Status"] == "healthy", name
        bindings = [b for each in row["NetworkSettings"]["Ports"].values() for b in each or ()]
        assert {b["HostIp"] for b in bindings} <= {"127.0.0.1"}, name
        ports = {int(b["HostPort"]) for b in bindings}
        assert ports == set(engine.model[name].ports), name
        published |= ports
    if os.geteuid() == 0:
        heard = {
            c.laddr.ip for c in psutil.net_connections("tcp") if c.status == "LISTEN" and c.laddr.port in published
        }
        assert heard == {"127.0.0.1"}
