"""A way is a row of hops. Each hop asks one layer where the thing is; the layer answers, or is down, within seconds.

    @WAY.hop("mart", after="landing", service="postgres-dwh", by="nightly_dbt")
    def mart(order: Thing) -> list[Place]: ...

An empty list says that the layer does not have it. A hop may `learn` what later ones need, such as the order's day.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from flow360.errors import FlowError, ServiceError
from flow360.trace import programs
from flow360.waiting import patient

SECONDS = 2.0
"""How long a layer may take for its answer, on an idle machine; the libraries' connections take the same limit."""
THERE, MISSING, NONE, DOWN = "there", "missing", "none", "down"
"""What a hop can say: it is there; it should be and is not; it need not be, and is not; the layer does not answer."""


@dataclass
class Thing:
    """What is followed: its kind, its key, and what the hops so far have learnt of it."""

    kind: str
    key: Any
    known: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.key} on {self.known['day']}" if self.kind == "van" else f"{self.kind} {self.key}"

    def learn(self, **facts: Any) -> None:
        """Keep facts for the hops that follow; what was known first stays."""
        self.known = facts | self.known


@dataclass(frozen=True)
class Place:
    """Where a layer has the thing.

    Attributes:
        where: as one would look it up there: table and key, partition and offset, path and line.
        what: what stands there.
        at: when it came there by the layer's own clock; None where the layer keeps no such time.
    """

    where: str
    what: str = ""
    at: datetime | None = None


class NotThere(Exception):
    """The layer does not have the thing, and knows why."""


class Failed(ServiceError):
    """The question failed, and not the layer: the next hop may have more luck with it."""


@dataclass(frozen=True)
class Hop:
    """One station of a way.

    Attributes:
        name: of the hop. after: the name of the one that it comes from, "" for the first.
        service: who is asked; "" where it is a folder.
        by: the service or the DAG that brings things there; "" where a thing need not be.
        ask: where the thing is there.
    """

    name: str
    after: str
    service: str
    by: str
    ask: Callable[[Thing], list[Place]]


@dataclass(frozen=True)
class Step:
    """What a hop said: one of the four states, the places, and in a line why there are none.

    Attributes:
        program: of a hop that is missing, whether the program that would bring it runs.
        seconds: since the hop before, negative where that was written again since; None where one has no time.
    """

    hop: Hop
    state: str
    places: tuple[Place, ...] = ()
    said: str = ""
    program: str = ""
    seconds: float | None = None

    @property
    def at(self) -> datetime | None:
        """When the thing came there first."""
        return min((place.at for place in self.places if place.at), default=None)


@dataclass(frozen=True)
class Trace:
    """A thing's way as it is now, hop by hop."""

    thing: Thing
    steps: tuple[Step, ...]

    def __getitem__(self, name: str) -> Step:
        return next(step for step in self.steps if step.hop.name == name)


class Way:
    """The hops of one kind of thing, in the order in which they are registered."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.hops: list[Hop] = []

    def hop(self, name: str, *, after: str, service: str, by: str) -> Callable[[Any], Any]:
        """Register a function as the next hop; see `Hop`."""
        known = [hop.name for hop in self.hops]
        if name in known or (after and after not in known):
            raise ValueError(f"hop {name}: it is there already, or comes before {after}")

        def register(ask: Callable[[Thing], list[Place]]) -> Callable[[Thing], list[Place]]:
            self.hops.append(Hop(name, after, service, by, ask))
            return ask

        return register

    def follow(self, thing: Thing, state: Callable[[str], str] | None = None) -> Trace:
        """Ask every hop; a service that has kept one of them waiting is not asked again.

        Args:
            state: says of a program whether it runs.

        Raises:
            FlowError: neither the source nor any layer that answers has the thing.
            ServiceError: no layer that answers has it, and the source does not.
        """
        steps: dict[str, Step] = {}
        state, silent = state or programs.Programs().state, {}
        for hop in self.hops:
            steps[hop.name] = _step(hop, thing, steps, silent, state)
        if not any(step.places for step in steps.values()):
            down = ", ".join(sorted({step.hop.service for step in steps.values() if step.state == DOWN}))
            source = self.hops[0]
            if steps[source.name].state == DOWN:
                raise ServiceError(f"{thing}: no layer that answers has it, and these do not answer: {down}")
            raise FlowError(f"{thing}: {source.service} does not have it, nor has any layer that answers")
        return Trace(thing, tuple(steps.values()))


def _step(
    hop: Hop, thing: Thing, before: Mapping[str, Step], silent: dict[str, str], state: Callable[[str], str]
) -> Step:
    last = before.get(hop.after)
    if hop.service in silent:
        return Step(hop, DOWN, said=silent[hop.service])
    try:
        places = within(SECONDS, hop, thing)
    except NotThere as error:
        places, why = [], f"{error}: "
    except ServiceError as error:
        if hop.service and not isinstance(error, Failed):
            silent[hop.service] = error.message
        return Step(hop, DOWN, said=error.message)
    else:
        why = ""
    if places:
        step = Step(hop, THERE, tuple(places))
        known = last and last.at and step.at
        return Step(hop, THERE, step.places, seconds=(step.at - last.at).total_seconds() if known else None)
    if not hop.by or (last and last.state == NONE):
        return Step(hop, NONE, said=f"{why}nothing of it")
    return Step(hop, MISSING, said=f"{why}{hop.by} would bring it", program=state(hop.by))


def within(seconds: float, hop: Hop, thing: Thing) -> list[Place]:
    """Ask a hop in a thread of its own, which is left alone when the time is up: some libraries wait for ever.

    Raises:
        ServiceError: it did not answer in time, or failed (Failed); one line.
        NotThere: it does not have the thing.
    """
    answers: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def work() -> None:
        try:
            answers.put(hop.ask(thing))
        except Exception as error:  # noqa: BLE001 - however a layer fails, it costs its own line
            answers.put(error)

    threading.Thread(target=work, name=f"trace-{hop.name}", daemon=True).start()
    try:
        said = answers.get(timeout=patient(seconds))
    except queue.Empty:
        who = hop.service or hop.name
        raise ServiceError(f"{who} gave no answer within {patient(seconds):g} s: see `flow360 status`") from None
    if isinstance(said, NotThere | ServiceError):
        raise said
    if isinstance(said, Exception):
        line = (str(said).strip() or type(said).__name__).splitlines()[0][:200]
        raise Failed(f"{hop.service or hop.name}: {line}") from None
    return said
