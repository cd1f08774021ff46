"""Asking market-sensors for the readings of a day, as market-day does while it plays one."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from threading import Condition
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from pydantic import BaseModel, ValidationError

from flow360.primeur.vans.sensors import CONTROL, REPLAYS, STATUS
from flow360.waiting import patient

LOG = logging.getLogger("market-day")


class _News(BaseModel):
    """What market-sensors says of itself or of a replay, as far as it matters here."""

    state: str
    started: str | None = None
    id: str = ""


class Vans:
    """A connection to the broker that is made in the background, again and again until there is one."""

    def __init__(self, host: str, port: int) -> None:
        self._changed = Condition()
        self._started: str | None = None
        self._ended: set[str] = set()
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="market-day")
        self._client.reconnect_delay_set(min_delay=1, max_delay=5)
        self._client.on_connect = self._connected
        self._client.on_disconnect = self._disconnected
        self._client.on_message = self._heard
        self._client.connect_async(host, port, keepalive=15)
        self._client.loop_start()

    def _connected(self, client: mqtt.Client, userdata: Any, flags: Any, reason: Any, properties: Any) -> None:
        if reason.is_failure:
            LOG.error("the vans' broker refuses: %s", reason)
        else:
            client.subscribe([(STATUS, 1), (REPLAYS.format(id="+"), 1)])

    def _disconnected(self, client: mqtt.Client, userdata: Any, flags: Any, reason: Any, properties: Any) -> None:
        with self._changed:
            self._started = None

    def _heard(self, client: mqtt.Client, userdata: Any, message: mqtt.MQTTMessage) -> None:
        try:
            said = _News.model_validate_json(message.payload)
        except ValidationError:  # anybody may publish there
            LOG.warning("not understood on %s: %r", message.topic, message.payload[:80])
            return
        with self._changed:
            if message.topic == STATUS:
                self._started = said.started if said.state == "online" else None
            elif said.state == "complete":
                self._ended.add(said.id)
            self._changed.notify_all()

    @property
    def service(self) -> str | None:
        """A mark of the market-sensors that is there, another one after each of its starts; None while none is."""
        with self._changed:
            return self._started

    def ask(self, run: str, day: str, speed: float, since: float, clock: float) -> None:
        """Ask for a day's readings from a moment on; it takes the place of what was asked under this name before.

        Args:
            run: the replay's id.
            day: ISO date.
            speed: how much faster than life; 0 is at once.
            since: the first moment that is wanted, in seconds since 1970.
            clock: what time it is there now.
        """
        with self._changed:
            self._ended.discard(run)
        moments = {"since": _utc(since), "clock": _utc(clock)}
        self._client.publish(CONTROL, json.dumps({"id": run, "day": day, "speed": speed, **moments}), qos=1)

    def ended(self, run: str, seconds: float = 0) -> bool:
        """Wait for a replay to end, so many seconds of an idle machine at most; say whether the broker has it all."""
        with self._changed:
            return self._changed.wait_for(lambda: run in self._ended, patient(seconds))

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


def _utc(second: float) -> str:
    return datetime.fromtimestamp(second, UTC).isoformat()
