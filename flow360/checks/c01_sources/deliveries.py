"""Exercise 1: a client of the REST service that reads every page, patiently."""

from __future__ import annotations

import uuid
from collections import Counter
from typing import Any

from flow360 import clients
from flow360.checks import liberal
from flow360.checks.compare import Row, expect_rows
from flow360.checks.draw import draw
from flow360.checks.verdict import NotYet, exercise, expect, expect_type, limited
from flow360.clients.query import sql
from flow360.waiting import patient

CALM = {"errors": 0, "slow": 0, "trickle": 0, "rate": 10_000, "burst": 10_000}
NARROW = {**CALM, "rate": 1.5, "burst": 3, "patience": 2}
"""No fault, but every fourth request at once is one too many.

Retry-After is 2: a client that waits a second at each 429, whatever it says, does not read it.
"""
ROUGH = {**CALM, "errors": 0.5, "slow": 0.5}
"""Each first and second attempt is a 500 or late; the service answers the third one well."""
PATIENCE, DELAY = 0.5, 1.0
"""Seconds that the session waits for an answer, and that a slow one takes, on an idle machine."""
EMPTY, FULL = "2026-05-02", "2026-05-07"
"""A day before the company delivered anything, and one of four pages at least."""
DAYS = ("2026-05-05", "2026-05-06", "2026-05-08", "2026-05-09", "2026-05-10")
DELIVERIES = """
    select delivery_id from deliveries where (delivered_at at time zone 'Europe/Paris')::date = %s order by delivery_id
"""


@exercise
def paged_client(fetch_deliveries: Any) -> None:
    """Check that it gets all deliveries of a day, each once, through 429, 500 and slow answers, without hammering."""
    fetch = limited(liberal.function("fetch_deliveries", fetch_deliveries), 60, "fetch_deliveries")
    chance = draw()
    day = chance.choice(DAYS)
    with clients.api() as switch:

        def behave(manners: dict[str, float]) -> None:
            switch.post("/chaos", json=manners).raise_for_status()

        try:
            behave(CALM)
            sent = {day: _as_sent(day) for day in (EMPTY, day, FULL)}
            for calm in (EMPTY, day):
                _expect_deliveries(fetch, calm, sent[calm])
            behave(NARROW)
            _expect_deliveries(fetch, FULL, sent[FULL])
            behave({**ROUGH, "delay": patient(DELAY), "seed": chance.randrange(10**6)})
            _expect_deliveries(fetch, FULL, sent[FULL])
        finally:
            behave({})


def _as_sent(day: str) -> dict[int, Row]:
    """Read the day's deliveries as the service sends them, by number, while it behaves."""
    found, cursor = {}, None
    with clients.api() as session:
        while True:
            answer = session.get("/deliveries", params={"day": day, "limit": 100, "cursor": cursor})
            answer.raise_for_status()
            found |= {item["delivery_id"]: item for item in answer.json()["items"]}
            cursor = answer.json()["next_cursor"]
            if cursor is None:
                return found


def _expect_deliveries(fetch: Any, day: str, sent: dict[int, Row]) -> None:
    called = f'fetch_deliveries(session, "{day}")'
    with clients.api(seconds=patient(PATIENCE)) as session:
        session.headers["X-Client-Id"] = f"check-{uuid.uuid4().hex[:12]}"
        found = fetch(session, day)
        expect_type(called, found, (list, tuple))
        try:
            numbers = [item["delivery_id"] for item in found]
        except (TypeError, KeyError):
            raise NotYet(f"{called}: expected a list of deliveries, each a dict with its delivery_id") from None
        truth = sql(DELIVERIES, [day], db="source")["delivery_id"].tolist()
        twice = len(numbers) - len(set(numbers))
        lost = len(set(truth) - set(numbers))
        other = len(set(numbers) - set(truth))
        expect(not lost, f"{called}: expected {len(truth)} deliveries, {lost} are missing: did you turn every page?")
        expect(not other, f"{called}: {other} deliveries of another day are in it")
        expect(not twice, f"{called}: {twice} deliveries are in it twice: the service sent them twice, drop the copies")
        expect_rows(
            called,
            found=[{"delivery_id": item["delivery_id"], "item": dict(item)} for item in found],
            expected=[{"delivery_id": number, "item": sent[number]} for number in truth],
            key=("delivery_id",),
            what="deliveries",
            why="each is wanted with all its fields, as the service sent it",
        )
        # No request counts against a client here but its own: what the service answered it, it asked for.
        usage = clients.api().get("/usage", headers=session.headers).json()
        answers = Counter({int(k): n for k, n in usage["answers"].items()})
        others = answers.total() - answers[429]
        expect(
            answers[429] <= others,
            f"{called}: the service had to say 429 {answers[429]} times in {answers.total()} answers: "
            "wait as long as Retry-After says before you ask again",
        )
        expect(
            not usage["early"],
            f"{called}: {usage['early']} requests came too soon after a 429: wait as long as Retry-After says, "
            "whatever your own pause would be",
        )
