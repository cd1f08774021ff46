"""The images of the docker engine: which are missing, and how they are pulled or built, with progress."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache

from flow360.errors import Exit, FlowError
from flow360.settings import ROOT
from flow360.stack.docker.compose import CommandFailed, Compose, error_of, follow, run
from flow360.stack.model import Service
from flow360.stack.status import Event, Progress

FETCH = 3600  # seconds for one image over a slow line
MANIFEST = 8  # seconds to learn whether an image can be had
PULLS = 3  # images fetched side by side
STAND_IN = "org.flow360.stand-in"  # the label of an image that is not what its name says
SOURCE = "org.flow360.source"  # the label that ties our own image to the files it was built from
# What stack/images/Dockerfile reads. An image built from other contents is built again.
INPUTS = (
    *("stack/images", "stack/jars.lock", "stack/spark", "requirements.lock", "flow360/__init__.py"),
    *("flow360/environment.py", "flow360/errors.py", "flow360/files.py", "flow360/neighbours.py"),
    *("flow360/process.py", "flow360/settings.py", "flow360/waiting.py", "flow360/clients", "flow360/ingestion"),
    *("flow360/monitoring", "flow360/primeur", "flow360/processing", "flow360/stack", "stack/layers", "data/seed"),
)


def can_pull(image: str) -> bool:
    """Ask whether the registry answers for this image within a few seconds."""
    try:
        return run(["docker", "manifest", "inspect", image], MANIFEST).returncode == 0
    except FlowError:
        return False


def missing(compose: Compose, services: Iterable[Service]) -> list[str]:
    """List the images of services that are not on this machine, or are ours and were built from other files."""
    wanted = list(dict.fromkeys(str(service.image) for service in services))
    present = compose.images(wanted)
    return [
        image
        for image in wanted
        if image not in present or (compose.builder(image) and present[image].get(SOURCE) != source_digest())
    ]


def fetch(compose: Compose, services: Iterable[Service], progress: Progress) -> None:
    """Pull and build the images that are missing, a few side by side.

    Raises:
        FlowError: an image cannot be had; what has come so far is kept.
    """
    wanted = missing(compose, services)
    if not wanted:
        return
    with ThreadPoolExecutor(PULLS) as pool:
        futures = [pool.submit(_fetch_one, compose, image, progress) for image in wanted]
    for future in futures:
        future.result()


def _fetch_one(compose: Compose, image: str, progress: Progress) -> None:
    start, builder = time.monotonic(), compose.builder(image)
    name = builder or image.partition(":")[0]
    count = Steps() if builder else Layers()

    def say(line: str) -> None:
        if count.read(line):
            detail = f"{image}: {count.done} of {count.all} {count.what}"
            progress(Event(name, "fetching", detail, count.share, time.monotonic() - start))

    progress(Event(name, "fetching", image, 0.0))
    command = compose.command("build", builder) if builder else ["docker", "pull", image]
    try:
        follow(command, say, FETCH, {"FLOW360_SOURCE": source_digest()} if builder else None)
    except CommandFailed as failed:
        raise not_to_be_had(image, failed.lines, bool(builder)) from None
    progress(Event(name, "ready", image, 1.0, time.monotonic() - start))


class Layers:
    """Progress out of the lines of `docker pull`: `9824c27679d3: Pull complete`."""

    what = "layers"

    def __init__(self) -> None:
        self._state: dict[str, bool] = {}

    def read(self, line: str) -> bool:
        found = re.match(r"([0-9a-f]{12}): (.+)", line)
        if found:
            self._state[found.group(1)] = found.group(2) in ("Pull complete", "Already exists")
        return bool(found)

    @property
    def done(self) -> int:
        return sum(self._state.values())

    @property
    def all(self) -> int:
        return len(self._state)

    @property
    def share(self) -> float:
        return self.done / max(self.all, 1)


class Steps:
    """Progress out of the lines of a build: `#7 [primeur 3/8] RUN …`, or of the old builder `Step 3/8 : RUN …`."""

    what = "steps"
    done = 0
    all = 1

    def read(self, line: str) -> bool:
        found = re.search(r"(?:\[\D*\s|^Step )(\d+)/(\d+)(?:\]| :)", line)
        if found:
            self.done, self.all = map(int, found.groups())
        return bool(found)

    @property
    def share(self) -> float:
        return (self.done - 1) / max(self.all, 1)


@cache
def source_digest() -> str:
    """Hash all files that our image is built from into one digest."""
    digest = hashlib.sha256()
    for entry in INPUTS:
        path = ROOT / entry
        files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file() and p.suffix != ".pyc")
        for file in files:
            content = file.read_bytes()
            digest.update(f"{file.relative_to(ROOT)} {len(content)}\n".encode() + content)
    return digest.hexdigest()[:16]


def not_to_be_had(image: str, said: Sequence[str], built: bool) -> FlowError:
    """Say why an image could not be pulled (or built), and the fix, in one line."""
    text = "\n".join(said)
    last = next((line for line in reversed(said) if line.strip()), "no reason given")[:160]
    if "no space left on device" in text:
        return error_of(image, said)
    if re.search("toomanyrequests|rate limit", text, re.IGNORECASE):
        return FlowError(
            f"{image}: the registry says that too many images were pulled from here: docker login, or wait an hour",
            Exit.NETWORK,
        )
    what = "built" if built else "pulled"
    return FlowError(
        f"{image} cannot be {what} ({last}). Is there a network? Run the same command again, it goes on where it "
        "stopped; or take --engine native.",
        Exit.NETWORK,
    )
