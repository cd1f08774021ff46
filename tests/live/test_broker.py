"""The broker and ZooKeeper as others of this machine meet them: without a login, or with a wrong one."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psutil
import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    ResourceType,
)

from flow360 import clients
from flow360.errors import FlowError
from flow360.ingestion.topics import read_all
from flow360.settings import settings
from flow360.stack.probes import _ask_kafka
from tests.faults.support import until

SERVICES = ("kafka",)
KEPT = "connect-test"  # a name as Kafka Connect's own topics have it
CAPTURED = "cdc.shop.test"  # and as what it captures of the shop
SECONDS = 20


def secured(**more: object) -> dict[str, object]:
    """A client of the broker's third door, with the login that Kafka Connect has."""
    login = {"security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "SCRAM-SHA-256", "sasl.username": "primeur"}
    at = {"bootstrap.servers": f"127.0.0.1:{settings().kafka_secured_port}", "socket.timeout.ms": SECONDS * 1000}
    return {**at, **login, "sasl.password": settings().kafka_password, **more}


def send(config: dict[str, object], topic: str) -> KafkaError | None:
    """Send one record; what the broker said."""
    producer, told = Producer(config), []
    producer.produce(topic, b"evil", b"connector-evil", on_delivery=lambda error, _: told.append(error))
    assert producer.flush(SECONDS) == 0
    return told[0]


def all_of(topic: str) -> list[bytes]:
    """The values of a topic that only a login can read."""
    consumer = Consumer(secured(**{"group.id": "somebody", "enable.partition.eof": True}))
    try:
        parts = list(consumer.list_topics(topic, timeout=SECONDS).topics[topic].partitions)
        consumer.assign([TopicPartition(topic, part, 0) for part in parts])
        values, over = [], set()
        while len(over) < len(parts):
            one = consumer.poll(SECONDS)
            assert one is not None, f"no answer about {topic}"
            if one.error():
                assert one.error().code() == KafkaError._PARTITION_EOF, one.error()
                over.add(one.partition())
            else:
                values.append(one.value() or b"")
        return values
    finally:
        consumer.close()


@contextmanager
def made(name: str) -> Iterator[str]:
    """A topic with one record, by somebody who has logged in."""
    admin = AdminClient(secured())
    if name in admin.list_topics(timeout=SECONDS).topics:  # of a run that was killed
        admin.delete_topics([name])[name].result(SECONDS)
        until(lambda: name not in admin.list_topics(timeout=SECONDS).topics, "the old topic to go")
    admin.create_topics([NewTopic(name, 1, 1)])[name].result(SECONDS)
    until(lambda: send(secured(), name) is None, "the topic to take a record")
    yield name
    admin.delete_topics([name])[name].result(SECONDS)


@pytest.fixture(scope="module")
def kept(stack) -> Iterator[str]:
    """A topic as those in which Kafka Connect keeps what it knows."""
    stack.up(["kafka"])
    with made(KEPT) as name:
        yield name


@pytest.fixture(scope="module")
def captured(stack) -> Iterator[str]:
    """A topic as those in which the shop's changes are."""
    stack.up(["kafka"])
    with made(CAPTURED) as name:
        yield name


def alter(kind: ResourceType, name: str, key: str, value: str) -> Callable[[AdminClient], object]:
    entry = ConfigEntry(key, value, incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(kind, name, incremental_configs=[entry])
    return lambda admin: admin.incremental_alter_configs([resource])[resource].result(SECONDS)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda a: a.create_topics([NewTopic("connect-new", 1, 1)])["connect-new"].result(SECONDS), "TOPIC"),
        (lambda a: a.delete_topics([KEPT])[KEPT].result(SECONDS), "TOPIC"),
        (lambda a: a.create_partitions([NewPartitions(KEPT, 2)])[KEPT].result(SECONDS), "TOPIC"),
        (alter(ResourceType.TOPIC, KEPT, "cleanup.policy", "delete"), "TOPIC"),
        (lambda a: a.delete_topics(["__consumer_offsets"])["__consumer_offsets"].result(SECONDS), "TOPIC"),
        (alter(ResourceType.BROKER, "1", "log.cleaner.threads", "2"), "CLUSTER"),
        (lambda a: a.delete_consumer_groups(["connect-any"])["connect-any"].result(SECONDS), "GROUP"),
    ],
    ids=["create", "delete", "partitions", "policy", "offsets", "broker", "group"],
)
def test_without_a_login_nobody_changes_what_connect_keeps_or_what_steers_the_broker(kept, change, code):
    with pytest.raises(KafkaException) as caught:
        change(AdminClient(clients.confluent()))
    assert caught.value.args[0].code() == getattr(KafkaError, f"{code}_AUTHORIZATION_FAILED")


def test_without_a_login_nobody_writes_or_sees_what_connect_keeps(kept):
    assert send(clients.confluent(), kept).code() == KafkaError.TOPIC_AUTHORIZATION_FAILED
    assert kept not in AdminClient(clients.confluent()).list_topics(timeout=SECONDS).topics
    assert all_of(kept) == [b"evil"], "and with one, the record is there"


@pytest.mark.parametrize(
    "change",
    [
        lambda a: a.create_topics([NewTopic("cdc.shop.new", 1, 1)])["cdc.shop.new"].result(SECONDS),
        lambda a: a.delete_topics([CAPTURED])[CAPTURED].result(SECONDS),
        lambda a: a.delete_records([TopicPartition(CAPTURED, 0, 1)])[TopicPartition(CAPTURED, 0)].result(SECONDS),
        lambda a: a.create_partitions([NewPartitions(CAPTURED, 2)])[CAPTURED].result(SECONDS),
        alter(ResourceType.TOPIC, CAPTURED, "retention.ms", "1"),
    ],
    ids=["create", "delete", "records", "partitions", "retention"],
)
def test_without_a_login_nobody_changes_what_was_captured_of_the_shop(captured, change):
    with pytest.raises(KafkaException) as caught:
        change(AdminClient(clients.confluent()))
    assert caught.value.args[0].code() == KafkaError.TOPIC_AUTHORIZATION_FAILED


def test_without_a_login_nobody_invents_a_change_of_the_shop_and_everybody_reads_those_there_are(captured):
    assert send(clients.confluent(), captured).code() == KafkaError.TOPIC_AUTHORIZATION_FAILED
    assert [record.value for record in read_all(captured)] == [b"evil"], "the one that was sent with a login"


@pytest.mark.parametrize("replica", [-1, 2])
def test_without_a_login_nobody_reads_it_not_even_as_another_broker_would(kept, replica):
    """Brokers copy each other's topics, and for that no topic's own rule is asked."""
    assert fetch(kept, replica) == KafkaError.TOPIC_AUTHORIZATION_FAILED
    assert replica == 2 or fetch("__consumer_offsets", replica) == 0, "the question itself is right"


def fetch(topic: str, replica: int) -> int:
    """Ask for partition 0 from its beginning, without a login (Fetch, version 4); the error's number, 0 for none."""
    name = topic.encode()
    head = struct.pack(">iiiib", replica, 100, 1, 1_000_000, 0)  # one byte at least within 100 ms
    body = head + struct.pack(">ih", 1, len(name)) + name + struct.pack(">iiqi", 1, 0, 0, 1_000_000)
    answer = _ask_kafka(settings().kafka_port, 1, 4, body)
    # correlation, throttle, topics, name, partitions; then the partition and its error
    return struct.unpack_from(">ih", answer, 4 + 4 + 4 + 2 + len(name) + 4)[1]


@pytest.mark.parametrize("password", ["x", "KAFKA_PASSWORD"])
def test_the_brokers_third_door_wants_the_password(kept, password):
    said: list[int] = []
    admin = AdminClient(secured(**{"sasl.password": password, "error_cb": lambda error: said.append(error.code())}))
    until(lambda: admin.poll(0.1) and KafkaError._AUTHENTICATION in said, "the broker to refuse it")


def test_zookeeper_lets_nobody_in_without_the_password(started, monkeypatch, capfd):
    from kazoo.client import KazooClient
    from kazoo.exceptions import KazooException

    started("zookeeper")
    client = KazooClient(settings().zookeeper_hosts, connection_retry={"max_tries": 1}, timeout=SECONDS)
    try:
        client.start(timeout=SECONDS)
        for ask in (
            lambda: client.get_children("/"),
            lambda: client.create("/evil", b""),
            lambda: client.delete("/evil"),
        ):
            with pytest.raises(KazooException):
                ask()
    finally:
        client.stop()
        client.close()
    for password in ("x", "", "ZOOKEEPER_PASSWORD"):
        monkeypatch.setattr(settings(), "zookeeper_password", password)
        with pytest.raises(FlowError, match="zookeeper refuses the password: is .env the one"), clients.zookeeper():
            raise AssertionError("it let us in")
    monkeypatch.undo()
    with clients.zookeeper() as ours:
        assert ours.exists("/brokers/ids")
        assert not ours.exists("/evil")
    assert "Traceback" not in capfd.readouterr().err


def test_no_password_stands_in_a_command_line_a_log_or_a_file(stack, kept):
    secrets = (settings().kafka_password, settings().zookeeper_password)
    assert all(len(secret) > 20 for secret in secrets)
    for name in ("zookeeper", "kafka"):
        service = stack.model[name]
        told = " ".join(psutil.Process(stack.host.pids()[name]).cmdline())
        files = [file for file in stack.host.programs.conf(service).rglob("*") if file.is_file()]
        written = [file.read_text("utf-8", "replace") for file in (*files, stack.host.programs.log(service))]
        assert len(written) > 1
        for secret in secrets:
            assert not [text for text in (told, *written) if secret in text], name


def test_another_user_reads_no_file_of_either(stack, kept, as_another):
    for name in ("zookeeper", "kafka"):
        folder = stack.host.programs.data(stack.model[name])
        done = as_another("ls", str(folder))
        assert done.returncode, done.stdout
        assert "Permission denied" in done.stderr
