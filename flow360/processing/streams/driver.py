"""A topology with known records and no broker: Kafka's own TopologyTestDriver, in this process.

    with Driver(topology) as driver:
        driver.send("readings", "VAN-01", {"celsius": 9.0}, at="2026-05-07T08:00:00Z")
        driver.read("warm")

Records pass one after the other, each wholly, so the result is the same every time. What it does not test is what the
broker does: partitions, rebalancing, transactions.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable
from datetime import datetime
from typing import Any

from flow360.errors import FlowError
from flow360.ingestion.topics import iso, millis
from flow360.processing.streams import api, jvm
from flow360.processing.streams.topics import Record, parsed


class StepFailed(FlowError):
    """A function of the topology raised while a record passed: its name and message in one line.

    Attributes:
        cause: the exception itself.
    """

    def __init__(self, topic: str, cause: BaseException) -> None:
        said = f"{type(cause).__name__}: {cause}"
        if "Return value is not compatible" in said:  # JPype's words
            said = "a function gave a step what it does not take: a filter takes True or False, a map a KeyValue"
        super().__init__(f"{said} (raised in the topology by a record of {topic!r})")
        self.cause = cause


class Driver:
    """Runs a topology in this process. Use it as `with Driver(topology) as driver`.

    Args:
        topology: a function that takes a StreamsBuilder.
    """

    def __init__(self, topology: Callable[[Any], None]) -> None:
        from java.util import Properties
        from org.apache.kafka.common.serialization import ByteArraySerializer, StringDeserializer, StringSerializer
        from org.apache.kafka.streams import TopologyTestDriver

        jvm.start()  # running already, unless this process was forked: then the reason is reported
        self._folder = tempfile.mkdtemp(prefix="flow360-streams-")
        self._keys, self._bytes, self._texts = StringSerializer(), ByteArraySerializer(), StringDeserializer()
        config = Properties()
        for name, value in {
            "application.id": "driver",
            "bootstrap.servers": "none:1",
            "state.dir": self._folder,
            # The driver commits after every record. In memory that costs nothing, on the disk 5 ms.
            "dsl.store.suppliers.class": (
                "org.apache.kafka.streams.state.BuiltInDslStoreSuppliers$InMemoryDslStoreSuppliers"
            ),
            "statestore.cache.max.bytes": "0",
        }.items():
            config.put(name, value)
        self.topology = api.build(topology)
        if not sources(self.topology):
            raise FlowError("the topology reads no topic: builder.stream(…) or builder.table(…) is its first step")
        self._driver = TopologyTestDriver(self.topology, config)
        self._now = 0
        self._inputs: dict[str, Any] = {}
        self._outputs: dict[str, Any] = {}

    def __enter__(self) -> Driver:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def send(self, topic: str, key: str | None, value: Any, at: str | datetime | int | None = None) -> None:
        """Pass one record through the topology.

        Args:
            value: dict, list or number (written as JSON), str or bytes (as they are), None (a tombstone).
            at: its timestamp: ISO text, a datetime, or milliseconds since 1970; by default that of the record before.

        Raises:
            FlowError: the topology does not read this topic.
            StepFailed: a function of the topology raised.
        """
        import jpype

        if topic not in self._inputs:
            if topic not in sources(self.topology):
                reads = ", ".join(sources(self.topology)) or "none"
                raise FlowError(f"the topology does not read the topic {topic!r}; it reads: {reads}")
            self._inputs[topic] = self._driver.createInputTopic(topic, self._keys, self._bytes)
        if value is not None and not isinstance(value, bytes):
            value = (value if isinstance(value, str) else json.dumps(value)).encode()
        data = None if value is None else jpype.JArray(jpype.JByte)(value)
        self._now = self._now if at is None else millis(at)
        try:
            self._inputs[topic].pipeInput(key, data, api.Instant.ofEpochMilli(self._now))
        except jpype.JException as error:
            raise StepFailed(topic, jvm.python_error(error)) from None

    def read(self, topic: str) -> list[Record]:
        """Read the records that came out on a topic since the last call."""
        if topic not in self._outputs:
            if topic not in sinks(self.topology):
                writes = ", ".join(sinks(self.topology)) or "none"
                raise FlowError(f"the topology does not write the topic {topic!r}; it writes: {writes}")
            self._outputs[topic] = self._driver.createOutputTopic(topic, self._texts, self._texts)
        found = self._outputs[topic].readRecordsToList()
        return [Record(r.key(), parsed(r.value()), iso(r.timestamp())) for r in found]

    def values(self, topic: str) -> list[Any]:
        """Read only the values, as `read` does the records."""
        return [record.value for record in self.read(topic)]

    def advance(self, seconds: float) -> None:
        """Move the driver's wall clock on; what a topology does by the clock happens then."""
        self._driver.advanceWallClockTime(api.Duration.ofMillis(int(seconds * 1000)))

    def store(self, name: str) -> dict[str, Any]:
        """Read what a key-value store holds now."""
        store = self._driver.getKeyValueStore(name)
        if store is None:
            raise FlowError(f"the topology has no key-value store {name!r}")
        rows = store.all()
        try:
            return {entry.key: entry.value for entry in rows}
        finally:
            rows.close()

    def dropped(self) -> int:
        """Count the records that came too late for their window, or had no key where one is needed."""
        counted = [v for k, v in dict(self._driver.metrics()).items() if str(k.name()) == "dropped-records-total"]
        return int(sum(float(metric.metricValue()) for metric in counted))

    def close(self) -> None:
        """End it and remove its state."""
        self._driver.close()
        shutil.rmtree(self._folder, ignore_errors=True)


def _nodes(topology: Any, kind: str) -> list[Any]:
    import jpype

    wanted = jpype.JClass(f"org.apache.kafka.streams.TopologyDescription${kind}")
    parts = [part for subtopology in topology.describe().subtopologies() for part in subtopology.nodes()]
    return [node for node in parts if isinstance(node, wanted)]


def _own(topic: str) -> bool:
    """Say whether a person named it; the topics between two parts of a topology are Kafka Streams' own."""
    return not topic.endswith(("-repartition", "-changelog"))


def sources(topology: Any) -> list[str]:
    """List the topics that a Java Topology reads, those of global tables included."""
    named = [topic for node in _nodes(topology, "Source") for topic in node.topicSet() or ()]
    named += [topic for store in topology.describe().globalStores() for topic in store.source().topicSet() or ()]
    return sorted({str(topic) for topic in named if _own(str(topic))})


def sinks(topology: Any) -> list[str]:
    """List the topics that a Java Topology writes."""
    return sorted({str(node.topic()) for node in _nodes(topology, "Sink") if _own(str(node.topic()))})


def stores(topology: Any) -> list[str]:
    """List the names of its state stores."""
    return sorted({str(name) for node in _nodes(topology, "Processor") for name in node.stores()})
