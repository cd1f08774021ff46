"""For root: who runs the servers that refuse it, and the programs that this user can reach."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from flow360.errors import Exit, FlowError
from flow360.settings import settings


def ordinary_user() -> str:
    """Name the user who runs what refuses root: the system's `postgres` if there is one, else `nobody`."""
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name).pw_name
        except KeyError:
            continue
    raise FlowError(
        "a database does not run as root, and there is no user `postgres` or `nobody`: start as an ordinary user",
        Exit.PERMISSION,
    )


def as_ordinary() -> dict[str, Any]:
    """Return how `subprocess` runs a program as that user; {} where the caller is not root."""
    if os.geteuid() != 0:
        return {}
    who = pwd.getpwnam(ordinary_user())
    return {"user": who.pw_uid, "group": who.pw_gid, "extra_groups": []}


def give(path: Path | str) -> None:
    """Make a file or an empty folder that user's, where the caller is root."""
    if who := as_ordinary():
        os.chown(path, who["user"], who["group"], follow_symlinks=False)


def reachable(name: str, source: Path, parts: Iterable[str]) -> Path:
    """Return a folder with these parts of `source` that an ordinary user can enter: for root a copy, made once.

    Root's own caches and environments lie below /root, where nobody else may go. Where both are on one disk, the copy
    takes no room.
    """
    if os.geteuid() != 0:
        return source
    copy = settings().state_dir / name
    if not copy.exists():
        part = copy.with_name(f"{name}.part")
        shutil.rmtree(part, ignore_errors=True)
        for folder in parts:
            shutil.copytree(source / folder, part / folder, symlinks=True, copy_function=_link)
        subprocess.run(["chmod", "-R", "a+rX", part], check=True)  # whatever umask they were installed with
        part.replace(copy)
    return copy


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another disk
        shutil.copy2(source, target)
