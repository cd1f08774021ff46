"""Something is overloaded: one service of three, chosen by chance, under a load that is real. The learner finds it.

incident = Incident()      it has begun; it ends by itself after ten minutes
incident.stop()
"""

from __future__ import annotations

import atexit
import secrets
import threading
import time
from collections.abc import Callable

from flow360 import clients
from flow360.clients import reach
from flow360.errors import FlowError
from flow360.monitoring.traffic import Traffic

LONGEST = 600.0
TWO_SCRAPES = 4.0
TOPIC, GROUP = "primeur.incident", "incident-billing"
SESSIONS = 15  # that wait for one lock


class Incident:
    """A load on one of SERVICES.

    Args:
        service: which; by default chance decides.
        settle: seconds to wait until the numbers show it.

    Attributes:
        began, ended: seconds since 1970; `ended` is None while it lasts.
        answer: the service, for the check of the lab. Do not look.
    """

    def __init__(self, service: str | None = None, settle: float = 12) -> None:
        self.answer = service or secrets.choice(list(SERVICES))
        self._stop, self._ready = threading.Event(), threading.Event()
        self._error: Exception | None = None
        # Asked first: an incident that cannot be made should say so in the learner's cell, not in a thread.
        for name in SERVICES:
            reach.require(name)
        if _catch_up():  # an incident that was broken off has left records unread: they are not this one's
            threading.Event().wait(TWO_SCRAPES)
        self.began, self.ended = time.time(), None
        self._thread = threading.Thread(target=self._run, name="incident", daemon=True)
        self._thread.start()
        atexit.register(self.stop)  # a notebook that is closed in the middle leaves no slow service behind
        self._stop.wait(settle)
        if self._error:
            raise FlowError(f"the incident could not be made: {self._error}")

    def __repr__(self) -> str:
        began = time.strftime("%H:%M:%S", time.gmtime(self.began))
        return f"Incident({'over' if self.ended else 'it lasts'}, began {began} UTC)"

    def stop(self) -> None:
        """Take the load away, and wait until Prometheus has seen that it is gone."""
        if self.ended is not None:
            return
        self.ended = time.time()
        self._stop.set()
        self._thread.join(20)
        atexit.unregister(self.stop)
        threading.Event().wait(TWO_SCRAPES)

    def _run(self) -> None:
        try:
            SERVICES[self.answer](self._stop)
        except Exception as error:  # noqa: BLE001 - it is raised again where somebody reads it
            self._error = error
            self._stop.set()


def _slow_api(stop: threading.Event) -> None:
    """Let every answer take two seconds, while the customers keep coming."""
    api = clients.api()
    api.post("/chaos", json={"slow": 1.0, "errors": 0.0, "trickle": 0.0, "delay": 2.0}).raise_for_status()
    try:
        with Traffic(per_second=200, workers=25):
            stop.wait(LONGEST)
    finally:
        api.post("/chaos", json={}).raise_for_status()


def _locked_warehouse(stop: threading.Event) -> None:
    """Let a forgotten transaction hold a lock, and one session after another wait for it."""
    lock = "select pg_advisory_lock(360606)"
    threads = []

    def wait() -> None:
        with clients.postgres(options="-c lock_timeout=0") as db:
            db.execute(lock)

    with clients.postgres() as holder:
        holder.execute(lock)
        for _ in range(SESSIONS):
            threads.append(threading.Thread(target=wait, daemon=True))
            threads[-1].start()
        stop.wait(LONGEST)
    for thread in threads:  # the lock goes with its holder's connection
        thread.join(10)


def _slow_consumer(stop: threading.Event) -> None:
    """Send records that come to a group that should read them and commits nothing."""
    from confluent_kafka import Producer

    producer = Producer(clients.confluent())
    until = time.monotonic() + LONGEST
    while not stop.wait(0.5) and time.monotonic() < until:
        for number in range(100):
            producer.produce(TOPIC, str(number).encode(), partition=number % 3)
        producer.poll(0)
    producer.flush(10)
    _catch_up()


def _catch_up() -> int:
    """Let the group have read everything; how many records it was behind."""
    from confluent_kafka import Consumer, TopicPartition
    from confluent_kafka.admin import AdminClient, NewTopic

    admin = AdminClient(clients.confluent())
    if TOPIC not in admin.list_topics(timeout=10).topics:
        admin.create_topics([NewTopic(TOPIC, 3, 1)])[TOPIC].result(15)
    partitions = [TopicPartition(TOPIC, number) for number in range(3)]
    group = Consumer(clients.confluent(group_id=GROUP, enable_auto_commit="false"))
    try:
        ends = [group.get_watermark_offsets(partition, timeout=10)[1] for partition in partitions]
        committed = [max(0, partition.offset) for partition in group.committed(partitions, timeout=10)]
        offsets = [TopicPartition(TOPIC, number, end) for number, end in enumerate(ends)]
        group.commit(offsets=offsets, asynchronous=False)
    finally:
        group.close()
    return sum(ends) - sum(committed)


SERVICES: dict[str, Callable[[threading.Event], None]] = {
    "market-api": _slow_api,
    "postgres-dwh": _locked_warehouse,
    "kafka": _slow_consumer,
}
