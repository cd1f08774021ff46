"""Pages with an opaque cursor, and entity tags.

A cursor is a position within one list, with a mark of the list and its filter, so that a cursor of another list is
refused and not misread. Clients are not meant to look inside: that is what opaque means.
"""

from __future__ import annotations

import base64
import hashlib
import json

from flow360.primeur.records import Record


class BadCursor(ValueError):
    """The cursor is not one of this list."""


def _mark(scope: str, position: int) -> str:
    return hashlib.sha256(f"{scope}|{position}".encode()).hexdigest()[:8]


def encode(scope: str, position: int) -> str:
    """Make the cursor for a position in the list that `scope` names."""
    return base64.urlsafe_b64encode(f"{position}.{_mark(scope, position)}".encode()).decode().rstrip("=")


def decode(scope: str, cursor: str | None) -> int:
    """Read the position that a cursor stands for; 0 without one.

    Raises:
        BadCursor: made up, cut, or from another list.
    """
    if cursor is None:
        return 0
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode("ascii")
        position, _, mark = text.partition(".")
        if mark == _mark(scope, int(position)):
            return int(position)
    except ValueError:
        pass
    raise BadCursor(f"this cursor does not belong to {scope}")


def page(scope: str, items: list[Record], cursor: str | None, limit: int) -> Record:
    """Cut one page: {"items": [...], "next_cursor": "…" or None on the last one}."""
    first = decode(scope, cursor)
    after = first + limit
    return {"items": items[first:after], "next_cursor": encode(scope, after) if after < len(items) else None}


def body(payload: Record) -> bytes:
    """Write an answer as bytes: JSON, UTF-8."""
    return json.dumps(payload, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def etag(data: bytes) -> str:
    """Compute the entity tag of these bytes."""
    return f'"{hashlib.sha256(data).hexdigest()[:20]}"'


def matches(header: str | None, tag: str) -> bool:
    """Say whether an If-None-Match header names the tag."""
    if not header:
        return False
    named = {part.strip().removeprefix("W/") for part in header.split(",")}
    return "*" in named or tag in named
