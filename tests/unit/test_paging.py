"""Whatever a REST list may answer: nothing runs on for ever."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import requests

from flow360.ingestion import paging
from flow360.ingestion.paging import GaveUp, fetch_all

Answer = tuple[int, dict[str, str], bytes]


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Callable[[int, str], Answer]], requests.Session]]:
    """A session to a server whose n-th answer (from 0) to a path is what a function says."""
    servers = []

    def start(respond: Callable[[int, str], Answer]) -> requests.Session:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, headers, body = respond(len(session.asked), self.path)
                session.asked.append(self.path)
                self.send_response(status)
                for name, value in {"Content-Length": str(len(body)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        servers.append(server)

        class Session(requests.Session):
            def request(self, method: str, url: str, **kw: Any) -> requests.Response:
                return super().request(method, f"http://127.0.0.1:{server.server_port}{url}", **kw)

        session = Session()
        session.trust_env, session.asked = False, []
        return session

    paused: list[float] = []
    monkeypatch.setattr(paging.time, "sleep", paused.append)
    start.paused = paused
    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def page(items: list[Any], cursor: Any = None) -> Answer:
    return 200, {}, json.dumps({"items": items, "next_cursor": cursor}).encode()


GOOD = page([{"id": 1}])


@pytest.mark.parametrize(
    ("cursors", "named"), [([""], "''"), (["A", "A"], "'A'"), (["A", "B", "A", "B"], "'A'"), ([["x"]], "['x']")]
)
def test_a_walk_whose_cursors_lead_nowhere_is_given_up(serve, cursors: list[Any], named: str) -> None:
    session = serve(lambda n, _: page([{"id": n}], cursors[n % len(cursors)]))
    with pytest.raises(GaveUp, match=rf"next_cursor is {re.escape(named)}"):
        fetch_all(session, "/orders", "id")
    assert len(session.asked) <= len(cursors)


def test_a_walk_with_always_new_cursors_is_given_up(serve) -> None:
    session = serve(lambda n, _: page([{"id": n}], f"c{n}"))
    with pytest.raises(GaveUp, match="no end after 12 pages, the last next_cursor is 'c11'"):
        fetch_all(session, "/orders", "id", pages=12)
    assert len(session.asked) == 12


@pytest.mark.parametrize(
    "body",
    [
        b"<html><body>Please log in</body></html>",
        b"",
        json.dumps({"items": [{"id": 1}], "next_cursor": None}).encode()[:-9],
        b'{"error": "try later"}',
        b"null",
        b"[]",
        b'{"items": null, "next_cursor": null}',
        b"[" * 100_000,
        b"\xff\xfe\x00",
    ],
)
def test_a_good_status_with_something_else_than_a_page_is_asked_for_again(serve, body: bytes) -> None:
    session = serve(lambda n, _: GOOD if n else (200, {}, body))
    found = fetch_all(session, "/orders", "id")
    assert (list(found.items), found.retries) == ([1], {"200": 1})
    session = serve(lambda n, _: (200, {}, body))
    with pytest.raises(GaveUp, match="2 attempts, the last one: 200 without items and next_cursor: ") as error:
        fetch_all(session, "/orders", "id", attempts=2)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 400


def test_a_body_shorter_than_it_was_announced_is_asked_for_again(serve) -> None:
    session = serve(lambda n, _: GOOD if n else (200, {"Content-Length": "5000", "Connection": "close"}, b'{"ite'))
    assert fetch_all(session, "/orders", "id").retries == {"cut": 1}


@pytest.mark.parametrize(
    ("asks", "least", "most"),
    [
        ("2", 2, 2),
        (formatdate(usegmt=True), 0.05, 1),
        ("Sun, 06 Nov 1994 08:49:37 GMT", 0.05, 1),
        ("-5", 0.05, 1),
        ("soon", 0.05, 1),
        ("nan", 0.05, 1),
        ("", 0.05, 1),
    ],
)
@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_read_as_far_as_it_can_be(serve, asks: str, least: float, most: float, status: int) -> None:
    session = serve(lambda n, _: GOOD if n else (status, {"Retry-After": asks}, b""))
    assert fetch_all(session, "/orders", "id").retries == {str(status): 1}
    assert least <= serve.paused[0] <= most


@pytest.mark.parametrize("asks", ["3600", "99999999999999999999", "Fri, 31 Dec 2100 23:59:59 GMT"])
def test_a_wait_that_is_too_long_is_given_up_at_once(serve, asks: str) -> None:
    session = serve(lambda n, _: (429, {"Retry-After": asks}, b""))
    with pytest.raises(GaveUp, match="it asks to wait"):
        fetch_all(session, "/orders", "id")
    assert len(session.asked) == 1


def test_items_that_cannot_be_judged_are_rejected_and_the_others_kept(serve) -> None:
    items = [{"id": 1, "euros": 2}, {"euros": 3}, "text", None, {"id": [2]}, {"id": 3, "euros": "four"}, {"id": 1}]
    found = fetch_all(
        serve(lambda *_: page(items)), "/orders", "id", check=lambda i: "dear" if i["euros"] > 9 else None
    )
    assert (list(found.items), found.doubled) == ([1], 1)
    assert [reason.partition(":")[0] for _, reason in found.rejected] == ["no id"] * 4 + ["TypeError"]
