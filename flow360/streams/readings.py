"""The vans' readings of a day, and their tours, into topics of Kafka: what market-sensors says over MQTT, but at once.

The timestamp of each record is the moment of the measurement, so that windows are cut by the thermometer's clock and
the day can be replayed in seconds.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from flow360 import clients
from flow360.errors import FlowError
from flow360.primeur.plan import DAY
from flow360.primeur.replay import messages
from flow360.primeur.snapshot import read_table


def readings(run: str, day: str = DAY.isoformat(), vans: Sequence[str] = ()) -> list[tuple[str, bytes, int]]:
    """The readings of a day in the order in which they are sent: (van, JSON, milliseconds since 1970).

    Args:
        run: marks them, as the id of a replay over MQTT does.
        day: ISO date in the seed's week.
        vans: only these; empty means all.
    """
    chosen = [m for m in messages(day) if not vans or m.van_id in vans]
    return [(m.van_id, m.payload(run), _millis(m.body["measured_at"])) for m in chosen]


def routes(day: str = DAY.isoformat()) -> list[tuple[str, bytes, int]]:
    """The tours of a day: (van, JSON with route_id, half and city, milliseconds of the departure), in order of time."""
    cities = {row["store_id"]: row["city"] for row in read_table("stores").to_pylist()}
    tours = [row for row in read_table("van_routes").to_pylist() if row["day"].isoformat() == day]
    found = []
    for row in sorted(tours, key=lambda r: (r["departed_at"], r["van_id"])):
        tour = {"route_id": row["route_id"], "half": row["half"], "city": cities[row["store_id"]]}
        found.append((row["van_id"], json.dumps(tour, ensure_ascii=False).encode(), _millis(row["departed_at"])))
    return found


def publish(topic: str, records: Sequence[tuple[str, Any, int]]) -> int:
    """Write (key, value, milliseconds) in this order, idempotently, and wait for the acknowledgement of all.

    Args:
        records: values as bytes, or anything that JSON can say.

    Raises:
        FlowError: the broker is down, or has no such topic; the line says which.
    """
    from confluent_kafka import KafkaException, Producer

    errors: list[str] = []
    # librdkafka would choose partitions by another hash than Java: then tables and streams of one key never meet.
    config = clients.confluent(
        enable_idempotence=True, linger_ms=5, message_timeout_ms=30_000, partitioner="murmur2_random"
    )
    producer = Producer(config)
    try:
        for key, value, moment in records:
            data = value if isinstance(value, bytes) else json.dumps(value, ensure_ascii=False).encode()
            producer.produce(topic, data, key, timestamp=moment, on_delivery=lambda e, _: e and errors.append(e.str()))
            producer.poll(0)
    except (KafkaException, BufferError) as error:
        raise FlowError(f"{topic}: {error}") from None
    waiting = producer.flush(40)
    if errors or waiting:
        raise FlowError(f"{topic}: {errors[0] if errors else f'{waiting} records were not acknowledged'}")
    return len(records)


def _millis(moment: str | datetime) -> int:
    moment = datetime.fromisoformat(moment) if isinstance(moment, str) else moment
    return round(moment.timestamp() * 1000)
