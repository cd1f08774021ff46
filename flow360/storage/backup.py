"""Backup and restore of the warehouse with PostgreSQL's own programs, which come with the course's environment.

`dump` and `restore` move one schema as SQL; `base` copies the whole server file by file, and `serve` starts the copy.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flow360 import clients
from flow360.errors import FlowError, ServiceError
from flow360.process import run
from flow360.settings import settings
from flow360.stack.native import postgres, users
from flow360.waiting import wait_for

SECONDS = 300


def program(name: str) -> Path:
    """Return the path of one of PostgreSQL's own programs: psql, pg_dump …"""
    return postgres.home() / "bin" / name


def environment() -> dict[str, str]:
    """Return the variables by which these programs find the warehouse."""
    s = settings()
    return {
        "PGHOST": "127.0.0.1",
        "PGPORT": str(s.postgres_dwh_port),
        "PGUSER": s.postgres_dwh_user,
        "PGPASSWORD": s.postgres_dwh_password,
        "PGCONNECT_TIMEOUT": "5",
    }


def dump(schema: str, file: Path) -> Path:
    """Run `pg_dump` for one schema of the warehouse, in PostgreSQL's custom format.

    Raises:
        FlowError: pg_dump failed; the line is its own.
    """
    command = [program("pg_dump"), "--format=custom", "--no-password", f"--schema={schema}", f"--file={file}"]
    run([*command, settings().postgres_dwh_db], seconds=SECONDS, env=environment())
    return file


def restore(file: Path, database: str) -> None:
    """Run `pg_restore` into a new database of the same server, which must not exist; all or nothing.

    Raises:
        FlowError: there is one of that name, or pg_restore failed (the half-made database is dropped).
    """
    from psycopg import errors, sql

    name = sql.Identifier(database)
    with clients.postgres(autocommit=True) as db:
        try:
            db.execute(sql.SQL("create database {}").format(name))
        except errors.DuplicateDatabase:
            raise FlowError(f"there is a database {database} already: drop it first, or take another name") from None
        try:
            command = [program("pg_restore"), "--no-password", "--exit-on-error", "--single-transaction"]
            run([*command, f"--dbname={database}", file], seconds=SECONDS, env=environment())
        except FlowError:
            db.execute(sql.SQL("drop database {} with (force)").format(name))
            raise


@contextlib.contextmanager
def base() -> Iterator[Path]:
    """Run `pg_basebackup` of the whole server into a folder of its own, which goes at the end of the block.

    Raises:
        FlowError: the server lets no copy be made from outside (as the docker image does), or the disk is full.
    """
    folder = Path(tempfile.mkdtemp(prefix="flow360-base-"))
    try:
        target = folder / "data"
        command = [program("pg_basebackup"), "--no-password", "--checkpoint=fast", "--wal-method=stream", "-D", target]
        try:
            run(command, seconds=SECONDS, env=environment())
        except FlowError as error:
            if "no pg_hba.conf entry" in error.message:
                said = "postgres-dwh in its container allows no base backup from outside: run this with --engine native"
                raise ServiceError(said) from None
            raise
        yield target
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def serve(data: Path) -> Iterator[dict[str, Any]]:
    """Start a server on a base backup, on a port of its own, and stop it at the end of the block.

    Returns:
        What `clients.postgres(**it)` needs to reach the copy instead of the original.

    Raises:
        FlowError: the copy did not start; the line is its own last one.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    if who := users.as_ordinary():  # PostgreSQL refuses root
        data.parent.chmod(0o755)
        for path in [data, *data.rglob("*")]:
            users.give(path)
    log = data.parent / "copy.log"
    # The original's settings stand outside its data folder; the copy takes the defaults that came with initdb.
    command = [
        program("postgres"), "-D", data, "-c", f"port={port}", "-c", "listen_addresses=127.0.0.1",
        "-c", "unix_socket_directories=", "-c", "max_replication_slots=8", "-c", "max_connections=100",
    ]  # fmt: skip
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, stdin=subprocess.DEVNULL, cwd="/", **who)
    try:
        at = {"port": port}

        def answers() -> bool:
            if process.poll() is not None:
                last = log.read_text("utf-8", "replace").strip().splitlines()[-1:] or ["no message"]
                raise RuntimeError(last[0])
            clients.postgres(**at).close()
            return True

        try:
            wait_for(answers, 60, "the copy to answer")
        except RuntimeError as error:
            raise FlowError(f"the copy did not start: {error}") from None
        yield at
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)
