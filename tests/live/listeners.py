"""Who of our processes listens, and where."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

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


@contextlib.contextmanager
def watched(service_of: Callable[[psutil.Process], str | None], every: float = 0.01) -> Iterator[set[str]]:
    """While the block runs, look every 10 ms at all sockets that wait for somebody, TCP and UDP.

    Args:
        service_of: says which of our services a process belongs to, None for other people's.

    Yields:
        A set that gets a line for each socket of ours that can be reached from another machine.
    """
    found: set[str] = set()
    looks, done, foreign = [0], threading.Event(), set()

    def look() -> None:
        while not done.wait(every):
            looks[0] += 1
            for kind in ("tcp", "tcp6", "udp", "udp6"):
                for place, inode in _open_to_others(kind):
                    if inode in foreign:
                        continue
                    owner = _owner(inode)
                    service = owner and service_of(owner)
                    if service:
                        found.add(f"{service}: {kind} {place}")
                    elif owner:
                        foreign.add(inode)

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    try:
        yield found
    finally:
        done.set()
        watcher.join()
    print(f"\nlooked {looks[0]} times")
    assert looks[0], "the watcher did not look once"


def _open_to_others(kind: str) -> Iterator[tuple[str, str]]:
    """(hexadecimal address and port, inode) of each socket that listens, or waits for datagrams, beyond loopback."""
    waits = "0A" if kind.startswith("tcp") else "07"
    for line in Path("/proc/net", kind).read_text().splitlines()[1:]:
        _, local, remote, state, *rest = line.split()
        address = local.split(":")[0]
        loopback = address.endswith("7F") or address == "00000000000000000000000001000000"
        if state == waits and set(remote) <= {"0", ":"} and not loopback:
            yield local, rest[5]


def _owner(inode: str) -> psutil.Process | None:
    for process in psutil.process_iter():
        with contextlib.suppress(OSError):
            for link in Path(f"/proc/{process.pid}/fd").iterdir():
                with contextlib.suppress(OSError):
                    if link.readlink().name == f"socket:[{inode}]":
                        return process
    return None
