"""Primeur's cold-chain alarm: a van above 8 °C for five minutes gives one alarm. The service `kafka-streams` runs it.

    vans.readings   key: van; JSON as the thermometers send it (data/README.md), timestamp: when it was measured
    vans.routes     key: van; JSON of the tour that it is on
    vans.alarms     key: van; one record for each time that a van loses its cold chain
    vans.refused    key: van; what could not be used of the two, with the cause

State store `vans`: the last reading of each van, and since when it is too warm; the same of other runs of the van.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from flow360.primeur.contract import contract
from flow360.primeur.intake import document

LIMIT = 8.0
"""°C."""
PATIENCE = 300
"""Seconds above the limit."""
POSSIBLE = (-10.0, 30.0)
"""What a cold room can have, °C: even one that is broken does not get warmer than the day outside."""
LONGEST = 100_000
"""Characters of a refused text that are kept: as JSON it can become six times as long, and a message has a limit."""
SILENCE = 1800
"""Seconds after which nobody knows whether a van that was too warm has been so all the time."""
OTHERS = 3
"""Other runs of a van whose history is kept while one of them reports: replays may come at the same time."""
NEW = {"run": None, "at": "", "celsius": None, "since": None, "alarmed": False, "alarm": False}


# [START parse]
def parse(text: str | None) -> dict[str, Any]:
    """Parse a reading, in °C, or {"cause": …, "text": …} when it does not keep its contract, or is not possible."""
    record = document(contract("readings"), (text or "").encode("utf-8", "surrogatepass"))
    if record.right is None:
        return refusal(record.defect, text)
    reading = record.right
    value = float(reading["value"])
    celsius = value if reading["unit"] == "C" else (value - 32) / 1.8
    if not POSSIBLE[0] <= celsius <= POSSIBLE[1]:
        return refusal("not possible", text)
    at = reading["measured_at"].astimezone(UTC)
    return {"run": reading.get("run"), "at": at.isoformat(), "celsius": round(celsius, 2)}


# [END parse]


def tour(text: str | None) -> dict[str, Any] | None:
    """Parse a van's tour; None when it has none any more, or the refusal."""
    try:
        if text is None:
            return None
        found = json.loads(text)
        return {"route_id": int(found["route_id"]), "city": name(found["city"])}
    except Exception as error:  # noqa: BLE001 - half a record, brackets without end: any of it
        return refusal(f"malformed ({type(error).__name__})", text)


def name(value: Any) -> str | None:
    """Take a short text, or None; anything else is refused, since it would travel on into every state and alarm."""
    if value is not None and not (isinstance(value, str) and len(value) <= 100):
        raise ValueError("not a name")
    return value


def refusal(cause: str, text: str | None) -> dict[str, Any]:
    """Make what goes to the refused: the text as it came; a longer one is cut, and its checksum identifies it."""
    if len(text or "") <= LONGEST:
        return {"cause": cause, "text": text}
    sha = hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()
    return {"cause": cause, "text": text[:LONGEST], "length": len(text), "sha256": sha}


def refused(_van: str | None, value: dict[str, Any] | None) -> bool:
    """Say whether a parser has refused it."""
    return value is not None and "cause" in value


# [START watch]
def watch(van: str, reading: dict[str, Any], state: dict[str, Any]) -> dict[str, Any]:
    """Compute the van's next state. `alarm` is true in the one update that has to raise it."""
    if reading["at"] <= state["at"]:
        return {**state, "alarm": False}  # doubled, or late: it says nothing about now
    if reading["celsius"] <= LIMIT:
        return {**NEW, **reading}
    known = state["since"] if state["since"] and _seconds(state["at"], reading["at"]) <= SILENCE else None
    since = known or reading["at"]
    due = _seconds(since, reading["at"]) >= PATIENCE
    return {**reading, "since": since, "alarmed": due, "alarm": due and not (known and state["alarmed"])}


# [END watch]


def _seconds(first: str, last: str) -> float:
    return (datetime.fromisoformat(last) - datetime.fromisoformat(first)).total_seconds()


def by_run(van: str, reading: dict[str, Any], state: dict[str, Any]) -> dict[str, Any]:
    """Compute as `watch`, but each run has a history of its own: another replay of a day is another day."""
    histories = {**state.get("others", {}), state["run"] or "": {name: state[name] for name in NEW}}
    mine = histories.pop(reading["run"] or "", NEW)
    others = {run: one for run, one in histories.items() if one["at"]}
    found = watch(van, reading, mine)
    return {**found, "others": dict(list(others.items())[-OTHERS:])} if others else found


# [START topology]
def on(prefix: str) -> Callable[[Any], None]:
    """Make the topology over the topics PREFIX.readings, .routes, .alarms and .refused."""

    def topology(builder: Any) -> None:
        from flow360.processing.streams.api import JSON, TEXT, Consumed, Grouped, Joined, Materialized, Produced

        tours = builder.stream(f"{prefix}.routes", Consumed.with_(TEXT, TEXT)).mapValues(tour)
        parsed = builder.stream(f"{prefix}.readings", Consumed.with_(TEXT, TEXT)).mapValues(parse)
        for source in (tours, parsed):
            source.filter(refused).to(f"{prefix}.refused", Produced.with_(TEXT, JSON))
        routes = tours.filterNot(refused).toTable(Materialized.with_(TEXT, JSON))
        (
            parsed.filterNot(refused)
            .groupByKey(Grouped.with_(TEXT, JSON))
            .aggregate(lambda: NEW, by_run, Materialized.as_("vans").withKeySerde(TEXT).withValueSerde(JSON))
            .toStream()
            .filter(lambda van, state: state["alarm"])
            .leftJoin(routes, alarm, Joined.with_(TEXT, JSON, JSON))
            .to(f"{prefix}.alarms", Produced.with_(TEXT, JSON))
        )

    return topology


# [END topology]


def alarm(state: dict[str, Any], route: dict[str, Any] | None) -> dict[str, Any]:
    """Write what the dispatcher reads; a van without a known tour gets its alarm all the same."""
    about = {key: (route or {}).get(key) for key in ("route_id", "city")}
    return {
        "run": state["run"],
        "since": state["since"],
        "reported_at": state["at"],
        "celsius": state["celsius"],
        **about,
    }


topology = on("vans")
