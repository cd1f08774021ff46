"""Kafka Streams' own names, to be used from Python; importing this module starts the JVM.

    def topology(builder):
        readings = builder.stream("readings", Consumed.with_(TEXT, JSON))
        readings.filter(lambda van, r: r["celsius"] > 8.0).to("warm", Produced.with_(TEXT, JSON))

Everything here is Java's and does what Kafka's documentation says, but for two things. A name that is a Python keyword
gets an underscore (`with_`, `as_`, `not_`). And `JSON` is a serde of ours: JSON text in the topic, plain dict, list,
number or str in your functions; no record value (a tombstone) is None.

A function of yours is called with as many arguments as it names, and that number decides which Java method is meant:
`lambda value:` or `lambda key, value:`. A condition must return a real bool.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import jpype

from flow360.processing.streams import jvm

jvm.start()

from java.time import Duration, Instant  # noqa: E402
from java.util import ArrayList  # noqa: E402
from org.apache.kafka.common.serialization import Deserializer, Serdes, Serializer  # noqa: E402
from org.apache.kafka.streams import KeyValue, StreamsBuilder, Topology  # noqa: E402
from org.apache.kafka.streams.kstream import (  # noqa: E402
    Branched,
    Consumed,
    GlobalKTable,
    Grouped,
    Joined,
    JoinWindows,
    Materialized,
    Named,
    Produced,
    Repartitioned,
    SessionWindows,
    SlidingWindows,
    StreamJoined,
    Suppressed,
    TimeWindows,
)
from org.apache.kafka.streams.state import Stores  # noqa: E402

__all__ = [
    "JSON", "TEXT", "Branched", "Consumed", "Duration", "GlobalKTable", "Grouped", "Instant", "JoinWindows", "Joined",
    "KeyValue", "Materialized", "Named", "Produced", "Repartitioned", "Serdes", "SessionWindows", "SlidingWindows",
    "Stores", "StreamJoined", "StreamsBuilder", "Suppressed", "TimeWindows", "Topology", "build",
]  # fmt: skip

_OBJECT = jpype.JClass("java.io.Serializable")  # an interface without methods: the cheapest wrapping
_COMPACT = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, allow_nan=False)
_ITERABLE = jpype.JClass("java.lang.Iterable")


class _Rows(list):
    """A list that Java can walk through: what a function for `flatMapValues` returns."""

    def iterator(self) -> Any:
        rows = ArrayList()
        for row in self:
            rows.add(row)
        return rows.iterator()


# What a lambda returns becomes a Java object: dicts and lists may do so, too. Java carries them from step to step, and
# on the way back to Python they are the same objects again.
@jpype.JConversion("java.lang.Object", instanceof=dict)
def _held(_java_class: Any, value: dict) -> Any:
    return jpype.JProxy(_OBJECT, inst=value, convert=True)


@jpype.JConversion("java.lang.Object", instanceof=list)
def _held_list(_java_class: Any, value: list) -> Any:
    return jpype.JProxy(_ITERABLE, inst=_Rows(value), convert=True)


@jpype.JImplements(Serializer)
class _ToJson:
    @jpype.JOverride
    def configure(self, *_: Any) -> None:
        """Do nothing: there is nothing to set."""

    @jpype.JOverride
    def serialize(self, _topic: str, *rest: Any) -> Any:
        value = rest[-1]  # (value) or (headers, value)
        if value is None:
            return None
        text = _COMPACT.encode(value)
        # Half of a surrogate pair, which JSON may hold and UTF-8 may not, becomes the escape that JSON has for it.
        return jpype.JArray(jpype.JByte)(text.encode("utf-8", "backslashreplace"))

    @jpype.JOverride
    def close(self) -> None:
        """Do nothing: there is nothing to close."""


@jpype.JImplements(Deserializer)
class _FromJson:
    @jpype.JOverride
    def configure(self, *_: Any) -> None:
        """Do nothing: there is nothing to set."""

    @jpype.JOverride
    def deserialize(self, _topic: str, *rest: Any) -> Any:
        data = rest[-1]
        return None if data is None else json.loads(bytes(data))

    @jpype.JOverride
    def close(self) -> None:
        """Do nothing: there is nothing to close."""


JSON = Serdes.serdeFrom(_ToJson(), _FromJson())
"""JSON text in the topic, Python objects in your functions."""
TEXT = Serdes.String()
"""UTF-8 text: the keys, and values that are not parsed yet."""


def build(topology: Callable[[Any], None]) -> Any:
    """Let the function add its steps to a new builder; the finished Java `Topology`."""
    builder = StreamsBuilder()
    topology(builder)
    return builder.build()
