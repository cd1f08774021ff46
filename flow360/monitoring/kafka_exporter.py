"""kafka-exporter: how far each consumer group is behind, for Prometheus.

`python -m flow360.monitoring.kafka_exporter --host 127.0.0.1 --port 19308 --kafka 127.0.0.1:19092`

The broker does not publish lag itself: it is the end of a partition less the offset that a group has committed, and
only somebody who asks for both can subtract. Here that is done at each scrape, so that the numbers are as old as the
answer. The names are those of the exporter that most people use (danielqsj/kafka_exporter), so that dashboards fit.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable

import typer
from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from flow360.monitoring.exposition import expose

SECONDS = 1.5
"""How long one question to the broker may take; a scrape has two seconds."""

Partition = tuple[str, int]


class KafkaCollector(Collector):
    """Asks the broker for topics, groups, members and offsets whenever it is scraped.

    Args:
        bootstrap: the broker's address, host:port.
    """

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap
        self._admin: AdminClient | None = None
        self._lock = threading.Lock()
        self._last: list[Metric] = []

    def describe(self) -> Iterable[Metric]:
        """Describe nothing, and so ask nothing while the collector is registered: the broker may be away."""
        return []

    def collect(self) -> Iterable[Metric]:
        # A caller that comes while another one is being answered gets that one's predecessor: while the broker hangs, a
        # queue of scrapes would only grow.
        if self._lock.acquire(blocking=not self._last):
            try:
                self._last = self._ask()
            finally:
                self._lock.release()
        return self._last

    def _ask(self) -> list[Metric]:
        up = GaugeMetricFamily("kafka_up", "1 when the broker answered this scrape")
        if self._admin is None:
            quiet = {"log_level": 0, "socket.timeout.ms": 3000, "reconnect.backoff.max.ms": 1000}
            self._admin = AdminClient({"bootstrap.servers": self._bootstrap, **quiet})
        try:
            found = [*self._topics(), *self._groups()]
        except (KafkaException, TimeoutError):
            # The next scrape begins with a new client: one that saw the broker killed and come back a few times was
            # seen to answer for topics and to wait for groups without success, for ever.
            self._admin, found = None, []
            up.add_metric([], 0)
        else:
            up.add_metric([], 1)
        return [up, *found]

    def _topics(self) -> list[Metric]:
        meta = self._admin.list_topics(timeout=SECONDS)
        brokers = GaugeMetricFamily("kafka_brokers", "brokers of the cluster")
        brokers.add_metric([], len(meta.brokers))
        self._partitions = [(t.topic, p) for t in meta.topics.values() if not _internal(t.topic) for p in t.partitions]
        self._ends = self._offsets(self._partitions, OffsetSpec.latest())
        begins = self._offsets(self._partitions, OffsetSpec.earliest())
        labels = ["topic", "partition"]
        end = GaugeMetricFamily("kafka_topic_partition_current_offset", "end of the partition's log", labels=labels)
        begin = GaugeMetricFamily("kafka_topic_partition_oldest_offset", "its beginning", labels=labels)
        for family, offsets in ((end, self._ends), (begin, begins)):
            for (topic, number), offset in offsets.items():
                family.add_metric([topic, str(number)], offset)
        return [brokers, end, begin]

    def _groups(self) -> list[Metric]:
        labels = ["consumergroup", "topic", "partition"]
        committed = GaugeMetricFamily("kafka_consumergroup_current_offset", "what the group committed", labels=labels)
        lag = GaugeMetricFamily("kafka_consumergroup_lag", "records that the group has not committed", labels=labels)
        members = GaugeMetricFamily("kafka_consumergroup_members", "consumers in the group", labels=["consumergroup"])
        listed = self._admin.list_consumer_groups(request_timeout=SECONDS)
        names = [group.group_id for group in listed.result(SECONDS * 2).valid]
        described = self._admin.describe_consumer_groups(names, request_timeout=SECONDS) if names else {}
        # All questions are on their way before the first answer is waited for: one after the other, the groups that a
        # long course leaves behind would take longer than a scrape may.
        answers = {
            name: self._admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(name)], request_timeout=SECONDS)
            for name in names
        }
        for name, answer in answers.items():
            members.add_metric([name], len(described[name].result(SECONDS * 2).members))
            for part in answer[name].result(SECONDS * 2).topic_partitions or ():
                end = self._ends.get((part.topic, part.partition))
                if part.offset < 0 or end is None:
                    continue
                committed.add_metric([name, part.topic, str(part.partition)], part.offset)
                lag.add_metric([name, part.topic, str(part.partition)], max(0, end - part.offset))
        return [committed, lag, members]

    def _offsets(self, partitions: list[Partition], which: OffsetSpec) -> dict[Partition, int]:
        if not partitions:
            return {}
        asked = {TopicPartition(topic, number): which for topic, number in partitions}
        futures = self._admin.list_offsets(asked, request_timeout=SECONDS)
        return {(part.topic, part.partition): future.result(SECONDS * 2).offset for part, future in futures.items()}


def _internal(topic: str) -> bool:
    return topic.startswith("__")


def main(host: str = "127.0.0.1", port: int = 19308, kafka: str = "127.0.0.1:19092") -> None:
    """Answer /metrics until SIGTERM. A broker that is away is reported as kafka_up 0, and is not a reason to end."""
    expose(KafkaCollector(kafka), host, port, "kafka-exporter", {"kafka": kafka})


if __name__ == "__main__":
    typer.run(main)
