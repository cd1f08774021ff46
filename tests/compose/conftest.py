"""Which daemon the compose tests use, and the stack that they run on it.

FLOW360_TEST_COMPOSE says what to do:

    auto        (default) the daemon that answers, with official images; none answers: skipped, with the reason
    require     the same, but an error instead of a skip (CI on a runner with docker)
    off         skipped
    standins    a private daemon and the stand-in images of tests/compose/standins (root only); nothing else is touched

FLOW360_TEST_DOCKER_FOLDER keeps the private daemon's images from one run to the next.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from flow360 import settings
from flow360.stack.docker import images
from flow360.stack.docker.compose import PROJECT
from flow360.stack.docker.engine import DockerEngine
from flow360.stack.model import model, read_model
from flow360.stack.status import Event
from tests.compose import standins
from tests.compose.asking import docker
from tests.compose.daemon import private_daemon, why_not
from tests.environment import port_lines

MODES = ("auto", "require", "off", "standins")


def mode() -> str:
    """Read FLOW360_TEST_COMPOSE, and check it."""
    chosen = os.environ.get("FLOW360_TEST_COMPOSE", "auto")
    if chosen not in MODES:
        raise pytest.UsageError(f"FLOW360_TEST_COMPOSE={chosen}: take one of {', '.join(MODES)}")
    return chosen


def reason_to_skip() -> str | None:
    """Return None when the tests can run, else the one line that says why not."""
    if mode() == "off":
        return "FLOW360_TEST_COMPOSE=off"
    return None if mode() in ("require", "standins") else _no_images()


def _no_images() -> str | None:
    engine = DockerEngine(model())
    if reason := engine.answers():
        return reason
    if engine.images_ready(model().services) or images.can_pull(str(model()["postgres-dwh"].image)):
        return None
    return "a daemon answers, but the images are not there and the registry does not answer"


@pytest.fixture(scope="session")
def daemon() -> Iterator[str]:
    """Start a private daemon, or take docker's own: it answers at DOCKER_HOST; yield "official" or "standins"."""
    if mode() != "standins":
        if reason := _no_images():
            pytest.fail(reason)
        yield "official"
        return
    if reason := why_not() or standins.why_not({"DOCKER_HOST": "ours"}):
        pytest.fail(reason)
    kept = os.environ.get("FLOW360_TEST_DOCKER_FOLDER")
    folder = Path(kept) if kept else Path(tempfile.mkdtemp(prefix="flow360-docker-"))
    try:
        with private_daemon(folder) as address, pytest.MonkeyPatch.context() as patch:
            patch.setenv("DOCKER_HOST", address)
            # That daemon has no bridge of its own.
            patch.setenv("FLOW360_BUILD_NETWORK", "host")
            # The old builder makes every stage in front of the wanted one: one build after the other finds them made.
            patch.setattr("flow360.stack.docker.images.PULLS", 1)
            remove_left()
            standins.build()
            yield "standins"
    finally:
        if not kept:
            shutil.rmtree(folder, ignore_errors=True)


@dataclass
class Course:
    """The engine, with what it reported."""

    engine: DockerEngine
    images: str  # official or standins
    left_out: dict[str, str]  # services without an image here, and why
    folder: Path
    events: list[Event] = field(default_factory=list)

    def say(self, event: Event) -> None:
        self.events.append(event)

    def told(self) -> dict[str, Event]:
        """Return the last event of each service since the last call."""
        last = {event.service: event for event in self.events}
        self.events.clear()
        return last


@pytest.fixture(scope="session")
def course(daemon: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Course]:
    """Open a docker engine with its own project, ports, passwords and state, and an end without leftovers."""
    folder = tmp_path_factory.mktemp("compose")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLOW360_ENV_FILE", str(folder / ".env"))
        patch.setenv("FLOW360_STATE", str(folder / "state"))
        patch.setenv("FLOW360_PROGRESS", str(folder / "progress.json"))
        patch.setenv("FLOW360_ENGINE", "docker")
        patch.setenv("FLOW360_COMPOSE_PROJECT", f"flow360-test-{os.getpid()}")
        # Beside a learner's stack and beside the native one of the tests.
        lines = [port_lines("compose")]
        (folder / ".env").touch(mode=0o600)
        # A learner's own user, which no image knows by name.
        lines += [f"FLOW360_DATA={settings.GENERATED}\n", f"FLOW360_UID={os.geteuid() or 12345}\n"]
        (folder / ".env").write_text("".join(lines), "utf-8")
        settings.ensure_env()
        forget()
        left_out = standins.NONE if daemon == "standins" else {}
        running = Course(DockerEngine(read_model()), daemon, left_out, folder)
        try:
            yield running
        finally:
            remove_all(running.engine)
    forget()


def remove_left() -> None:
    """Remove what a killed run has left on the private daemon, which would start it again beside the new one's."""
    ours = ["--filter", f"label={PROJECT}", "--quiet"]
    for kind, every in (("container", ["--all"]), ("volume", []), ("network", [])):
        if left := docker(kind, "ls", *every, *ours).split():
            docker(kind, "rm", "--force", *left)


def remove_all(engine: DockerEngine) -> None:
    """End a test's project with its volumes. Only ever called for a project of the tests."""
    assert engine.compose.project.startswith("flow360-test-")
    engine.down(None, lambda _: None)
    engine.reset([s.name for s in engine.model.services.values() if not s.host], lambda _: None)


def forget() -> None:
    """Read `.env` and the model again."""
    settings.settings.cache_clear()
    model.cache_clear()
