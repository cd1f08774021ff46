"""Who of our processes listens, and where."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

import psutil


def listeners(processes: Iterable[psutil.Process]) -> list[tuple[str, str, int]]:
    """(name, address, port) of each socket on which one of them listens.

    Airflow's executors make themselves unreadable, so that no other program of the same user takes the keys out of
    their memory; only root sees their sockets. For anybody else they are left out, and said.
    """
    found = []
    for process in processes:
        try:
            name = process.name()
            connections = process.net_connections("inet")
        except psutil.NoSuchProcess:
            continue
        except psutil.AccessDenied:
            with contextlib.suppress(psutil.NoSuchProcess):  # it has ended meanwhile, and nobody may look into it
                command = " ".join(process.cmdline())
                assert "airflow" in command, command
                print(f"not readable for this user: {command}")
            continue
        found += [(name, one.laddr.ip, one.laddr.port) for one in connections if one.status == psutil.CONN_LISTEN]
    return found
