"""Whatever a record may hold: it is bad with a short reason, and nothing else is raised."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from flow360.ingestion.dead_letters import BadRecord, decode_json


def record(value: bytes | None, key: bytes | None = b"k") -> SimpleNamespace:
    return SimpleNamespace(key=key, value=value)


@pytest.mark.parametrize(
    ("value", "cause"),
    [
        (b"[" * 4000, "bad json"),
        (b"[" * 900_000, "bad json"),
        (b'{"n": ' + b"9" * 5000 + b"}", "bad json"),
        (b"\xff\xfe{", "bad json"),
        (None, "bad json"),
        (b'{"n": "' + b"x" * 600_000 + b'"}', "wrong schema"),
        (b'{"n": ' + b"[" * 300 + b"]" * 300 + b"}", "wrong schema"),
    ],
)
def test_whatever_a_parser_raises_the_record_is_bad_and_the_reason_short(value: bytes | None, cause: str) -> None:
    with pytest.raises(BadRecord) as error:
        decode_json(record(value), {"n": int})
    assert error.value.cause == cause
    assert len(str(error.value)) < 300
