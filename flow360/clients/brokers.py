"""Kafka, ZooKeeper and MQTT."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from flow360.clients import reach
from flow360.errors import ServiceError
from flow360.settings import settings
from flow360.waiting import patient

if TYPE_CHECKING:
    import paho.mqtt.client
    from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer
    from kazoo.client import KazooClient

REASON_SECONDS = 1.0
"""How long kazoo's thread may take to learn why ZooKeeper closed the connection, on an idle machine."""


def _kafka(make: type, *args: Any, **cfg: Any) -> Any:
    from kafka.errors import KafkaConnectionError, KafkaTimeoutError

    if "bootstrap_servers" not in cfg and not reach.answers("kafka"):
        raise reach.is_down("kafka")
    defaults = {
        "bootstrap_servers": settings().kafka_bootstrap,
        "bootstrap_timeout_ms": reach.CONNECT_SECONDS * 1000,
        "reconnect_backoff_max_ms": 1000,
    }
    try:
        with reach.quiet("kafka"):
            return make(*args, **{**defaults, **cfg})
    except (KafkaTimeoutError, KafkaConnectionError) as error:
        raise reach.is_down("kafka", error) from None


def producer(**cfg: Any) -> KafkaProducer:
    """Make a kafka-python producer; keys and values are bytes unless you pass key_serializer, value_serializer.

    Defaults that differ from the library's: a send waits 10 s at most for metadata (max_block_ms). acks=all and
    enable_idempotence=True are the library's own; a lesson that wants less says so.

    Raises:
        FlowError: the broker is down.
    """
    from kafka import KafkaProducer

    return _kafka(KafkaProducer, **{"max_block_ms": 10_000, "request_timeout_ms": 10_000, **cfg})


def consumer(*topics: str, **cfg: Any) -> KafkaConsumer:
    """Make a kafka-python consumer that starts at the earliest record and whose `for` loop ends after 10 quiet seconds.

    Args:
        topics: what to subscribe to; none when you will `assign` partitions.
        cfg: e.g. group_id="primeur", enable_auto_commit=False, consumer_timeout_ms=2000.

    Raises:
        FlowError: the broker is down.
    """
    from kafka import KafkaConsumer

    made = _kafka(KafkaConsumer, *topics, **{"auto_offset_reset": "earliest", "consumer_timeout_ms": 10_000, **cfg})
    # kafka-python 3.0.12 forgets a join that outlasts a poll: the leader of a group, whose topic has got partitions,
    # calls itself up to date before it has its answer, never fetches it, and never sends a heartbeat again.
    coordinator = made._coordinator
    needed = coordinator.need_rejoin
    coordinator.need_rejoin = lambda: coordinator._join_task is not None or needed()
    return made


def kafka_admin(**cfg: Any) -> KafkaAdminClient:
    """Make kafka-python's admin client: topics, groups, offsets. Close it, or say `with kafka_admin() as admin:`."""
    from kafka import KafkaAdminClient

    return _kafka(KafkaAdminClient, **{"request_timeout_ms": 10_000, **cfg})


def confluent(**cfg: Any) -> dict[str, Any]:
    """Make the configuration of a confluent-kafka (librdkafka) client: `Producer(confluent(linger_ms=5))`.

    Underscores become dots (`group_id` -> `group.id`), except in callbacks (`error_cb`).

    Raises:
        FlowError: the broker is down; librdkafka itself would retry without a word.
    """
    reach.require("kafka")
    dotted = {k if k.endswith("_cb") or k.startswith("on_") else k.replace("_", "."): v for k, v in cfg.items()}
    return {"bootstrap.servers": settings().kafka_bootstrap, "socket.timeout.ms": 10_000, **dotted}


@contextmanager
def zookeeper(**kw: Any) -> Iterator[KazooClient]:
    """Start a kazoo client, logged in: `with zookeeper() as zk: zk.get_children("/brokers/ids")`.

    Raises:
        FlowError: ZooKeeper is down, refuses the password, or closes the connection.
    """
    from kazoo.client import KazooClient
    from kazoo.exceptions import AuthFailedError, ConnectionLoss, SessionClosedRequireSaslError
    from kazoo.handlers.threading import KazooTimeoutError, SequentialThreadingHandler

    class Handler(SequentialThreadingHandler):
        """kazoo's own, but that the thread which was refused ends without a traceback: ours says it in one line."""

        refused = threading.Event()

        def spawn(self, func: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            def run() -> None:
                try:
                    func(*args, **kwargs)
                except SessionClosedRequireSaslError:
                    self.refused.set()

            return super().spawn(run)

    if "hosts" not in kw and not reach.answers("zookeeper"):
        raise reach.is_down("zookeeper")
    handler = Handler()
    login = {"mechanism": "DIGEST-MD5", "username": "primeur", "password": settings().zookeeper_password}
    defaults = {"hosts": settings().zookeeper_hosts, "timeout": 10.0, "sasl_options": login, "handler": handler}
    client = KazooClient(**{**defaults, **kw})
    try:
        try:
            with reach.quiet("kazoo"):
                client.start(timeout=reach.CONNECT_SECONDS)
                client.exists("/")  # it counts as connected before it has logged in
        except (AuthFailedError, ConnectionLoss) as error:
            # Either may only mean a lost connection; a moment later kazoo's thread knows whether we were refused.
            if handler.refused.wait(patient(REASON_SECONDS)):
                line = "zookeeper refuses the password: is .env the one that it was started with?"
                raise ServiceError(line) from None
            if not reach.answers("zookeeper"):
                raise reach.is_down("zookeeper", error) from None
            line = "zookeeper closed the connection before it let us in: try again, or see flow360 logs zookeeper"
            raise ServiceError(line) from None
        except KazooTimeoutError as error:
            raise reach.is_down("zookeeper", error) from None
        yield client
    finally:
        client.stop()
        client.close()


def mqtt(
    client_id: str = "", *, on_message: Callable[..., None] | None = None, keepalive: int = 30, **kw: Any
) -> paho.mqtt.client.Client:
    """Connect a paho client (version 2 callbacks), with its network thread running.

    Pass `on_message=f` with `f(client, userdata, message)`, then `client.subscribe(topic, qos=1)`. When done:
    `client.disconnect(); client.loop_stop()`.

    Args:
        client_id: a name makes a session that the broker remembers when `clean_session=False` is passed too.
        on_message: who gets the messages. It may be set later as an attribute, but what a remembered session has kept
            comes at once with the connection, and would find nobody.
        keepalive: seconds between signs of life.
        kw: anything else that `paho.mqtt.client.Client` takes.

    Raises:
        FlowError: the broker is down or refuses the connection.
    """
    from paho.mqtt.client import Client
    from paho.mqtt.enums import CallbackAPIVersion

    client = Client(CallbackAPIVersion.VERSION2, client_id=client_id, **kw)
    client.connect_timeout = reach.CONNECT_SECONDS
    client.on_message = on_message
    answer: list[Any] = []
    acknowledged = threading.Event()

    def on_connect(_client: Any, _userdata: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        answer.append(reason)
        acknowledged.set()

    client.on_connect = on_connect
    try:
        client.connect("127.0.0.1", settings().mqtt_port, keepalive=keepalive)
    except OSError as error:
        raise reach.is_down("mosquitto", error) from None
    client.loop_start()
    if not acknowledged.wait(reach.CONNECT_SECONDS) or answer[0].is_failure:
        client.disconnect()
        client.loop_stop()
        if answer:
            raise ServiceError(f"mosquitto refused the connection: {answer[0]}")
        raise reach.is_down("mosquitto", f"no answer to CONNECT within {reach.CONNECT_SECONDS} s")
    client.on_connect = None
    return client
