"""The vans' readings of a day, and their tours, as records: what market-sensors says over MQTT, but at once.

The timestamp of each record is the moment of the measurement, so that windows are cut by the thermometer's clock and
the day can be replayed in seconds.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from flow360.ingestion.topics import millis
from flow360.primeur.plan import DAY
from flow360.primeur.vans.replay import messages, tours


def readings(run: str, day: str = DAY.isoformat(), vans: Sequence[str] = ()) -> list[tuple[str, bytes, int]]:
    """List the readings of a day in the order in which they are sent: (van, JSON, milliseconds since 1970).

    Args:
        run: marks them, as the id of a replay over MQTT does.
        day: ISO date in the seed's week.
        vans: only these; empty means all.
    """
    chosen = [m for m in messages(day) if not vans or m.van_id in vans]
    return [(m.van_id, m.payload(run), millis(m.body["measured_at"])) for m in chosen]


def routes(day: str = DAY.isoformat()) -> list[tuple[str, bytes, int]]:
    """List the tours of a day: (van, JSON as it says it over MQTT, milliseconds of the departure), in order of time."""
    found = [(tour["van_id"], json.dumps(tour).encode(), millis(tour["departed_at"])) for tour in tours(day).values()]
    return sorted(found, key=lambda record: (record[2], record[0]))
