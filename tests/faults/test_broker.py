"""The broker dies while records are produced; ZooKeeper restarts; a producer dies in a transaction."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable

import pytest

from flow360 import clients
from flow360.ingestion.topics import read_all
from tests.faults.support import SEED, child, kill, line, recovered, report, until

SERVICES = ("kafka",)
RECORDS = 10_000


class History:
    """What the broker reported to the producer of each number; `enough` is set when `at` of them were acknowledged."""

    def __init__(self, at: int) -> None:
        self.acked: set[int] = set()
        self.unknown: set[int] = set()
        self.at, self.enough = at, threading.Event()

    def settle(self, number: int, error: object = None) -> None:
        """An error is not proof that the broker does not have it: a request may be done and its answer lost."""
        (self.unknown if error else self.acked).add(number)
        if len(self.acked) >= self.at:
            self.enough.set()

    def counts(self, topic: str) -> dict[str, int]:
        """Compare with what the broker holds."""
        records = read_all(topic, 120, "read_committed")
        seen = Counter(int(record.value) for record in records)
        assert seen.keys() <= set(range(RECORDS)), "the broker holds what nobody sent"
        return {
            "sent": RECORDS,
            "acked": len(self.acked),
            "unknown": len(self.unknown),
            "lost": len(self.acked - seen.keys()),
            "doubled": sum(n - 1 for n in seen.values()),
            "out_of_order": out_of_order(records),
        }


def out_of_order(records: list) -> int:
    """How many records stand behind a higher number of their partition."""
    highest: dict[int, int] = {}
    wrong = 0
    for record in records:
        wrong += int(record.value) < highest.get(record.partition, -1)
        highest[record.partition] = max(highest.get(record.partition, -1), int(record.value))
    return wrong


def produce_with_librdkafka(history: History, topic: str, **config: object) -> None:
    """Send RECORDS numbers with the C client."""
    from confluent_kafka import KafkaError, Message, Producer

    # Small batches, so that the kill finds some on the wire, some in the broker and some still here.
    producer = Producer(
        clients.confluent(linger_ms=1, batch_num_messages=50)
        | {"message.timeout.ms": 120_000, "request.timeout.ms": 10_000, "reconnect.backoff.max.ms": 500}
        | config
    )

    def told(error: KafkaError | None, message: Message) -> None:
        history.settle(int(message.value()), error)

    for number in range(RECORDS):
        producer.produce(topic, str(number).encode(), str(number % 97).encode(), on_delivery=told)
        # Slow enough to be overtaken by a kill: 10,000 records in about two seconds.
        producer.poll(0.005 if number % 25 == 0 else 0)
    assert producer.flush(150) == 0


def produce_with_kafka_python(history: History, topic: str, **config: object) -> None:
    """The same with the pure Python client."""
    options = {"acks": "all", "enable_idempotence": True} | config
    producer = clients.producer(
        max_block_ms=60_000, batch_size=1_000, delivery_timeout_ms=120_000, reconnect_backoff_max_ms=500, **options
    )
    for number in range(RECORDS):
        future = producer.send(topic, str(number).encode(), str(number % 97).encode())
        future.add_callback(lambda _, n=number: history.settle(n))
        future.add_errback(lambda error, n=number: history.settle(n, error))
    producer.flush(150)
    producer.close(30)


CLIENTS = {"confluent-kafka": produce_with_librdkafka, "kafka-python": produce_with_kafka_python}


def trial(stack, topic: str, produce: Callable[..., None], **config: object) -> dict[str, object]:
    """Produce while the broker is killed once, at a place that the seed decides; the counts."""
    history, found = History(random.Random(SEED).randrange(RECORDS // 4, RECORDS // 2)), {}

    def killer() -> None:
        assert history.enough.wait(60)
        moment = kill(stack, "kafka")
        found["acked_at_kill"] = len(history.acked)
        found["recovery"] = recovered(stack, "kafka", moment)

    thread = threading.Thread(target=killer)
    thread.start()
    produce(history, topic, **config)
    thread.join(120)
    assert "recovery" in found, "the broker did not come back"
    assert history.at <= found["acked_at_kill"] < RECORDS, "the kill was to fall into the middle"
    assert len(history.acked) + len(history.unknown) == RECORDS
    return history.counts(topic) | found


@pytest.mark.timeout(300)
@pytest.mark.parametrize("client", CLIENTS)
def test_broker_killed_with_acks_all_and_idempotence(stack, topics, client):
    """Fault 1: whatever was acknowledged is there, and is there once."""
    topic = topics("idempotent")
    config = {"acks": "all", "enable.idempotence": True} if client == "confluent-kafka" else {}
    counts = trial(stack, topic, CLIENTS[client], **config)
    report(f"1 broker killed, acks=all, idempotent ({client})", **counts)
    assert counts["lost"] == 0
    assert counts["doubled"] == 0
    assert counts["out_of_order"] == 0
    assert counts["acked"] > RECORDS * 0.9, "it was to go on after the broker's return"


@pytest.mark.timeout(300)
@pytest.mark.parametrize("acks", ["0", "1"])
def test_broker_killed_with_weaker_acks(stack, topics, acks):
    """Fault 2: acks=0 may lose, acks=1 may double; that is what acks=all and idempotence are for."""
    topic = topics(f"acks{acks}")
    counts = trial(stack, topic, produce_with_librdkafka, acks=acks, **{"enable.idempotence": False})
    report(f"2 broker killed, acks={acks}", **counts)
    if acks == "0":
        assert counts["doubled"] == 0, "nobody waits for an answer, so nothing is sent again"
    else:
        assert counts["lost"] == 0, "what the one broker wrote outlives its process: only a dead machine would lose it"


TRANSACTION = """
import signal, sys
from confluent_kafka import Producer
from flow360 import clients
topic, name = sys.argv[1:3]
producer = Producer(clients.confluent() | {"transactional.id": name, "transaction.timeout.ms": 60000})
producer.init_transactions(30)
producer.begin_transaction()
for number in range(100):
    producer.produce(topic, f"committed {number}".encode())
producer.commit_transaction(30)
producer.begin_transaction()
for number in range(500):
    producer.produce(topic, f"open {number}".encode())
assert producer.flush(30) == 0
print("in the middle", flush=True)
signal.pause()
"""


def test_producer_killed_in_a_transaction(topics):
    """Fault 3: read_committed sees none of it, read_uncommitted does."""
    from confluent_kafka import Producer

    topic = topics("transaction")
    name = f"transaction-of-{topic}"
    with child(TRANSACTION, topic, name) as process:
        line(process, "in the middle")
        process.kill()
        process.wait(10)
    killed = time.monotonic()
    # While nobody has ended the transaction, a reader of committed records waits before it; its successor ends it.
    before = Counter(r.value.split()[0] for r in read_all(topic, 120, "read_committed"))
    successor = Producer(clients.confluent() | {"transactional.id": name})
    successor.init_transactions(60)
    fenced = time.monotonic() - killed
    successor.begin_transaction()
    for number in range(50):
        successor.produce(topic, f"after {number}".encode())
    successor.commit_transaction(30)
    committed = Counter(r.value.split()[0] for r in read_all(topic, 120, "read_committed"))
    raw = Counter(r.value.split()[0] for r in read_all(topic, 120))
    report(
        "3 producer killed in a transaction",
        committed=100,
        open=500,
        visible_to_read_committed=committed[b"open"],
        visible_to_read_uncommitted=raw[b"open"],
        lost=150 - committed[b"committed"] - committed[b"after"],
        fenced_after=fenced,
    )
    assert before == {b"committed": 100}
    assert committed == {b"committed": 100, b"after": 50}
    assert raw == {b"committed": 100, b"open": 500, b"after": 50}


# --- ZooKeeper --------------------------------------------------------------------------------------------------------

BROKER = "/brokers/ids/1"


def registration() -> object | None:
    """The broker's znode (its stat), or None while it is not registered or ZooKeeper is away."""
    from flow360.errors import FlowError

    try:
        with clients.zookeeper() as zk:
            return zk.exists(BROKER)
    except FlowError:
        return None


@pytest.mark.timeout(200)
def test_zookeeper_killed(stack, topics):
    """Fault 8: the register comes back from ZooKeeper's own log, and the broker works on."""
    from confluent_kafka import Producer

    topic = topics("zookeeper")
    before = until(registration, BROKER)
    broker = stack.host.pids()["kafka"]
    killed = kill(stack, "zookeeper")
    # The broker needs ZooKeeper for its register, not for each record.
    producer = Producer(clients.confluent(acks="all"))
    told = []
    for number in range(1000):
        producer.produce(topic, str(number).encode(), on_delivery=lambda error, _: told.append(error))
    assert producer.flush(60) == 0
    recovery = recovered(stack, "zookeeper", killed)
    after = until(registration, f"{BROKER} again", 60)
    back = time.monotonic() - killed
    held = {int(record.value) for record in read_all(topic, 120, "read_committed")}
    report(
        "8 ZooKeeper killed",
        sent=1000,
        acked=told.count(None),
        lost=told.count(None) - len(held),
        znodes_lost=0 if after else 1,
        same_session=after.ephemeralOwner == before.ephemeralOwner,
        recovery=recovery,
        znode_back=back,
    )
    assert stack.host.pids()["kafka"] == broker, "the broker went on"
    assert told == [None] * 1000
    assert held == set(range(1000))


@pytest.mark.timeout(200)
def test_the_brokers_session_expires(stack, started):
    """Fault 8, the hard way: a broker that is silent too long is struck off, and registers again when it wakes."""
    started("kafka")
    before = until(registration, BROKER)
    broker = stack.host.pids()["kafka"]
    os.kill(broker, signal.SIGSTOP)
    stopped = time.monotonic()
    try:
        until(lambda: registration() is None, "the broker to be struck off", 60)
        struck = time.monotonic() - stopped
    finally:
        os.kill(broker, signal.SIGCONT)
    woken = time.monotonic()
    after = until(registration, f"{BROKER} again", 60)
    back = time.monotonic() - woken
    recovered(stack, "kafka", woken)
    report("8 broker's session expired", znodes_lost=0 if after else 1, struck_off_after=struck, znode_back=back)
    assert after.ephemeralOwner != before.ephemeralOwner, "a new session"
    assert after.czxid > before.czxid
