"""A topology as a program: its topics, exactly-once processing, its state, and what it says of itself."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jpype

from flow360.ingestion.topics import make_topics
from flow360.monitoring import lineage
from flow360.processing.streams import api, driver, jvm

LOG = logging.getLogger("kafka-streams")
# A window's changelog, too, must keep what lies in the past (see FOREVER in flow360/ingestion/topics.py).
TEN_YEARS_MS = str(10 * 365 * 86_400_000)
CONSUMED, PRODUCED = "records-consumed-total", "records-produced-total"
LOOK = 2.0
"""Seconds between two looks at how many records Kafka Streams has taken and written."""


def configuration(
    application: str, bootstrap: str, state: Path, guarantee: str, commit_every: float | None = None
) -> dict[str, str]:
    """Return the settings of a live topology that differ from Kafka Streams' own, each with its reason."""
    rare = {} if commit_every is None else {"commit.interval.ms": str(int(commit_every * 1000))}
    return rare | {
        "application.id": application,
        "bootstrap.servers": bootstrap,
        "state.dir": str(state),
        "processing.guarantee": guarantee,
        # Each update goes on at once; the cache would show only the last one of some.
        "statestore.cache.max.bytes": "0",
        "windowstore.changelog.additional.retention.ms": TEN_YEARS_MS,
        # A member with a fixed name that comes back gets its work at once; a new name would wait for the end of the
        # dead one's session.
        "main.consumer.group.instance.id": application,
        "main.consumer.session.timeout.ms": "10000",
        "main.consumer.heartbeat.interval.ms": "2000",
        "metadata.max.age.ms": "5000",
    }


class Application:
    """One running topology.

    Args:
        topology: a function that takes a StreamsBuilder.
        application: its id: the consumer group, the prefix of its own topics, the folder of its state.
        state: where RocksDB keeps the state stores.
        commit_every: seconds between two commits; Kafka Streams' own if nothing is said.

    Raises:
        FlowError: the broker is down, or this is not a topology.
    """

    def __init__(
        self,
        topology: Callable[[Any], None],
        application: str,
        bootstrap: str,
        state: Path,
        guarantee: str = "exactly_once_v2",
        commit_every: float | None = None,
    ) -> None:
        from java.util import Properties
        from org.apache.kafka.streams import KafkaStreams

        self.application = application
        self.guarantee = guarantee
        self.restored: Counter[str] = Counter()
        self.error: str | None = None
        self.ended = threading.Event()
        self.topology = api.build(topology)
        self.stores = driver.stores(self.topology)
        state.mkdir(parents=True, exist_ok=True)
        properties = Properties()
        for name, value in configuration(application, bootstrap, state, guarantee, commit_every).items():
            properties.put(name, value)
        sources, sinks = driver.sources(self.topology), driver.sinks(self.topology)
        self.topics = sources + sinks
        make_topics(bootstrap, self.topics)
        self._carrier = lineage.Carrier(application, map(lineage.topic, sources), to=map(lineage.topic, sinks))
        self._looking = threading.Thread(target=self._look, name="lineage", daemon=True)
        self._closing = threading.Event()
        self.streams = KafkaStreams(self.topology, properties)
        self.streams.setUncaughtExceptionHandler(self._failed)
        self.streams.setStateListener(self._changed)
        self.streams.setGlobalStateRestoreListener(self._listener())

    def start(self) -> None:
        """Begin; `state` says when it is RUNNING."""
        self.streams.start()
        self._looking.start()

    @property
    def state(self) -> str:
        """CREATED, REBALANCING (its state is being restored), RUNNING, … as Kafka Streams calls them."""
        return str(self.streams.state())

    def close(self, seconds: float = 10) -> bool:
        """Commit, leave the group and end; False when it took longer than that."""
        from org.apache.kafka.streams.KafkaStreams import CloseOptions

        wait = api.Duration.ofMillis(int(seconds * 1000))
        self._closing.set()
        if self._looking.is_alive():
            self._looking.join(seconds)
        # A member with a fixed name would else be kept, with its tasks, until its session ends.
        return bool(self.streams.close(CloseOptions().timeout(wait).leaveGroup(True)))

    def _look(self) -> None:
        """Count for lineage what Kafka Streams itself has counted, topic by topic."""
        before: Counter[tuple[str, str]] = Counter()
        ended = False
        while not ended:
            ended = self._closing.wait(LOOK)
            now = Counter(self._totals())
            for (name, topic), rows in (now - before).items():
                count = self._carrier.read if name == CONSUMED else self._carrier.wrote
                count(lineage.topic(topic), rows)
            before = now | before
        self._carrier.close()

    def _totals(self) -> dict[tuple[str, str], int]:
        found: Counter[tuple[str, str]] = Counter()
        for entry in self.streams.metrics().entrySet():
            name = entry.getKey()
            topic = str(name.tags().get("topic"))
            if str(name.name()) in (CONSUMED, PRODUCED) and topic in self.topics:
                found[str(name.name()), topic] += int(entry.getValue().metricValue())
        return found

    def _failed(self, error: Any) -> Any:
        from org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler import StreamThreadExceptionResponse

        cause = jvm.python_error(error)
        where = str(error.getMessage() or "").partition("\n")[0]
        self.error = f"{type(cause).__name__}: {cause} ({where})"
        LOG.error("failed: %s", self.error)
        return StreamThreadExceptionResponse.SHUTDOWN_CLIENT

    def _changed(self, new: Any, old: Any) -> None:
        LOG.info("state: %s -> %s", old, new)
        if str(new) in ("ERROR", "NOT_RUNNING"):
            self.ended.set()

    def _listener(self) -> Any:
        restored, began = self.restored, {}

        @jpype.JImplements("org.apache.kafka.streams.processor.StateRestoreListener")
        class Listener:
            @jpype.JOverride
            def onRestoreStart(self, partition: Any, store: str, start: int, end: int) -> None:
                began[str(partition)] = time.monotonic()

            @jpype.JOverride
            def onBatchRestored(self, partition: Any, store: str, offset: int, count: int) -> None:
                restored[str(store)] += int(count)

            @jpype.JOverride
            def onRestoreEnd(self, partition: Any, store: str, total: int) -> None:
                took = time.monotonic() - began.pop(str(partition), time.monotonic())
                if total:
                    LOG.info("restored: %s: %s records of %s in %.1f s", store, total, partition, took)

            @jpype.JOverride
            def onRestoreSuspended(self, partition: Any, store: str, total: int) -> None:
                LOG.warning("restoring %s was broken off after %s records of %s", store, total, partition)

        return Listener()
