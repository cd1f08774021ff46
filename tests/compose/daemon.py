"""A private Docker daemon for the compose tests: own data, own socket, own end.

It exists so that the docker engine can be proved on a machine that has the daemon's program but no daemon running.
Only root can start one. Nothing of it is ever used by a learner.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

START_SECONDS = 60
STOP_SECONDS = 60


def why_not() -> str | None:
    """Return None when a private daemon can be started here, else the reason in one line."""
    if os.geteuid() != 0:
        return "a private daemon needs root"
    if not shutil.which("dockerd", path=_path()):
        return "dockerd is not installed"
    if not shutil.which("docker"):
        return "the docker client is not installed"
    return None


@contextmanager
def private_daemon(folder: Path) -> Iterator[str]:
    """Run a daemon whose data, state and socket all lie in `folder`; yields its address for DOCKER_HOST.

    At the end the daemon, its containerd and every container are gone, and nothing is mounted below the folder.
    The images stay in `folder/data`: remove the folder, or use it again to save the time of building them.

    Raises:
        RuntimeError: it did not answer in time; the message ends with the last lines of its log.
    """
    if reason := why_not():
        raise RuntimeError(reason)
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "dockerd.log"
    address = f"unix://{folder}/sock"
    # No docker0: Compose makes the networks that it needs, and nothing is left on the machine afterwards.
    command = [
        *("dockerd", "--host", address, "--data-root", f"{folder}/data", "--exec-root", f"{folder}/exec"),
        *("--pidfile", f"{folder}/pid", "--bridge", "none", "--log-level", "warn"),
    ]
    with log.open("wb") as out:
        process = subprocess.Popen(
            command,
            stdout=out,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "PATH": _path()},
            start_new_session=True,
        )
    try:
        _wait(process, address, log)
        yield address
    finally:
        _end(process, folder)


def _path() -> str:
    return os.environ.get("PATH", "") + ":/usr/sbin:/sbin"


def _wait(process: subprocess.Popen, address: str, log: Path) -> None:
    end = time.monotonic() + START_SECONDS
    question = ["docker", "--host", address, "version", "--format", "{{.Server.Version}}"]
    while True:
        if process.poll() is None:
            with suppress(subprocess.TimeoutExpired):
                if subprocess.run(question, capture_output=True, timeout=5).returncode == 0:
                    return
        if process.poll() is not None or time.monotonic() > end:
            tail = "\n".join(log.read_text("utf-8", "replace").splitlines()[-4:])
            raise RuntimeError(f"dockerd did not answer:\n{tail}")
        time.sleep(0.2)


def _end(process: subprocess.Popen, folder: Path) -> None:
    """Send SIGTERM, by which the daemon stops its containers and containerd; kill the rest of its session by pid."""
    family = [process.pid]
    with suppress(psutil.Error):
        family += [child.pid for child in psutil.Process(process.pid).children(recursive=True)]
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(10)
    for pid in family[1:]:
        with suppress(psutil.Error):
            left = psutil.Process(pid)
            if str(folder) in " ".join(left.cmdline()):
                left.kill()
    mounts = [line.split()[1] for line in Path("/proc/mounts").read_text("utf-8").splitlines()]
    for mount in sorted((m for m in mounts if m.startswith(f"{folder}/")), reverse=True):
        subprocess.run(["umount", mount], capture_output=True, timeout=30)
    (folder / "sock").unlink(missing_ok=True)
