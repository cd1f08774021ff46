"""Where each service listens, whether it answers, and what is said when it does not."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from flow360.errors import FlowError, ServiceError
from flow360.settings import PUBLISHED, settings

CONNECT_SECONDS = 5


def port_of(service: str) -> int | None:
    """Return the port of a service on 127.0.0.1 that clients ask, or None when it listens on none (market-sensors).

    That is its web port, where it has one (HDFS is asked over HTTP), else the first that it publishes.
    """
    variables = sorted(PUBLISHED.get(service, ()), key=lambda variable: not variable.endswith("_WEB_PORT"))
    return getattr(settings(), variables[0].lower()) if variables else None


def answers(service: str, seconds: float = 1.0) -> bool:
    """Ask whether something accepts connections on the service's port (True for a service without one)."""
    port = port_of(service)
    if port is None:
        return True
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=seconds):
            return True
    except OSError:
        return False


def is_down(service: str, said: object = "") -> FlowError:
    """Write the one line about a service that does not answer: which, where, and what to type.

    Args:
        said: the driver's own words; they are the line when something listens on the port all the same.
    """
    port = port_of(service)
    where = f" on 127.0.0.1:{port}" if port else ""
    if said and answers(service):
        why = (str(said).strip() or type(said).__name__).splitlines()[-1].strip()[:300]
        return ServiceError(f"{service} runs{where}, but: {why}: see `flow360 logs {service}`")
    return ServiceError(f"{service} does not answer{where}: start it with `flow360 up {service}`")


def require(service: str) -> None:
    """Go on only if the service answers.

    Raises:
        FlowError: it does not; the line of `is_down`.
    """
    if not answers(service):
        raise is_down(service)


@contextmanager
def quiet(logger: str) -> Iterator[None]:
    """Keep a library's connection chatter out of the notebook while we wait for it: our one line says it better."""
    log = logging.getLogger(logger)
    before = log.level
    log.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        log.setLevel(before)
