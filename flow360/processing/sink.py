"""A sink: a program that carries what it reads into the warehouse, and waits for whatever is away."""

from __future__ import annotations

import logging
import os
import threading
from typing import Any, ClassVar

import psycopg

from flow360 import clients
from flow360.errors import FlowError
from flow360.monitoring.exposition import Exposition
from flow360.monitoring.logs import writing
from flow360.process import at_the_end


class Sink:
    """A sink. `run` blocks until `stop`; what it does until then stands in a subclass's `_work`.

    Attributes:
        name: the service's.
        away: errors that pass by waiting: the work begins again from the last commit, with new connections.
    """

    name: ClassVar[str]
    away: ClassVar[tuple[type[Exception], ...]] = (OSError, FlowError, psycopg.Error)

    def __init__(self) -> None:
        self._stop = threading.Event()
        self._problem = "starting"

    def run(self) -> None:
        """Carry until `stop`. A broker or a warehouse that is away is waited for."""
        while not self._stop.is_set():
            try:
                self._work()
            except self.away as error:
                said = (str(error).strip() or type(error).__name__).splitlines()[0]
                if said != self._problem:
                    logging.getLogger(self.name).warning("waiting: %s", said)
                self._problem = said
                self._stop.wait(1)
        self._close()

    def stop(self) -> None:
        """End `run` soon."""
        self._stop.set()

    def health(self) -> tuple[bool, dict[str, Any]]:
        """Say whether the last round went well."""
        return not self._problem, {"problem": self._problem}

    def serve(self, host: str, port: int) -> None:
        """Run until SIGTERM; /metrics and /health on HOST:PORT."""
        writing.to_stdout()
        exposition = Exposition(host, port, self.name, self.health)
        at_the_end(self.stop)
        self.run()
        exposition.close()

    def _work(self) -> None:
        """Carry until `_stop`, or until something is away; `_problem` says what keeps it from its work."""
        raise NotImplementedError

    def _close(self) -> None:
        """Say the last word, after `_work`."""
        raise NotImplementedError


def warehouse(**kw: Any) -> psycopg.Connection:
    """Open the warehouse; POSTGRES_DWH_HOST names another host than 127.0.0.1."""
    return clients.postgres(host=os.environ.get("POSTGRES_DWH_HOST", "127.0.0.1"), autocommit=True, **kw)
