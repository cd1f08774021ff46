"""A paged REST list, walked with patience to its last page: nothing missed, nothing counted twice, and an end."""

from __future__ import annotations

import json
import random
import reprlib
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from flow360.errors import FlowError

if TYPE_CHECKING:
    import requests

Item = dict[str, Any]
LONGEST_PAUSE = 60.0
"""Seconds that a client waits for a rate limit at most; asked for more, it gives up."""


@dataclass
class Fetched:
    """What a walk over all pages came to.

    Attributes:
        items: the good ones by key, each once, in the order of their first arrival.
        rejected: (item, reason) of those that `check` refused, or that have no key.
        doubled: items that had come before.
        requests: how many were sent, retries included.
        retries: how often something was tried again, by cause: "429", "500", "timeout", "cut", "200" (no page in it).
    """

    items: dict[Any, Item] = field(default_factory=dict)
    rejected: list[tuple[Item, str]] = field(default_factory=list)
    doubled: int = 0
    requests: int = 0
    retries: Counter[str] = field(default_factory=Counter)


class GaveUp(FlowError):
    """A page did not come, however often it was asked for, or the pages do not end; the message says what came."""


# [START fetch_all]
def fetch_all(
    session: requests.Session,
    path: str,
    key: str,
    params: Mapping[str, Any] | None = None,
    check: Callable[[Item], str | None] = lambda _: None,
    attempts: int = 6,
    seconds: float = 5.0,
    pages: int = 10_000,
) -> Fetched:
    """Read every page of a list.

    Args:
        session: `clients.api()`, or any session that joins paths to an address.
        key: the field that distinguishes two items.
        check: a reason to refuse an item, or None; what it raises is a reason, too.
        attempts: requests for one page at most, however they end.
        seconds: how long one answer may take, body included.
        pages: so many at most.

    Raises:
        GaveUp: one page failed `attempts` times, the service refused the request (4xx) or wants a long wait, or its
            pages have no end: a cursor that is empty or came before, or more than `pages` of them.
    """
    result, seen = Fetched(), set()
    for page, _ in walk(session, path, params, result, attempts, seconds, pages):
        for item in page["items"]:
            number = item.get(key) if isinstance(item, dict) else None
            if not isinstance(number, str | int | float):
                result.rejected.append((item, f"no {key}"))
                continue
            if number in seen:
                result.doubled += 1
                continue
            seen.add(number)
            if reason := _judged(check, item):
                result.rejected.append((item, reason))
            else:
                result.items[number] = item
    return result


def walk(
    session: requests.Session,
    path: str,
    params: Mapping[str, Any] | None = None,
    result: Fetched | None = None,
    attempts: int = 6,
    seconds: float = 5.0,
    pages: int = 10_000,
) -> Iterator[tuple[dict[str, Any], bytes]]:
    """Follow the bookmarks of a list from its first page to its last: each page, parsed, and its bytes as they came.

    Args:
        result: where requests and retries are counted.

    Raises:
        GaveUp: as `fetch_all`.
    """
    result, cursors, cursor = result or Fetched(), set(), None
    for _ in range(pages):
        wanted = {"limit": 100, **(params or {})} | ({} if cursor is None else {"cursor": cursor})
        page, body = _page(session, path, wanted, result, attempts, seconds)
        yield page, body
        cursor = page["next_cursor"]
        if cursor is None:
            return
        if cursor == "" or not isinstance(cursor, str | int):
            raise GaveUp(f"GET {path}: next_cursor is {reprlib.repr(cursor)}: neither a bookmark nor the end (null)")
        if cursor in cursors:
            raise GaveUp(f"GET {path}: next_cursor is {reprlib.repr(cursor)} once more: the walk would never end")
        cursors.add(cursor)
    raise GaveUp(f"GET {path}: no end after {pages:,} pages, the last next_cursor is {reprlib.repr(cursor)}")


def _judged(check: Callable[[Item], str | None], item: Item) -> str | None:
    try:
        return check(item)
    except Exception as error:  # noqa: BLE001 - an item that the check stumbles over is not a good one
        return f"{type(error).__name__}: {error}"


# [END fetch_all]


# [START page]
def _page(
    session: requests.Session, path: str, params: Item, result: Fetched, attempts: int, seconds: float
) -> tuple[dict[str, Any], bytes]:
    """Get one page and its bytes; ask again after 429, 500 to 599, a time-out, a cut connection, or no page."""
    import requests

    cause = ""
    for attempt in range(attempts):
        if attempt:
            result.retries[cause.split()[0]] += 1
        result.requests += 1
        # Twice as long each time, and never the same for two clients: or they would all come back together.
        pause = min(0.1 * 2**attempt, 5) * random.uniform(0.5, 1)
        try:
            with session.get(path, params=params, timeout=seconds, stream=True) as answer:
                body = _body(answer, seconds)
        except requests.Timeout:
            cause = f"timeout of {seconds} s"
        except requests.RequestException as error:
            cause = f"cut connection ({type(error).__name__})"
        else:
            said = " ".join(body.decode("utf-8", "replace").split())[:200]
            if answer.status_code == 200:
                if page := _parsed(body):
                    return page, body
                cause = f"200 without items and next_cursor: {said or 'an empty body'}"
            else:
                cause = f"{answer.status_code} {answer.reason}"
                if answer.status_code != 429 and answer.status_code < 500:
                    raise GaveUp(f"GET {path}: {cause}: {said}")
                pause = max(pause, _asked_to_wait(answer))
                if pause > LONGEST_PAUSE:
                    raise GaveUp(f"GET {path}: {cause}: it asks to wait {pause:.0f} s")
        if attempt < attempts - 1:
            time.sleep(pause)
    raise GaveUp(f"GET {path}: {attempts} attempts, the last one: {cause}")


def _parsed(body: bytes) -> dict[str, Any] | None:
    """Parse the page; None for HTML, half a body, an error with a good status, and whatever else is not a page."""
    try:
        page = json.loads(body)
        return page if isinstance(page["items"], list) and "next_cursor" in page else None
    except Exception:  # noqa: BLE001 - a parser has many ways to refuse: ValueError, TypeError, RecursionError …
        return None


def _asked_to_wait(answer: requests.Response) -> float:
    """Read the seconds that Retry-After asks for, a number or a date; 0 when it says nothing that can be done."""
    from urllib3.exceptions import InvalidHeader
    from urllib3.util import Retry

    try:
        return Retry().parse_retry_after(answer.headers.get("Retry-After", "0"))
    except (InvalidHeader, ValueError, OverflowError):
        return 0.0


def _body(answer: requests.Response, seconds: float) -> bytes:
    """Read the body, if it comes in time: requests' time-out is for each read, and a body that drips passes it."""
    import requests

    end, body = time.monotonic() + seconds, b""
    for part in answer.iter_content(65536):
        body += part
        if time.monotonic() > end:
            raise requests.Timeout
    return body


# [END page]
