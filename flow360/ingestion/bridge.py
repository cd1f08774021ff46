"""vans-bridge: the vans' readings out of MQTT into Kafka, by the record.

`python -m flow360.ingestion.bridge --mqtt 127.0.0.1:11883 --kafka 127.0.0.1:19092`

    primeur/vans/VAN-03/temperature   MQTT, QoS 1, in a session that the broker remembers while the bridge is away
    primeur/vans/VAN-03/tour          the same, as the van leaves
    vans.readings        key: van; value: the message, byte for byte; timestamp: when it was measured
    vans.routes          key: van; value: the tour, byte for byte; timestamp: when it left
    vans.readings.dead   key: van; what cannot be a reading, byte for byte, and why in its headers

A message is acknowledged to MQTT when Kafka has acknowledged its record, not before. Killed in between, the bridge is
given the message again, marked so; it looks whether the end of the topic has it, and then does not write it twice. (Not
for ever: MQTT's broker, killed, may forget what it had marked. The alarm overlooks a reading that is doubled, and the
sink an alarm.) Kafka away: nothing is acknowledged, and MQTT's broker sends no more than `IN_FLIGHT` messages that are
not. An error that does not pass by waiting ends the bridge with one line; the supervisor starts it again.

MQTT's broker keeps so many messages for a bridge that is away, and no more (stack/mosquitto/mosquitto.conf). How many
it has given up is a metric, too, and an alert.

A reading is passed on as the thermometer said it, by the contract `readings`: what of it can be used is for one program
to judge, flow360/processing/streams/cold_chain.py. The bridge only needs a van for the key and a moment for the
timestamp; a message that has none by that contract cannot be a reading. Nor can one that was measured after it was
sent: in Kafka its timestamp would bring the time of all readers forward, and its own van's next readings would be late.

What the thermometers say while nobody asks (a run that begins with `idle-`) is a test picture: the same known day again
and again. It would be a new history of that day for the alarm every twenty minutes, so it is acknowledged, counted
(`vans_bridge_messages_total{outcome="idle"}`) and goes no further.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import re
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import paho.mqtt.client as mqtt
import typer
from confluent_kafka import KafkaError, KafkaException, Producer
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions
from prometheus_client import Counter, Gauge, Histogram

from flow360.errors import Exit, ServiceError
from flow360.ingestion.dead_letters import BadRecord
from flow360.ingestion.topics import PARTITIONS, make_topics, read_all
from flow360.ingestion.van_messages import DEAD, INTO, channel_of, judge, letters, van_of
from flow360.monitoring import lineage
from flow360.monitoring.exposition import Exposition
from flow360.monitoring.logs import writing
from flow360.primeur.vans import DEPARTURES, IDLE, READINGS, ROUTES, TOPIC
from flow360.process import at_the_end

SUBSCRIPTIONS = (TOPIC.format(van_id="+"), DEPARTURES.format(van_id="+"))
DROPS = "$SYS/broker/publish/messages/dropped"
NAME = "vans-bridge"
"""The service, and its session at MQTT's broker: a second bridge of that name would throw the first one out."""
LOG = logging.getLogger(NAME)
IN_FLIGHT = 100
"""Messages that MQTT's broker sends before the first of them is acknowledged."""
SESSION_SECONDS = 86_400
"""How long MQTT's broker keeps what comes for a bridge that is away."""
TAIL = 10 * IN_FLIGHT
"""Records at the end of each partition among which a message is looked for that comes again."""
PATIENCE = 5.0
"""Seconds that a message may wait for Kafka before the bridge says that it is not well."""
_IDLE = re.compile(rb'\s*\{\s*"run"\s*:\s*"' + IDLE.encode())

MESSAGES = Counter(
    "vans_bridge_messages", "Messages acknowledged to MQTT: reading, tour, again, idle, or the cause", ["outcome"]
)
RECEIVED = Counter("vans_bridge_received", "Messages taken from MQTT, those that came again included")
WAITING = Gauge("vans_bridge_waiting_messages", "Messages that Kafka has not acknowledged yet")
CONNECTED = Gauge("vans_bridge_mqtt_connected", "1 while the bridge is subscribed at MQTT's broker")
DROPPED = Gauge(
    "vans_bridge_mqtt_dropped_messages",
    "Messages that MQTT's broker has given up since its start, whomever they were for",
)
SECONDS = Histogram(
    "vans_bridge_kafka_seconds",
    "From the arrival of a message to Kafka's acknowledgement",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 60),
)


# --- the bridge -------------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class Entry:
    """A message that was taken: `left` are its records that Kafka has not acknowledged."""

    message: mqtt.MQTTMessage
    outcome: str
    left: int
    since: float = field(default_factory=time.monotonic)

    def is_again(self, message: mqtt.MQTTMessage) -> bool:
        """Say whether that is the same message, sent again because it was not acknowledged in time."""
        old = self.message
        return message.dup and (old.topic, old.payload) == (message.topic, message.payload)


class Written:
    """The readings that were written last, by their checksums."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._sums: dict[bytes, None] = {}  # in the order in which they came

    def add(self, payload: bytes) -> None:
        """Note one, and forget the oldest where there are too many."""
        self._sums[hashlib.sha256(payload).digest()] = None
        if len(self._sums) > self._size:
            del self._sums[next(iter(self._sums))]

    def __contains__(self, payload: bytes) -> bool:
        return hashlib.sha256(payload).digest() in self._sums


class Bridge:
    """The service. `run` blocks until `stop`.

    Two threads meet in it: paho's takes messages, and the one in `run` hears from Kafka and acknowledges.

    Args:
        mqtt_at: host and port of MQTT's broker.
        kafka: host:port of Kafka.
    """

    def __init__(self, mqtt_at: tuple[str, int], kafka: str) -> None:
        self._mqtt_at, self._kafka = mqtt_at, kafka
        self._stop, self._closing = threading.Event(), False
        self._lock = threading.Lock()
        self._order: deque[Entry] = deque()  # of this connection, as they came: MQTT wants its acknowledgements so
        self._waiting: dict[int, Entry] = {}  # message id -> what Kafka has not acknowledged, of any connection
        self._written = Written(TAIL * PARTITIONS)
        self._subscribed = False
        self._carrier = lineage.Carrier(NAME, lineage.VANS, to=map(lineage.topic, (READINGS, ROUTES, DEAD)))
        self.error = ""
        CONNECTED.set_function(lambda: self._subscribed)
        self._producer = Producer(
            {
                "bootstrap.servers": kafka,
                "enable.idempotence": True,
                "linger.ms": 1,
                "message.timeout.ms": 0,  # it waits for Kafka for ever; so does MQTT's broker, for the bridge
                "partitioner": "murmur2_random",  # Java's: a van's tours must be in the partition of its readings
                "reconnect.backoff.max.ms": 1000,
                "socket.timeout.ms": 10_000,
                "log_level": 0,
                "error_cb": self._kafka_says,
            }
        )
        self._client = mqtt.Client(
            CallbackAPIVersion.VERSION2, client_id=NAME, protocol=MQTTProtocolVersion.MQTTv5, manual_ack=True
        )
        self._client.reconnect_delay_set(min_delay=1, max_delay=5)
        self._client.on_connect = self._connected
        self._client.on_subscribe = self._answered
        self._client.on_disconnect = self._disconnected
        self._client.on_message = self._take
        self._client.message_callback_add(DROPS, self._note_drops)

    def run(self) -> None:
        """Carry messages until `stop`; afterwards `error` says why, if something went wrong."""
        if not self._kafka_is_there():
            return
        about = Properties(PacketTypes.CONNECT)
        about.SessionExpiryInterval, about.ReceiveMaximum = SESSION_SECONDS, IN_FLIGHT
        self._client.connect_async(*self._mqtt_at, keepalive=15, clean_start=False, properties=about)
        self._client.loop_start()
        while not self._stop.is_set():
            self._producer.poll(0.2)
        self._closing = True  # what comes now comes again; what was taken is still acknowledged
        self._producer.flush(5)
        self._client.disconnect()
        self._client.loop_stop()
        self._carrier.close()

    def stop(self) -> None:
        """End `run` soon."""
        self._stop.set()

    def health(self) -> tuple[bool, dict[str, Any]]:
        """Say whether messages pass, and what waits."""
        with self._lock:
            oldest = min((entry.since for entry in self._waiting.values()), default=None)
            about = {"subscribed": self._subscribed, "waiting": len(self._waiting), "error": self.error}
        seconds = 0.0 if oldest is None else time.monotonic() - oldest
        return self._subscribed and seconds < PATIENCE, {**about, "oldest_seconds": round(seconds, 1)}

    def _kafka_is_there(self) -> bool:
        told = False
        while not self._stop.is_set():
            try:
                make_topics(self._kafka, [READINGS, ROUTES, DEAD])
                for record in read_all(READINGS, last=TAIL, bootstrap=self._kafka):
                    self._written.add(record.value or b"")
            except ServiceError as error:
                if not told:
                    LOG.warning("waiting: %s", error.message)
                told = True
                self._stop.wait(1)
            else:
                return True
        return False

    # --- MQTT

    def _connected(self, client: mqtt.Client, _userdata: Any, flags: Any, reason: Any, _properties: Any) -> None:
        if reason.is_failure:
            LOG.error("MQTT's broker refuses: %s", reason)
            return
        # What it kept for us comes as it is; a retained message only to a session that is new.
        options = SubscribeOptions(qos=1, retainHandling=SubscribeOptions.RETAIN_SEND_IF_NEW_SUB)
        client.subscribe([(topic, options) for topic in SUBSCRIPTIONS])
        client.subscribe(DROPS, qos=0)
        LOG.info("connected to MQTT, %s", "the session of before" if flags.session_present else "a new session")

    def _answered(self, _client: Any, _userdata: Any, _mid: int, reasons: list[Any], _properties: Any) -> None:
        if any(reason.is_failure for reason in reasons):
            self._fail(f"MQTT's broker refuses the subscription: {reasons[0]}")
        else:
            self._subscribed = True

    def _disconnected(self, _client: Any, _userdata: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        self._subscribed = False
        with self._lock:
            self._order.clear()  # their ids are the old connection's: what is not acknowledged comes again
        LOG.warning("disconnected from MQTT: %s", reason)

    def _note_drops(self, _client: Any, _userdata: Any, message: mqtt.MQTTMessage) -> None:
        with contextlib.suppress(ValueError):
            DROPPED.set(float(message.payload))

    def _take(self, _client: mqtt.Client, _userdata: Any, message: mqtt.MQTTMessage) -> None:
        if self._closing:
            return
        RECEIVED.inc()
        with self._lock:
            entry = self._waiting.get(message.mid)
            if entry and entry.is_again(message):  # Kafka has it still before it: once is enough
                self._order.append(entry)
                return
        try:
            self._pass_on(message)
        except (KafkaException, BufferError) as error:
            self._fail(f"kafka: {error}")

    def _pass_on(self, message: mqtt.MQTTMessage) -> None:
        topic, payload = message.topic, message.payload
        if _IDLE.match(payload):
            self._send(Entry(message, "idle", 0), [])
            return
        with self._lock:
            again = message.dup and payload in self._written
        if again:
            self._send(Entry(message, "again", 0), [])
            return
        try:
            van, moment = judge(topic, payload)
        except BadRecord as error:
            records = [
                {"topic": DEAD, "key": van_of(topic), "value": value, "headers": headers}
                for value, headers in letters(topic, payload, error)
            ]
            self._send(Entry(message, error.cause, len(records)), records)
        else:
            channel = channel_of(topic)
            record = {"topic": channel.into, "key": van, "value": payload, "timestamp": moment}
            self._send(Entry(message, channel.outcome, 1), [record])

    def _send(self, entry: Entry, records: list[dict[str, Any]]) -> None:
        with self._lock:
            self._order.append(entry)
            if records:
                self._waiting[entry.message.mid] = entry
                WAITING.set(len(self._waiting))
            self._acknowledge()
        for record in records:
            self._producer.produce(**record, on_delivery=partial(self._delivered, entry))

    # --- Kafka

    def _delivered(self, entry: Entry, error: KafkaError | None, _record: Any) -> None:
        if error is not None:
            self._fail(f"kafka: {error.str()}")
            return
        with self._lock:
            entry.left -= 1
            if entry.left:
                return
            SECONDS.observe(time.monotonic() - entry.since)
            self._carrier.read(lineage.VANS)
            self._carrier.wrote(lineage.topic(INTO.get(entry.outcome, DEAD)))
            if entry.outcome == "reading":
                self._written.add(entry.message.payload)
            if self._waiting.get(entry.message.mid) is entry:
                del self._waiting[entry.message.mid]
            WAITING.set(len(self._waiting))
            self._acknowledge()

    def _acknowledge(self) -> None:
        """Acknowledge what is done and has nothing before it that is not. (The lock is the caller's.)"""
        while self._order and not self._order[0].left:
            entry = self._order.popleft()
            self._client.ack(entry.message.mid, entry.message.qos)
            MESSAGES.labels(entry.outcome).inc()

    def _kafka_says(self, error: KafkaError) -> None:
        if error.fatal():
            self._fail(f"kafka: {error.str()}")
        elif error.code() == KafkaError._ALL_BROKERS_DOWN:
            LOG.warning("kafka is away; %s messages wait", len(self._waiting))

    def _fail(self, why: str) -> None:
        """End, and begin again from there: nothing of what waits was acknowledged, so all of it comes again."""
        self.error = self.error or why
        self._closing = True
        self.stop()


def address(text: str) -> tuple[str, int]:
    """Read "HOST:PORT" as a pair."""
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal():
        raise typer.BadParameter(f"{text!r} is not HOST:PORT")
    return host, int(port)


def main(
    host: str = "127.0.0.1", port: int = 19309, mqtt: str = "127.0.0.1:11883", kafka: str = "127.0.0.1:19092"
) -> None:
    """Carry readings from MQTT to Kafka until SIGTERM; /metrics and /health on HOST:PORT."""
    writing.to_stdout()
    bridge = Bridge(address(mqtt), kafka)
    exposition = Exposition(host, port, NAME, bridge.health)
    at_the_end(bridge.stop)
    bridge.run()
    exposition.close()
    if bridge.error:
        LOG.error(bridge.error)
        raise typer.Exit(Exit.FAILED)


if __name__ == "__main__":
    typer.run(main)
