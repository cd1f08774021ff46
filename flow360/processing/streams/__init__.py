"""Kafka Streams from Python: the real library, in a JVM inside the Python process (JPype).

    jvm.py      starts that JVM, once a process
    api.py      Kafka Streams' own names, and what Python adds: JSON values as dicts
    driver.py   a topology with known records, without a broker (TopologyTestDriver)
    app.py      a topology as a program: topics, exactly once, state; `python -m flow360.processing.streams` runs it
    queries.py  its HTTP endpoint: is it well, and what does its state say now
    live.py     such a program as a process of its own that a notebook starts, kills and asks
    cold_chain.py  Primeur's alarm, the topology behind the service `kafka-streams`
    readings.py    the vans' readings and tours of a day, as records
    topics.py      records into a topic and out of it

A **topology** here is a Python function that takes a `StreamsBuilder` and adds to it. Nothing is imported until it is
needed: importing `flow360.processing.streams` starts no JVM.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flow360.processing.streams.live import Live, reset, run

__all__ = ["Live", "reset", "run"]


def __getattr__(name: str) -> object:
    if name in __all__:
        from flow360.processing.streams import live

        return getattr(live, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
