"""The figures about the vans' way: from a reading that is published over MQTT to its alarm in the warehouse."""

from __future__ import annotations

import itertools
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import partial

import psutil

from flow360 import clients
from flow360.bench.measure import Round, percentile
from flow360.bench.sandbox import engine_of_its_own
from flow360.errors import FlowError
from flow360.stack.facade import silent
from flow360.stack.native.engine import NativeEngine
from flow360.waiting import wait_for

SECONDS = 30
"""How long readings are published in a round."""
FAILING = 12
"""Vans that lose their cold chain, again and again: six warm readings, a minute apart, and a cold one."""
SPELL, DUE = 7, 5


@contextmanager
def _alarm_over_floor(vans: int, rate: float) -> Iterator[Round]:
    """Compare the 95th percentile of the seconds from a reading to its alarm's row with a record's through Kafka alone.

    Args:
        vans: how many vans there are.
        rate: readings a second of all of them.
    """
    days = itertools.count()
    with engine_of_its_own() as engine:
        engine.up(["vans-bridge", "kafka-streams", "alarms-sink"], silent)

        def one() -> tuple[float, float]:
            start = datetime(2026, 6, 1, tzinfo=UTC) + timedelta(days=next(days))
            worked, begun = _worked(engine), time.monotonic()
            alarms = _readings(vans, rate, start)
            seconds, since = time.monotonic() - begun, _worked(engine)
            floor = _kafka_alone(rate)
            for what, found in (("reading to alarm", alarms), ("Kafka alone", floor)):
                middle, most = percentile(found, 50), percentile(found, 95)
                print(f"{vans} vans, {rate:g}/s, {what}: p50 {middle:.4f} s, p95 {most:.4f} s")
            cores = {name: (since[name] - before) / seconds for name, before in worked.items()}
            busiest = ", ".join(f"{name} {cores[name]:.2f}" for name in sorted(cores, key=cores.get, reverse=True)[:5])
            print(f"{vans} vans, {rate:g}/s, cores at work of {os.cpu_count()}, the busiest first: {busiest}")
            return percentile(alarms, 95), percentile(floor, 95)

        yield one


def _worked(engine: NativeEngine) -> dict[str, float]:
    """Add up the CPU-seconds of each service, ended children included, and of this program, which publishes."""
    own = os.times()
    found = {"the bench itself": own.user + own.system}
    for name, pid in engine.pids().items():
        parent = psutil.Process(pid)
        found[name] = sum(parent.cpu_times()[:4])
        for child in parent.children(recursive=True):
            with suppress(psutil.NoSuchProcess):  # a connection's process of PostgreSQL may end at any moment
                found[name] += sum(child.cpu_times()[:4])
    return found


def _at_the_pace(rate: float, seconds: float) -> Iterator[int]:
    """Yield 0, 1, 2, … at so many a second."""
    start = time.perf_counter()
    for number in range(int(rate * seconds)):
        time.sleep(max(0.0, start + number / rate - time.perf_counter()))
        yield number


def _readings(vans: int, rate: float, start: datetime) -> list[float]:
    """Publish readings; for each alarm, the seconds from its reading to its row."""
    names = [f"VAN-{1000 + number}" for number in range(vans)]
    published: dict[tuple[str, datetime], float] = {}
    client = clients.mqtt("flow360-bench")
    try:
        for number in _at_the_pace(rate, SECONDS):
            minute, place = divmod(number, vans)
            at, warm = start + timedelta(minutes=minute), place < FAILING and minute % SPELL <= DUE
            body = {
                "run": f"bench-{start:%d}",
                "reading_id": number + 1,
                "van_id": names[place],
                "sequence": minute + 1,
            }
            moment = f"{at:%Y-%m-%dT%H:%M:%SZ}"
            body |= {"measured_at": moment, "sent_at": moment, "value": 9.0 if warm else 4.0, "unit": "C"}
            if place < FAILING and minute % SPELL == DUE:
                published[names[place], at] = time.time()
            sent = client.publish(f"primeur/vans/{names[place]}/temperature", json.dumps(body), qos=1)
        sent.wait_for_publish(60)
    finally:
        client.disconnect()
        client.loop_stop()

    def rows() -> list[tuple[str, datetime, datetime]]:
        with clients.postgres() as db:
            query = "select van_id, reported_at, recorded_at from ops.alarms where reported_at >= %s"
            found = db.execute(query, [start]).fetchall()
        return found if len(found) >= len(published) else []

    found = wait_for(rows, 60, f"{len(published)} alarms in the warehouse")
    return [recorded.timestamp() - published[van, told] for van, told, recorded in found]


def _kafka_alone(rate: float) -> list[float]:
    """Measure the seconds of a record from the producer to a consumer, at the same rate."""
    from confluent_kafka import Consumer, Producer, TopicPartition

    from flow360.ingestion.topics import fresh_topic

    topic, took, count = fresh_topic("bench"), [], int(rate * SECONDS / 3) + 1
    reader = Consumer(clients.confluent(group_id="bench", enable_auto_commit=False))
    reader.assign([TopicPartition(topic, 0, 0)])

    def read() -> None:
        end = time.monotonic() + SECONDS + 30
        while len(took) < count and time.monotonic() < end:
            if (record := reader.poll(0.5)) is not None and record.error() is None:
                took.append(time.time() - float(record.value()))

    reading = threading.Thread(target=read)
    reading.start()
    writer = Producer(clients.confluent(enable_idempotence=True, linger_ms=1))
    writer.produce(topic, repr(time.time()))  # the first one finds the way
    writer.flush(30)
    for _ in _at_the_pace(rate, SECONDS / 3):
        writer.produce(topic, repr(time.time()))
        writer.poll(0)
    writer.flush(30)
    reading.join()
    reader.close()
    if len(took) < count:
        raise FlowError(f"kafka: {count - len(took)} of {count} records did not come back in time")
    return took[1:]


alarm_of_twelve_vans: Callable[[], Iterator[Round]] = partial(_alarm_over_floor, 12, 60)
alarm_of_a_thousand_vans: Callable[[], Iterator[Round]] = partial(_alarm_over_floor, 1000, 1000)
