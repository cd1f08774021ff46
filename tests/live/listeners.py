"""Who of our processes listens, and where."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Container, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil


def listeners(processes: Iterable[psutil.Process]) -> list[tuple[str, str, int]]:
    """(name, address, port) of each socket on which one of them listens, or takes packets (UDP).

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
        found += [
            (name, one.laddr.ip, one.laddr.port)
            for one in connections
            if one.status == psutil.CONN_LISTEN or one.type == socket.SOCK_DGRAM
        ]
    return found


@contextlib.contextmanager
def watched(service_of: Callable[[psutil.Process], str | None], every: float = 0.01) -> Iterator[set[str]]:
    """While the block runs, look every 10 ms at all sockets that wait for somebody, TCP and UDP.

    Args:
        service_of: says which of our services a process belongs to, None for other people's.

    Yields:
        A set that gets a line for each socket of ours that can be reached from another machine.
    """
    found: set[str] = set()
    known: set[str] = set()
    done = threading.Event()

    def look() -> None:
        new = {inode: where for inode, where in _open_to_others() if inode not in known}
        for inode, process in _owners(new) if new else ():
            with contextlib.suppress(psutil.NoSuchProcess):
                if service := service_of(process):
                    found.add(f"{service}: {new[inode]}")
        known.update(new)  # also those that belong to nobody whom we see

    def go_on() -> int:
        looks = 0
        while not done.wait(every):
            look()
            looks += 1
        return looks

    look()  # at what is open already: to find out whose a socket is takes longer than to find it
    with ThreadPoolExecutor(1) as pool:
        watcher = pool.submit(go_on)
        try:
            yield found
        finally:
            done.set()
        print(f"\nlooked {watcher.result()} times")  # and not, that it broke off


def _open_to_others() -> Iterator[tuple[str, str]]:
    """(inode, protocol with address and port) of each socket that waits for somebody, beyond loopback."""
    for protocol in ("tcp", "tcp6", "udp", "udp6"):
        waits = "0A" if protocol.startswith("tcp") else "07"
        with Path("/proc/net", protocol).open() as table:
            next(table)
            for line in table:
                _, local, remote, state, *rest = line.split()
                if waits == "0A" != state:
                    break  # the kernel names those that listen first; the others are many, and it searches for them
                address = local.split(":")[0]
                loopback = address.endswith("7F") or address == "00000000000000000000000001000000"
                if state == waits and set(remote) <= {"0", ":"} and not loopback:
                    yield rest[5], f"{protocol} {local}"


def _owners(inodes: Container[str]) -> Iterator[tuple[str, psutil.Process]]:
    for pid in sorted(psutil.pids(), reverse=True):  # the newest first
        with contextlib.suppress(OSError, psutil.NoSuchProcess):
            for link in Path(f"/proc/{pid}/fd").iterdir():
                with contextlib.suppress(OSError):
                    inode = link.readlink().name.removeprefix("socket:[").removesuffix("]")
                    if inode in inodes:
                        yield inode, psutil.Process(pid)
