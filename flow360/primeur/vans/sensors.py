"""market-sensors: the vans over MQTT. `python -m flow360.primeur.vans.sensors --host 127.0.0.1 --port 11883`.

While nobody asks, the known day trickles by in a loop. A message on `primeur/control/replay` starts a replay:

    {"id": "my-run", "day": "2026-05-07", "speed": 3600, "vans": ["VAN-03"]}      (all of it optional)

Its readings carry `"run": "my-run"`; `primeur/sensors/replays/my-run` says when it started and, after the broker has
taken its last reading, what was sent. `primeur/sensors/status` is retained and says whether the service lives: the
broker publishes "offline" by itself (the last will) when the connection dies.

Replays wait for each other, but for those that follow a clock (`"clock": "2026-05-07T10:00:00Z"` is the time there as
they begin; market-day asks so). Such a one may last for hours: it runs beside the others, and takes the place of one
of the same id.
"""

from __future__ import annotations

import itertools
import json
import logging
import queue
from datetime import UTC, datetime
from threading import Condition, Event, Thread
from typing import Annotated, Any

import paho.mqtt.client as mqtt
import typer
from paho.mqtt.enums import CallbackAPIVersion

from flow360.monitoring import lineage
from flow360.monitoring.logs import writing
from flow360.primeur.records import utc
from flow360.primeur.vans import IDLE
from flow360.primeur.vans.replay import Request, messages, play
from flow360.process import at_the_end
from flow360.settings import settings

LOG = logging.getLogger("market-sensors")
CONTROL = "primeur/control/replay"
STATUS = "primeur/sensors/status"
REPLAYS = "primeur/sensors/replays/{id}"
IDLE_RATE = 5.0
"""Messages a second while nobody asks."""
WINDOW = 2_000
"""Messages that may wait for the broker's acknowledgement."""


def _now() -> str:
    return utc(datetime.now(UTC))


class _Following(Thread):
    """A replay that follows a clock, in a thread of its own."""

    def __init__(self, sensors: Sensors, request: Request) -> None:
        super().__init__(name=request.id, daemon=True)
        self._sensors, self._request = sensors, request
        self._enough = Event()

    def run(self) -> None:
        self._sensors.replay(self._request, self._enough)

    def end(self) -> None:
        """Let it stop before its next message, and wait until it has."""
        self._enough.set()
        self.join()


class Sensors:
    """The service. `run` blocks until `stop` is called."""

    def __init__(self, host: str, port: int, rate: float = IDLE_RATE) -> None:
        self._host, self._port, self._rate = host, port, rate
        self._asked: queue.SimpleQueue[Request | None] = queue.SimpleQueue()
        self._stop = Event()
        self._following: dict[str, _Following] = {}  # by their id: the replays that follow a clock
        self._acks = Condition()
        self._sent = self._acked = 0
        self._numbers = itertools.count(1)
        self._carrier = lineage.Carrier("market-sensors", to=lineage.VANS)  # of replays: idle readings go nowhere
        self._started = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
        # one fixed name: a second service of the same name would throw the first one out, and not double its readings
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="market-sensors")
        self._client.max_inflight_messages_set(200)
        self._client.reconnect_delay_set(min_delay=1, max_delay=5)
        self._client.will_set(STATUS, json.dumps({"state": "offline"}), qos=1, retain=True)
        self._client.on_connect = self._connected
        self._client.on_message = self._control
        self._client.on_publish = self._acknowledged

    def _connected(self, client: mqtt.Client, userdata: Any, flags: Any, reason: Any, properties: Any) -> None:
        if reason.is_failure:
            LOG.error("the broker refuses: %s", reason)
            return
        client.subscribe(CONTROL, qos=1)
        state = {"state": "online", "since": _now(), "started": self._started}
        self._publish(STATUS, json.dumps(state).encode(), retain=True)
        LOG.info("connected to %s:%s", self._host, self._port)

    def _control(self, client: mqtt.Client, userdata: Any, message: mqtt.MQTTMessage) -> None:
        fallback = f"replay-{self._started}-{next(self._numbers)}"
        try:
            request = Request.parse(message.payload, fallback)
        except ValueError as error:
            self._tell("rejected", {"state": "rejected", "error": str(error)})
        else:
            self._asked.put(request)

    def _acknowledged(self, client: mqtt.Client, userdata: Any, mid: int, reason: Any, properties: Any) -> None:
        with self._acks:
            self._acked += 1
            self._acks.notify_all()

    def _publish(self, topic: str, payload: bytes, retain: bool = False) -> None:
        with self._acks:
            self._sent += 1
        self._client.publish(topic, payload, qos=1, retain=retain)

    def _tell(self, name: str, news: dict[str, Any]) -> None:
        self._publish(REPLAYS.format(id=name), json.dumps({"id": name, **news}).encode())

    def _settled(self, waiting: int, deadline: float) -> bool:
        """Wait until at most so many messages are not acknowledged. False when the deadline passed or `stop` came."""
        with self._acks:
            self._acks.wait_for(lambda: self._sent - self._acked <= waiting or self._stop.is_set(), deadline)
            return self._sent - self._acked <= waiting

    def _reading(self, topic: str, payload: bytes) -> None:
        # the broker away: wait for it, the messages so far are kept by the client
        while not self._settled(WINDOW, 60) and not self._stop.is_set():
            LOG.warning("waiting for the broker")
        self._publish(topic, payload)
        self._carrier.wrote(lineage.VANS)

    def replay(self, request: Request, stop: Event) -> None:
        """Play a replay until its end or `stop`, and report its counts."""
        started = _now()
        about = {"day": request.day, "speed": request.speed, "vans": list(request.vans)}
        self._tell(request.id, {"state": "started", **about})
        tally, complete = play(request, self._reading, stop.wait)
        while not self._settled(0, 60) and not self._stop.is_set():
            LOG.warning("waiting for the broker")
        state = "complete" if complete else "stopped"
        self._tell(request.id, {"state": state, **about, **tally.as_dict(), "started_at": started, "ended_at": _now()})
        LOG.info("replay %s: %s messages", state, tally.sent, extra={"run_id": request.id})

    def run(self) -> None:
        """Connect (again and again until the broker is there) and publish until `stop`."""
        self._client.connect_async(self._host, self._port, keepalive=15)
        self._client.loop_start()
        day = Request("idle").day
        idle = ((number, message) for number in itertools.count(1) for message in messages(day))
        while not self._stop.is_set():
            try:
                request = self._asked.get(timeout=1 / self._rate)
            except queue.Empty:
                # an idle reading is not worth keeping for a broker that is away
                if self._client.is_connected() and not self._is_following():
                    number, message = next(idle)
                    self._publish(message.topic, message.payload(f"{IDLE}{self._started}-{number}"))
                continue
            if request and request.clock is None:
                self.replay(request, self._stop)
            elif request:
                self._follow(request)
        for following in self._following.values():
            following.end()
        self._goodbye()

    def _is_following(self) -> bool:
        return any(following.is_alive() for following in self._following.values())

    def _follow(self, request: Request) -> None:
        if before := self._following.get(request.id):
            before.end()
        self._following = {name: one for name, one in self._following.items() if one.is_alive()}
        self._following[request.id] = _Following(self, request)
        self._following[request.id].start()

    def _goodbye(self) -> None:
        if self._client.is_connected():
            farewell = self._client.publish(STATUS, json.dumps({"state": "offline"}), qos=1, retain=True)
            farewell.wait_for_publish(5)
        self._client.disconnect()
        self._client.loop_stop()
        self._carrier.close()

    def stop(self) -> None:
        """End `run` soon; from any thread, but not from a signal handler, which could find a lock taken by itself."""
        self._stop.set()
        with self._acks:
            self._acks.notify_all()
        self._asked.put(None)


def online(host: str, port: int, deadline: float = 5.0) -> bool:
    """Ask whether the broker has the retained word "online" of a running service."""
    words: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    client = mqtt.Client(CallbackAPIVersion.VERSION2)
    client.on_connect = lambda *_: client.subscribe(STATUS, qos=1)
    client.on_message = lambda _, __, message: words.put(message.payload)
    try:
        client.connect(host, port, keepalive=15)
        client.loop_start()
        return json.loads(words.get(timeout=deadline)).get("state") == "online"
    except (OSError, queue.Empty):
        return False
    finally:
        client.disconnect()
        client.loop_stop()


def main(
    host: str = "127.0.0.1",
    port: Annotated[int | None, typer.Option(help="MQTT port; from the settings by default.")] = None,
    rate: Annotated[float, typer.Option(min=0.1, max=1000, help="Messages a second while nobody asks.")] = IDLE_RATE,
    check: Annotated[
        bool, typer.Option("--check", help="Only say by the exit code whether the service lives.")
    ] = False,
) -> None:
    """Publish until SIGTERM."""
    if check:
        raise typer.Exit(0 if online(host, port or settings().mqtt_port) else 1)
    writing.to_stdout()
    sensors = Sensors(host, port or settings().mqtt_port, rate)
    at_the_end(sensors.stop)
    sensors.run()


if __name__ == "__main__":
    typer.run(main)
