"""A topology of the learner's with records that it has not seen: what comes out, and behind which record."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jpype

from flow360.checks import liberal
from flow360.checks.verdict import NotYet, Verdict, expect_type, explain, limited
from flow360.errors import FlowError
from flow360.processing.streams import topics

Topology = Callable[[Any], None]
_UNFIT = re.compile(r"No matching overloads found for \S*\b(\w+)\(")  # JPype's words
ANSWERED = 2.0
"""Seconds that the clock on the wall moves on before each record: a topology may answer at most once a second."""


@dataclass(frozen=True)
class Sent:
    """A record for a topology; `at` in milliseconds since 1970."""

    topic: str
    key: str
    value: Any
    at: int


def drive(name: str, topology: Topology, given: Sequence[Sent], out: str) -> list[list[topics.Record]]:
    """Send records through the learner's topology; what came out on a topic behind each of them.

    Raises:
        NotYet: the topology cannot be built, does not know one of the topics, or raised while a record passed.
    """
    build = liberal.function(name, topology)
    from flow360.processing.streams.driver import Driver

    def run() -> list[list[topics.Record]]:
        found = []
        with Driver(build) as driver:
            for sent in given:
                driver.advance(ANSWERED)
                driver.send(sent.topic, sent.key, sent.value, at=sent.at)
                found.append(driver.read(out))
        return found

    try:
        return limited(run, 60, name)()
    except Verdict:
        raise
    except FlowError as error:  # what a function of the topology raised, or a topic that it does not know
        raise NotYet(f"{name}: {error}") from error
    except jpype.JException as error:
        said = str(error).rpartition("Exception: ")[2].partition("\n")[0]
        why = "does each step that reads, writes or stores say how (Consumed, Produced, Materialized)?"
        raise NotYet(f"{name}: Kafka Streams refuses it: {said}: {why}") from error
    except Exception as error:  # no service takes part: whatever it is, it is the topology's
        if step := _UNFIT.search(str(error)):
            raise NotYet(
                f"{name}: {step[1]}() does not take what it is given: does its function get the value alone, or key "
                "and value? What else does it want?"
            ) from error
        raise NotYet(explain(error, {name: topology})) from error


def fields_of(name: str, record: topics.Record, *fields: str) -> dict[str, Any]:
    """Read the value of a record: a dict with exactly these fields.

    Raises:
        NotYet: it is something else.
    """
    expect_type(f"{name}: a value", record.value, dict)
    if set(record.value) != set(fields):
        raise NotYet(f"{name}: expected values with the fields {sorted(fields)}, found {sorted(record.value)}")
    return record.value


def some_vans(chance: random.Random, count: int) -> list[str]:
    """Draw names of vans that Primeur does not have (yet)."""
    return [f"VAN-{number}" for number in chance.sample(range(20, 100), count)]
