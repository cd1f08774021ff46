"""The `docker` and `docker compose` command lines as functions with deadlines; no service is known here by name.

Containers are found by Compose's own labels, so that what a person started by hand counts as well.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from flow360.errors import Exit, FlowError
from flow360.settings import GENERATED, env_file, in_force, overlays, settings
from flow360.stack.model import COMPOSE, read_compose

MINIMUM = (2, 24, 4)  # the first one with all that the two files use: `!override`
ASK = 30.0  # seconds for a question that the daemon should answer at once
PROJECT = "com.docker.compose.project"
SERVICE = "com.docker.compose.service"
VOLUME = "com.docker.compose.volume"
Line = Callable[[str], None]
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


class Compose:
    """One Compose project on the daemon in force (DOCKER_HOST, or docker's current context).

    The project's name is FLOW360_COMPOSE_PROJECT, else COMPOSE_PROJECT_NAME (environment, then `.env`), else the name
    that stands in compose.yaml.
    """

    def __init__(self, file: Path = COMPOSE) -> None:
        self.file = file
        self.on_top = overlays(settings().compose_file)
        self.description: Mapping[str, Any] = read_compose(file, self.on_top)
        named = in_force().get("COMPOSE_PROJECT_NAME") or self.description["name"]
        self.project = os.environ.get("FLOW360_COMPOSE_PROJECT") or named

    def command(self, *arguments: str) -> list[str]:
        """Write a `docker compose` command of this project; all profiles count, since services are named anyway."""
        command = ["docker", "compose", "--ansi", "never", "--progress", "plain", "--profile", "*"]
        command += ["--project-directory", str(self.file.parent), "--file", str(self.file)]
        for name in self.on_top:
            command += ["--file", str(self.file.parent / name)]
        if env_file().exists():
            command += ["--env-file", str(env_file())]
        return [*command, "--project-name", self.project, *arguments]

    # --- questions

    def answers(self, deadline: float = 5.0) -> str | None:
        """Return None when a daemon and a new enough Compose answer, else the reason and the fix in one line."""
        if not shutil.which("docker"):
            return "docker is not installed: see docs.docker.com/get-docker"
        try:
            done = run(["docker", "version", "--format", "{{.Server.Version}}"], deadline)
            if done.returncode:
                return _why_no_daemon(done.stderr)
            done = run(["docker", "compose", "version", "--short"], deadline)
        except FlowError:
            return f"the docker daemon did not answer within {deadline:.0f} s: restart Docker"
        if done.returncode:
            return "docker has no Compose plugin: install docker-compose-plugin, or Docker Desktop"
        found = re.match(r"v?(\d+)\.(\d+)(?:\.(\d+))?", done.stdout.strip())
        # A build from source calls itself "dev"; let it try.
        if found and tuple(map(int, found.groups("0"))) < MINIMUM:
            return f"Docker Compose {done.stdout.strip()} is too old: {'.'.join(map(str, MINIMUM))} or newer is needed"
        return None

    def has_daemon(self) -> bool:
        """Say whether a container can run: docker is installed, and something listens where its daemon should."""
        if not shutil.which("docker"):
            return False
        done = run(["docker", "context", "inspect", "--format", "{{.Endpoints.docker.Host}}"], ASK)
        return done.returncode != 0 or _listens(done.stdout.strip())

    def containers(self) -> dict[str, dict]:
        """Ask `docker inspect` about each service's container, running or not."""
        listed = ask(["docker", "ps", "--all", "--quiet", "--no-trunc", "--filter", f"label={PROJECT}={self.project}"])
        if not listed.split():
            return {}
        # One may go between the two questions: the rest is still reported.
        rows = json.loads(run(["docker", "inspect", *listed.split()], ASK).stdout or "[]")
        rows = [row for row in rows if row["Config"]["Labels"].get("com.docker.compose.oneoff") != "True"]
        return {row["Config"]["Labels"][SERVICE]: row for row in rows}

    def images(self, names: Iterable[str]) -> dict[str, dict[str, str]]:
        """Return the labels of those of the named images that are on this machine."""
        names = list(dict.fromkeys(names))
        if not names:
            return {}
        rows = json.loads(run(["docker", "image", "inspect", *names], ASK).stdout or "[]")
        return {tag: row["Config"]["Labels"] or {} for row in rows for tag in row["RepoTags"] or ()}

    def volumes(self, services: Iterable[str]) -> dict[str, str]:
        """List the volumes of services that exist: full name and the time of making."""
        wanted = {name for service in services for name in self._declared(service)}
        listed = ask(["docker", "volume", "ls", "--quiet", "--filter", f"label={PROJECT}={self.project}"])
        if not listed.split():
            return {}
        rows = json.loads(run(["docker", "volume", "inspect", *listed.split()], ASK).stdout or "[]")
        return {row["Name"]: row["CreatedAt"] for row in rows if row["Labels"].get(VOLUME) in wanted}

    def _declared(self, service: str) -> list[str]:
        mounts = [spec.split(":")[0] for spec in self.description["services"][service].get("volumes", ())]
        return [name for name in mounts if name in self.description["volumes"]]

    def builder(self, image: str) -> str | None:
        """Name the service that builds an image from our Dockerfile; None for an image that is pulled."""
        services = self.description["services"].items()
        return next((name for name, spec in services if spec["image"] == image and "build" in spec), None)

    def port_variable(self, service: str) -> str:
        """Name the variable of `.env` that moves a service's port."""
        specs = " ".join(self.description["services"][service].get("ports", ()))
        found = re.search(r"\$\{(\w+)", specs)
        return found.group(1) if found else "its port"

    def memory_mb(self, ids: Mapping[str, str]) -> dict[str, float]:
        """Ask what the kernel accounts to each container (service name -> id), in MB."""
        if not ids:
            return {}
        form = "{{.ID}} {{.MemUsage}}"
        done = run(["docker", "stats", "--no-stream", "--no-trunc", "--format", form, *ids.values()], ASK)
        used = {}
        for line in done.stdout.splitlines():
            ident, amount, *_ = line.split()
            if found := re.fullmatch(r"([\d.]+)([KMG]?i?)B", amount):
                scale = {"": 1, "K": 1e3, "Ki": 2**10, "M": 1e6, "Mi": 2**20, "G": 1e9, "Gi": 2**30}
                used[ident] = float(found.group(1)) * scale[found.group(2)] / 1e6
        return {name: round(used[ident], 1) for name, ident in ids.items() if ident in used}


def run(command: Sequence[str], seconds: float) -> subprocess.CompletedProcess[str]:
    """Run a command to its end and keep what it says; the caller looks at the exit code.

    Raises:
        FlowError: it did not end in time, or there is no such program.
    """
    try:
        return subprocess.run(
            command, capture_output=True, text=True, timeout=seconds, stdin=subprocess.DEVNULL, env=_environment()
        )
    except subprocess.TimeoutExpired:
        raise FlowError(f"{brief(command)} did not end within {seconds:.0f} s", Exit.DOCKER) from None
    except FileNotFoundError:
        raise FlowError("docker is not installed: take --engine native", Exit.DOCKER) from None


def ask(command: Sequence[str]) -> str:
    """Return the standard output of a short question.

    Raises:
        FlowError: docker's own complaint.
    """
    done = run(command, ASK)
    if done.returncode:
        raise FlowError(_why_no_daemon(done.stderr), Exit.DOCKER)
    return done.stdout


def follow(command: Sequence[str], line: Line, seconds: float, extra: Mapping[str, str] | None = None) -> list[str]:
    """Run a long command and hand over each line as it comes (standard error too).

    Returns:
        All lines when it succeeded.

    Raises:
        CommandFailed: with all lines.
        FlowError: it did not end within `seconds`.
    """
    said: list[str] = []

    def keep(text: str) -> None:
        said.append(text)
        line(text)

    with Background(command, extra) as process:
        process.wait(seconds, keep)
        if process.poll():
            raise CommandFailed(said)
    return said


class CommandFailed(Exception):
    """A docker command left with an error; `lines` is all it said."""

    def __init__(self, lines: Sequence[str]) -> None:
        super().__init__("\n".join(lines))
        self.lines = list(lines)


class Background:
    """A command that runs while its caller looks at other things; it is ended when the block is left."""

    def __init__(self, command: Sequence[str], extra: Mapping[str, str] | None = None) -> None:
        self._command = list(command)
        # A file, not a pipe: a caller that looks elsewhere for a while must not block the command.
        self._said = tempfile.NamedTemporaryFile("rb", prefix="flow360-")  # noqa: SIM115
        self._rest = b""
        with Path(self._said.name).open("wb") as out:
            self._process = subprocess.Popen(
                self._command,
                stdout=out,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env={**_environment(), **(extra or {})},
            )

    def __enter__(self) -> Background:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(10)
        self._said.close()

    def poll(self) -> int | None:
        """Return the exit code, None while it runs."""
        return self._process.poll()

    def lines(self) -> list[str]:
        """Read what it said since the last call, whole lines only."""
        *whole, self._rest = (self._rest + self._said.read()).split(b"\n")
        return [_COLOUR.sub("", line.decode("utf-8", "replace")).rstrip() for line in whole]

    def wait(self, seconds: float, line: Line) -> None:
        """Wait until it ends, and hand each new line to `line`."""
        end = time.monotonic() + seconds
        while True:
            running = self._process.poll() is None
            for text in self.lines():
                line(text)
            if not running:
                return
            if time.monotonic() > end:
                raise FlowError(f"{brief(self._command)} did not end within {seconds:.0f} s", Exit.DOCKER)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(0.3)


def brief(command: Sequence[str]) -> str:
    """Shorten a docker command to the words that say to a person what it was for."""
    if command[:2] != ["docker", "compose"]:
        return " ".join(command[:3])
    verbs = ("up", "down", "rm", "build", "pull", "logs", "version")
    return "docker compose " + next((word for word in command if word in verbs), "")


def error_of(what: str, said: Sequence[str]) -> FlowError:
    """Put what a docker command said when it failed into one line; `what` is its name for people."""
    text = "\n".join(said)
    last = next((line.strip() for line in reversed(said) if line.strip()), "no reason given")
    if "no space left on device" in text:
        return FlowError(
            f"{what}: docker has no room left on its disk: docker system df shows what takes it", Exit.DISK
        )
    return FlowError(f"{what} failed: {last[:240]}", Exit.DOCKER)


def _environment() -> dict[str, str]:
    # A learner's own COMPOSE_FILE or COMPOSE_PROFILES is for the commands that the learner types; and a variable that
    # is set to nothing would hide the one in `.env` from Compose.
    hidden = ("COMPOSE_FILE", "COMPOSE_PROFILES", "COMPOSE_PROJECT_NAME", "COMPOSE_ENV_FILES")
    return {
        **{key: value for key, value in os.environ.items() if value and key not in hidden},
        "DOCKER_CLI_HINTS": "false",
        "FLOW360_DATA": str(GENERATED),
    }


def _listens(address: str) -> bool:
    """Say whether a unix socket or a TCP port takes a connection; True also when that is not known."""
    try:
        if address.startswith("unix://"):
            with socket.socket(socket.AF_UNIX) as one:
                one.settimeout(5)
                one.connect(address.removeprefix("unix://"))
        elif address.startswith("tcp://"):
            url = urlsplit(address)
            socket.create_connection((url.hostname, url.port or 2375), 5).close()
    except (FileNotFoundError, ConnectionRefusedError):
        return False
    except OSError:
        return True  # no permission, or no answer in time: a daemon may be there
    return True


def _why_no_daemon(said: str) -> str:
    if "permission denied" in said:
        return "this user may not talk to the docker daemon: sudo usermod -aG docker $USER, then log in again"
    last = (said.strip().splitlines() or ["no answer"])[-1]
    return f"docker is installed, but its daemon does not answer ({last[:120]}): start it"
