"""The two pages of a program of ours that works and listens to nobody: /metrics for Prometheus, and /health.

It is Prometheus' own client library behind one door, at which pages of other sites are turned away.
"""

from __future__ import annotations

import contextlib
import json
import logging
import threading
from collections.abc import Callable, Iterable
from threading import Thread
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

from prometheus_client import REGISTRY, Gauge, make_wsgi_app
from prometheus_client.exposition import ThreadingWSGIServer
from prometheus_client.registry import Collector

from flow360.monitoring.lineage import journal
from flow360.monitoring.logs import writing
from flow360.neighbours import is_foreign
from flow360.process import at_the_end

Health = Callable[[], tuple[bool, dict[str, Any]]]
"""Says whether the program is well, and what it knows of itself."""
LOST = Gauge("lineage_lost_events", "Events of what it carried that the program could not write down")
LOST.set_function(lambda: journal.failed)


class _Quiet(WSGIRequestHandler):
    timeout = 10  # seconds that a caller may take to say what it wants

    def handle(self) -> None:
        with contextlib.suppress(TimeoutError, ConnectionError):  # a caller who says nothing, or leaves
            super().handle()

    def log_message(self, *_: Any) -> None:
        """Log nothing: a scrape every two seconds is not news."""


class Exposition:
    """Serves both pages until `close`.

    Args:
        host: where it listens.
        port: 0 takes a free one; `port` says which.
        name: the service's name in the containers' network.
        health: asked at each GET /health; 200 when well, else 503.
        registry: whose metrics.
    """

    def __init__(self, host: str, port: int, name: str, health: Health, registry: Collector = REGISTRY) -> None:
        metrics = make_wsgi_app(registry)

        def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
            if is_foreign(environ.get("HTTP_HOST"), environ.get("HTTP_ORIGIN"), name):
                error = "this service answers no page of another site"
                return _answer(start_response, "403 Forbidden", {"error": error})
            if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
                return _answer(start_response, "405 Method Not Allowed", {"error": "GET /metrics or /health"})
            if environ["PATH_INFO"] == "/metrics":
                return metrics(environ, start_response)
            if environ["PATH_INFO"] == "/health":
                well, about = health()
                return _answer(start_response, "200 OK" if well else "503 Service Unavailable", about)
            return _answer(start_response, "404 Not Found", {"error": "GET /metrics or /health"})

        self._server = make_server(host, port, app, ThreadingWSGIServer, _Quiet)
        self.port: int = self._server.server_port
        self._thread = Thread(target=self._server.serve_forever, name="exposition", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)


def _answer(start_response: Callable[..., Any], status: str, about: dict[str, Any]) -> list[bytes]:
    start_response(status, [("Content-Type", "application/json")])
    return [json.dumps(about).encode()]


def expose(collector: Collector, host: str, port: int, name: str, about: dict[str, str]) -> None:
    """Be an exporter until SIGTERM: what it asks is asked whenever somebody scrapes, and `about` says whom it asks."""
    writing.to_stdout()
    REGISTRY.register(collector)
    stop = threading.Event()
    at_the_end(stop.set)
    exposition = Exposition(host, port, name, lambda: (True, about))
    logging.getLogger(name).info("asks %s, answers on %s:%s", ", ".join(about.values()), host, port)
    stop.wait()
    exposition.close()
