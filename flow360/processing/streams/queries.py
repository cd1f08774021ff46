"""The HTTP endpoint of a live topology. Its state is asked while it works: an **interactive query**.

    GET /health                 200 when RUNNING, else 503; JSON: state, guarantee, restored, error
    GET /topology               the steps, as Kafka Streams describes them
    GET /stores                 the names of the state stores
    GET /stores/NAME            what it holds: at most ?limit=100 rows
    GET /stores/NAME/KEY        one key; of a window store, its windows

With several instances each would hold a part of the keys; this one answers for its own part.
"""

from __future__ import annotations

import json
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from threading import Thread
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlsplit

import jpype

from flow360.ingestion.topics import iso
from flow360.neighbours import is_foreign
from flow360.processing.streams import api

if TYPE_CHECKING:
    from flow360.processing.streams.app import Application


class _NotThere(Exception):
    """An answer other than 200: the status, and why."""

    def __init__(self, status: HTTPStatus, why: str) -> None:
        super().__init__(why)
        self.status = status


class Endpoint:
    """Serves an application's queries until `close`. Port 0 takes a free one; `port` says which."""

    def __init__(self, application: Application, host: str, port: int) -> None:
        class Handler(BaseHTTPRequestHandler):
            timeout = 10

            def do_GET(self) -> None:
                try:
                    if is_foreign(self.headers["host"], self.headers["origin"], "kafka-streams"):
                        raise _NotThere(HTTPStatus.FORBIDDEN, "this service answers no page of another site")
                    status, answer = respond(application, self.path)
                except _NotThere as error:
                    status, answer = error.status, {"error": str(error)}
                body = (answer if isinstance(answer, str) else json.dumps(answer)).encode()
                self.send_response(status)
                kind = "text/plain; charset=utf-8" if isinstance(answer, str) else "application/json"
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                """Log nothing: a probe every second is not news."""

        self._server = ThreadingHTTPServer((host, port), Handler)
        self._server.daemon_threads = True
        self.port: int = self._server.server_address[1]
        Thread(target=self._server.serve_forever, name="queries", daemon=True).start()

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()


def respond(application: Application, path: str) -> tuple[HTTPStatus, Any]:
    """Return the status and the answer (JSON, or text) to a GET of that path."""
    parts = urlsplit(path)
    words = [unquote(word) for word in parts.path.strip("/").split("/")]
    if words == ["health"]:
        state = application.state
        about = {
            "application": application.application,
            "state": state,
            "guarantee": application.guarantee,
            "restored": dict(application.restored),
            "error": application.error,
        }
        return (HTTPStatus.OK if state == "RUNNING" else HTTPStatus.SERVICE_UNAVAILABLE), about
    if words == ["topology"]:
        return HTTPStatus.OK, str(application.topology.describe())
    if words == ["stores"]:
        return HTTPStatus.OK, application.stores
    if words[0] != "stores" or len(words) > 3:
        raise _NotThere(HTTPStatus.NOT_FOUND, "ask for /health, /topology, /stores, /stores/NAME or /stores/NAME/KEY")
    if words[1] not in application.stores:
        raise _NotThere(HTTPStatus.NOT_FOUND, f"no store {words[1]!r}; there are: {', '.join(application.stores)}")
    try:
        store, windowed = _open(application, words[1])
        if len(words) == 3:
            return HTTPStatus.OK, _one(store, windowed, words[2])
        limit = min(int(parse_qs(parts.query).get("limit", ["100"])[0]), 10_000)
        return HTTPStatus.OK, _all(store, windowed, limit)
    except jpype.JException as error:
        raise _NotThere(HTTPStatus.SERVICE_UNAVAILABLE, str(error.getMessage())) from None
    except ValueError as error:
        raise _NotThere(HTTPStatus.BAD_REQUEST, f"limit: {error}") from None


def _open(application: Application, name: str) -> tuple[Any, bool]:
    """Open the store, read-only, and say whether its keys are windowed."""
    from org.apache.kafka.streams import StoreQueryParameters
    from org.apache.kafka.streams.errors import InvalidStateStoreException
    from org.apache.kafka.streams.state import QueryableStoreTypes

    if application.state != "RUNNING":
        raise _NotThere(HTTPStatus.SERVICE_UNAVAILABLE, f"not now: it is {application.state}")

    def ask(kind: Any) -> Any:
        return application.streams.store(StoreQueryParameters.fromNameAndType(name, kind))

    try:
        return ask(QueryableStoreTypes.keyValueStore()), False
    except InvalidStateStoreException:
        return ask(QueryableStoreTypes.windowStore()), True


def _one(store: Any, windowed: bool, key: str) -> Any:
    if not windowed:
        value = store.get(key)
        if value is None:
            raise _NotThere(HTTPStatus.NOT_FOUND, f"no key {key!r}")
        return value
    rows = store.fetch(key, api.Instant.EPOCH, api.Instant.ofEpochMilli(2**52))
    try:
        return [{"from": iso(row.key), "value": row.value} for row in rows]
    finally:
        rows.close()


def _all(store: Any, windowed: bool, limit: int) -> Any:
    rows = store.all()
    try:
        some = islice(iter(rows), limit)
        if not windowed:
            return {str(row.key): row.value for row in some}
        return [{"key": str(r.key.key()), "from": iso(r.key.window().start()), "value": r.value} for r in some]
    finally:
        rows.close()
