"""Debian packages, unpacked without root below the cache: programs that no wheel and no Maven artifact brings.

apt itself downloads them and checks the archive's signatures.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from flow360.errors import Exit, FlowError
from flow360.settings import settings
from flow360.stack.native.jars import alone

TRIPLET = {"x86_64": "x86_64-linux-gnu", "aarch64": "aarch64-linux-gnu"}.get(platform.machine(), platform.machine())


def root_of(name: str) -> Path:
    """Return the folder in which a service's Debian packages are unpacked."""
    return settings().cache_dir / "debian" / name


def present(name: str, packages: Sequence[str], relocate: str = "") -> bool:
    """Say whether exactly these packages are unpacked."""
    note = root_of(name) / ".packages"
    return note.exists() and note.read_text("utf-8").split() == [*packages, *relocate.split()]


def why_not(name: str, packages: Sequence[str], relocate: str = "") -> str | None:
    """Say why these packages cannot be had on this system; None where they are here already, or can be."""
    if not packages or present(name, packages, relocate) or (shutil.which("apt-get") and shutil.which("dpkg")):
        return None
    return "it comes as Debian packages, and this system has no apt"


def fetch(name: str, packages: Sequence[str], relocate: str = "") -> None:
    """Download packages with apt, as an ordinary user, and unpack them; apt checks the archive's signatures.

    Args:
        packages: names; `one|other` where a library is called differently in different releases.
        relocate: an absolute folder that stands in the programs themselves, e.g. /usr/share/prometheus.

    Raises:
        FlowError: no apt on this system, no network, or apt's own complaint.
    """
    with alone(f"debian-{name}"):
        if not present(name, packages, relocate):
            _fetch(name, packages, relocate)


def _fetch(name: str, packages: Sequence[str], relocate: str) -> None:
    if why := why_not(name, packages, relocate):
        raise FlowError(f"{name}: {why}: run it with --engine docker")
    root = root_of(name)
    work = root.with_name(f".{name}.{os.getpid()}")
    shutil.rmtree(work, ignore_errors=True)
    for folder in ("lists/partial", "cache/archives/partial", "root"):
        (work / folder).mkdir(parents=True)
    options = [
        "-o",
        f"Dir::State::Lists={work}/lists",
        "-o",
        f"Dir::Cache={work}/cache",
        "-o",
        "Debug::NoLocking=1",
    ]
    options += ["-o", "Acquire::Retries=3", "-o", "Acquire::http::Timeout=60"]
    if os.geteuid() == 0:
        options += ["-o", "APT::Sandbox::User=root"]
    try:
        broken = None
        try:
            _apt(name, ["apt-get", *options, "-qq", "update"], work)
        except FlowError as error:  # one of several archives may be gone for good; what matters is in another one
            broken = error
        try:
            names = [_known(name, alternatives, options, work) for alternatives in packages]
        except FlowError as error:
            raise broken or error from None
        _apt(name, ["apt-get", *options, "-qq", "download", *names], work)
        for package in sorted(work.glob("*.deb")):
            _apt(name, ["dpkg", "-x", str(package), str(work / "root")], work)
        if relocate:
            relocated(work / "root" / "usr" / "bin", relocate)
        (work / "root" / ".packages").write_text(" ".join([*packages, *relocate.split()]) + "\n", "utf-8")
        shutil.rmtree(root, ignore_errors=True)
        (work / "root").replace(root)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def relocated(folder: Path, place: str) -> None:
    """Let programs look for their files below the folder that they are started in, instead of an absolute one.

    A path inside a program can only be replaced by one of the same length, so it becomes `./././.`: as conda does it.
    """
    here = ("./" * len(place))[: len(place)]
    for program in folder.iterdir():
        program.write_bytes(program.read_bytes().replace(place.encode(), here.encode()))


def _known(name: str, alternatives: str, options: list[str], folder: Path) -> str:
    """Pick the first of the alternatives that this system's archive has."""
    for package in alternatives.split("|"):
        command = ["apt-cache", *options, "show", "--no-all-versions", package]
        if subprocess.run(command, cwd=folder, capture_output=True, timeout=60).returncode == 0:
            return package
    raise FlowError(f"{name}: this system's archive has no package {alternatives}: run it with --engine docker")


def _apt(name: str, command: list[str], folder: Path) -> None:
    environment: Mapping[str, Any] = {**os.environ, "LC_ALL": "C.UTF-8"}
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600, env=environment)
    if done.returncode:
        last = (done.stderr or done.stdout).strip().splitlines()[-1:] or ["no message"]
        raise FlowError(
            f"{name}: {command[0]} failed ({last[0][:160]}): is there a network? Run the same command again.",
            Exit.NETWORK,
        )
