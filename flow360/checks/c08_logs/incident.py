"""Exercise 3: the exact line."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from flow360 import clients
from flow360.checks import liberal
from flow360.checks.c08_logs.setting import SECONDS, a_name, an_index, refusals
from flow360.checks.draw import a_word, draw
from flow360.checks.verdict import NotYet, exercise, expect, expect_type, limited


@exercise
def exact_line(body: Any) -> None:
    """Check that the search of `body(begin, end)` finds all planted timeouts of market-api, newest first, no more."""
    ask = limited(liberal.function("body", body), SECONDS, "body")
    chance = draw()
    begin = datetime(2026, chance.randint(1, 12), chance.randint(1, 28), chance.randrange(24), tzinfo=UTC)
    end = begin + timedelta(minutes=chance.randint(20, 90))
    documents, why, right = _timeouts(chance, begin, end)
    with an_index(a_name(chance), documents) as name, refusals("body", "the search engine refuses it"):
        found = clients.search().post(f"/{name}/_search", json=as_body("body", ask(begin, end))).json()
        hits = found["hits"]["hits"]
    mine = [hit["_id"] for hit in hits]
    if more := [key for key in mine if key not in right]:
        raise NotYet(f"body: it finds {why[more[0]]}")
    if lost := [key for key in right if key not in mine]:
        raise NotYet(f"body: it does not find {why[lost[0]]}; found {len(mine)} of {len(right)}")
    moments = [documents[key]["@timestamp"] for key in mine]  # all in UTC: the texts are in the order of the moments
    expect(moments == sorted(moments, reverse=True), "body: the lines are all there; expected the newest first")


def as_body(name: str, body: Any) -> Any:
    expect_type(name, body, Mapping)
    try:
        json.dumps(body)
    except TypeError as error:
        raise NotYet(f"{name}: it cannot be sent as JSON: {error}: is a moment written as a text?") from None
    return body


def _timeouts(
    chance: random.Random, begin: datetime, end: datetime
) -> tuple[dict[str, dict[str, Any]], dict[str, str], list[str]]:
    """Draw documents of the logs by id, what each of them is, and the ids of those that are asked for."""
    documents: dict[str, dict[str, Any]] = {}
    what: dict[str, str] = {}
    right: list[str] = []
    span = (end - begin).total_seconds()

    def plant(wanted: bool, why: str, at: datetime | None = None, **more: Any) -> None:
        at = at or begin + timedelta(milliseconds=chance.randrange(1, int(span * 1000)))
        key = a_word(chance)
        about = {"service": {"name": "market-api"}, "log": {"level": "ERROR"}, "message": "the shop does not answer"}
        kind = more.pop("error_type", "psycopg.errors.ConnectionTimeout")
        about["error"] = {"type": kind, "stack_trace": f"Traceback …\n{kind}: connection timeout expired"}
        documents[key] = {**about, "@timestamp": at.isoformat(timespec="milliseconds"), **more}
        what[key] = why
        if wanted:
            right.append(key)

    step = timedelta(milliseconds=1)
    for _ in range(chance.randint(13, 30)):
        plant(True, "one of the timeouts of psycopg")
        plant(
            True, "a ConnectionTimeout of another module", error_type=f"{chance.choice('abc')}.pool.ConnectionTimeout"
        )
    plant(True, "a ConnectionTimeout without a module before it", error_type="ConnectionTimeout")
    plant(True, "one whose message says something else", message="GET /orders failed")
    plant(True, "the one at the first moment, which belongs to it", begin)
    plant(True, "the one of the last millisecond before the end", end - step)
    plant(False, "the one at the end itself, which is not in it any more", end)
    plant(False, "the one of the millisecond before the beginning", begin - step)
    plant(False, "one of the day after", begin + timedelta(days=1))
    for service in ("market-day", "airflow-task", "market-api-2"):
        plant(False, f"a timeout of {service}", service={"name": service})
    plant(False, "another error of market-api", error_type="psycopg.errors.ConnectionDoesNotExist")
    plant(False, "another error of market-api, NoConnectionTimeout", error_type="shop.NoConnectionTimeout")
    plant(False, "another error of market-api, ConnectionTimeoutWarning", error_type="ConnectionTimeoutWarning")
    talk = {"stack_trace": "Traceback …\nKeyError: 'ConnectionTimeout'", "type": "KeyError"}
    plant(False, "an error that only mentions it", error=talk)
    plant(
        False,
        "a line that only speaks of it",
        log={"level": "INFO"},
        message="ConnectionTimeout is set to 10 s",
        error={},
    )
    items = list(documents.items())
    chance.shuffle(items)
    return dict(items), what, right
