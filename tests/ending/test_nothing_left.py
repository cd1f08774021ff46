"""After `flow360 down`: no process of ours, no listener on our ports."""

from __future__ import annotations

import socket

import pytest

from flow360.stack.model import model

SERVICES = ()  # it stops them all
PORTS = [(service.name, port) for service in model().services.values() for port in service.ports]


@pytest.fixture(scope="module", autouse=True)
def down(stack) -> None:
    stack.down()


def test_supervisord_is_gone(stack):
    assert not stack.host.supervisor.alive()


def test_no_process_is_left(stack):
    assert [process.cmdline() for process in stack.host.supervisor.orphans()] == []


@pytest.mark.parametrize(("name", "port"), PORTS, ids=[name for name, _ in PORTS])
def test_nobody_listens(name, port):
    with socket.socket() as sock:
        sock.settimeout(2)
        assert sock.connect_ex(("127.0.0.1", port)) != 0, f"{name} still listens on {port}"
