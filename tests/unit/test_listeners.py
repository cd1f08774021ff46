"""The watcher of sockets sees what it is there for, and nothing else."""

from __future__ import annotations

import subprocess
import sys

import psutil
import pytest

from flow360.waiting import wait_for
from tests.live.listeners import watched

OPENS = """
import socket, sys
family, kind, address = sys.argv[1:]
with socket.socket(getattr(socket, family), getattr(socket, kind)) as server:
    server.bind((address, 0))
    if kind == "SOCK_STREAM":
        server.listen()
    print("open", flush=True)
    sys.stdin.read()
"""


def opened(family: str, kind: str, address: str, ours: bool = True) -> set[str]:
    """What is seen while a process has a socket open."""
    asked: list[int] = []

    def service_of(process: psutil.Process) -> str | None:
        command = process.cmdline()
        asked.append(process.pid)
        return "it" if ours and OPENS in command else None

    command = [sys.executable, "-c", OPENS, family, kind, address]
    with (
        watched(service_of) as found,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process,
    ):
        assert process.stdout.readline() == "open\n"
        if address in ("0.0.0.0", "::"):  # noqa: S104 - this is what must be seen
            wait_for(lambda: process.pid in asked, 30, "the watcher")
        process.stdin.close()
    return found


@pytest.mark.parametrize(
    ("family", "kind", "address"),
    [
        ("AF_INET", "SOCK_STREAM", "0.0.0.0"),  # noqa: S104
        ("AF_INET", "SOCK_DGRAM", "0.0.0.0"),  # noqa: S104
        ("AF_INET6", "SOCK_STREAM", "::"),
        ("AF_INET6", "SOCK_DGRAM", "::"),
    ],
)
def test_a_socket_that_others_reach_is_seen(family, kind, address):
    (one,) = opened(family, kind, address)
    assert one.startswith("it: ")


@pytest.mark.parametrize(
    ("family", "address"), [("AF_INET", "127.0.0.1"), ("AF_INET6", "::1"), ("AF_INET6", "::ffff:127.0.0.1")]
)
def test_a_socket_on_loopback_is_not(family, address):
    assert opened(family, "SOCK_STREAM", address) == set()


def test_other_peoples_sockets_are_not_ours():
    assert opened("AF_INET", "SOCK_STREAM", "0.0.0.0", ours=False) == set()  # noqa: S104
