"""Connections to the services, one line each: `with postgres("source") as db: ...`.

Every function knows address and credentials from `settings()`, sets a time-out, and answers a service that is down with
one line that says which one and how to start it. Libraries are imported where they are used, so that importing this
module costs nothing.
"""

from __future__ import annotations

import logging
import os
import re
import socket
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from flow360.errors import Exit, FlowError
from flow360.settings import settings

if TYPE_CHECKING:
    import adbc_driver_postgresql.dbapi
    import paho.mqtt.client
    import psycopg
    import requests
    import sqlalchemy
    from fsspec.implementations.webhdfs import WebHDFS
    from impala.hiveserver2 import HiveServer2Connection
    from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer
    from kazoo.client import KazooClient
    from pyspark.sql.connect.session import SparkSession

    from flow360.monitoring.prometheus import Prometheus

CONNECT_SECONDS = 5
_PORT_SETTING = {
    "zookeeper": "zookeeper_port",
    "kafka": "kafka_port",
    "postgres-source": "postgres_source_port",
    "postgres-dwh": "postgres_dwh_port",
    "mosquitto": "mqtt_port",
    "market-api": "market_api_port",
    "kafka-streams": "streams_port",
    "prometheus": "prometheus_port",
    "alertmanager": "alertmanager_port",
    "pushgateway": "pushgateway_port",
    "node-exporter": "node_exporter_port",
    "postgres-exporter": "postgres_exporter_port",
    "kafka-exporter": "kafka_exporter_port",
    "grafana": "grafana_port",
    "spark-master": "spark_master_port",
    "spark-worker": "spark_worker_web_port",
    "spark-connect": "spark_connect_port",
    "namenode": "namenode_web_port",
    "datanode": "datanode_web_port",
    "datanode-2": "datanode_2_web_port",
    "datanode-3": "datanode_3_web_port",
    "hive-metastore": "hive_metastore_port",
    "hive-server": "hive_server_port",
    "jupyterlab": "jupyter_port",
    "airflow-webserver": "airflow_port",
}
# service, and what the database, its role and the settings of its password are called
_POSTGRES = {
    "warehouse": ("postgres-dwh", "datawarehouse", "warehouse", "postgres_dwh"),
    "source": ("postgres-source", "shop", "shop", "postgres_source"),
    "airflow": ("postgres-dwh", "airflow_metadata", "airflow", "airflow_db"),
    "hive": ("postgres-dwh", "hive_metastore", "hive", "hive_db"),
}
_ALSO = {"postgres-dwh": "warehouse", "dwh": "warehouse", "postgres-source": "source", "shop": "source"}


def port_of(service: str) -> int | None:
    """The port of a service on 127.0.0.1, or None when it listens on none (market-sensors)."""
    name = _PORT_SETTING.get(service)
    return getattr(settings(), name) if name else None


def answers(service: str, seconds: float = 1.0) -> bool:
    """Whether something accepts connections on the service's port (True for a service without one)."""
    port = port_of(service)
    if port is None:
        return True
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=seconds):
            return True
    except OSError:
        return False


def is_down(service: str) -> FlowError:
    """The one line about a service that does not answer: which, where, and what to type."""
    port = port_of(service)
    where = f" on 127.0.0.1:{port}" if port else ""
    return FlowError(f"{service} does not answer{where}: start it with `flow360 up {service}`", Exit.SERVICE)


# --- PostgreSQL -----------------------------------------------------------------------------------


def _postgres_service(which: str) -> tuple[str, dict[str, Any]]:
    try:
        service, database, user, key = _POSTGRES[_ALSO.get(which, which)]
    except KeyError:
        raise FlowError(
            f'there is no database {which!r}: use "warehouse", "source", "airflow" or "hive"', Exit.USAGE
        ) from None
    s = settings()
    return service, {
        "host": "127.0.0.1",
        "port": port_of(service),
        "user": user,
        "password": getattr(s, f"{key}_password"),
        "dbname": database,
        "connect_timeout": CONNECT_SECONDS,
        "application_name": "flow360",
        "options": "-c statement_timeout=120s",
    }


def postgres(which: str = "warehouse", **kw: Any) -> psycopg.Connection:
    """A connection to the warehouse (`datawarehouse`), the source (`shop`), or the state of Airflow or Hive.

    Used as `with postgres() as db:` it commits at the end of the block, rolls back on an error, and closes.

    Args:
        which: "warehouse", "source", "airflow" or "hive".
        kw: anything that `psycopg.connect` takes, e.g. autocommit=True, row_factory=dict_row; it wins over the
            defaults (5 s to connect, 120 s a statement).

    Raises:
        FlowError: the server is down, is still starting, or refuses the password of `.env`.
    """
    import psycopg

    service, defaults = _postgres_service(which)
    try:
        return psycopg.connect(**{**defaults, **kw})
    except psycopg.OperationalError as error:
        raise _postgres_error(service, str(error)) from None


def _postgres_error(service: str, text: str) -> FlowError:
    if "authentication failed" in text or "no password supplied" in text:
        return FlowError(
            f"{service} refused the password of .env: put back the .env that the database was made with, "
            f"or make it anew with `flow360 reset {service}` (its data goes)",
            Exit.SERVICE,
        )
    if "starting up" in text or "shutting down" in text or "recovery" in text:
        return FlowError(f"{service} is not ready yet: try again in a few seconds, or `flow360 status`", Exit.SERVICE)
    if "does not exist" in text or "too many clients" in text or "permission denied" in text:
        # The driver adds where it connected to, and sometimes a DETAIL: the line that matters is the server's own.
        said = next((line for line in text.splitlines() if "FATAL:" in line), text.strip().splitlines()[-1])
        return FlowError(f"{service}: {said[max(0, said.find('FATAL:')) :].strip()}", Exit.SERVICE)
    return is_down(service)


def engine(which: str = "warehouse", **kw: Any) -> sqlalchemy.Engine:
    """A SQLAlchemy engine (psycopg 3) for the warehouse or the source; it has been asked once when you get it.

    Raises:
        FlowError: as `postgres`.
    """
    import sqlalchemy

    postgres(which).close()
    _, at = _postgres_service(which)
    url = sqlalchemy.URL.create(
        "postgresql+psycopg",
        username=at.pop("user"),
        password=at.pop("password"),
        host=at.pop("host"),
        port=at.pop("port"),
        database=at.pop("dbname"),
    )
    return sqlalchemy.create_engine(url, **{"pool_pre_ping": True, "connect_args": at, **kw})


def adbc(which: str = "warehouse") -> adbc_driver_postgresql.dbapi.Connection:
    """An ADBC connection, which takes and gives Arrow tables: `cursor.adbc_ingest("t", table, mode="append")`.

    Used as `with adbc() as db:` it closes at the end; commit yourself.

    Raises:
        FlowError: as `postgres`.
    """
    from urllib.parse import quote

    from adbc_driver_postgresql import dbapi

    postgres(which).close()
    _, at = _postgres_service(which)
    who = f"{quote(at['user'])}:{quote(at['password'])}"
    return dbapi.connect(f"postgresql://{who}@{at['host']}:{at['port']}/{at['dbname']}")


# --- Kafka and ZooKeeper --------------------------------------------------------------------------


@contextmanager
def _quiet(logger: str) -> Iterator[None]:
    """Keep a library's connection chatter out of the notebook while we wait for it: our one line says it better."""
    log = logging.getLogger(logger)
    before = log.level
    log.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        log.setLevel(before)


def _kafka(make: type, *args: Any, **cfg: Any) -> Any:
    from kafka.errors import KafkaConnectionError, KafkaTimeoutError

    if "bootstrap_servers" not in cfg and not answers("kafka"):
        raise is_down("kafka")
    defaults = {
        "bootstrap_servers": settings().kafka_bootstrap,
        "bootstrap_timeout_ms": CONNECT_SECONDS * 1000,
        "reconnect_backoff_max_ms": 1000,
    }
    try:
        with _quiet("kafka"):
            return make(*args, **{**defaults, **cfg})
    except (KafkaTimeoutError, KafkaConnectionError):
        raise is_down("kafka") from None


def producer(**cfg: Any) -> KafkaProducer:
    """A kafka-python producer; keys and values are bytes unless you pass key_serializer, value_serializer.

    Defaults that differ from the library's: a send waits 10 s at most for metadata (max_block_ms). acks=all and
    enable_idempotence=True are the library's own; a lesson that wants less says so.

    Raises:
        FlowError: the broker is down.
    """
    from kafka import KafkaProducer

    return _kafka(KafkaProducer, **{"max_block_ms": 10_000, "request_timeout_ms": 10_000, **cfg})


def consumer(*topics: str, **cfg: Any) -> KafkaConsumer:
    """A kafka-python consumer that starts at the earliest record and whose `for` loop ends after 10 quiet seconds.

    Args:
        topics: what to subscribe to; none when you will `assign` partitions.
        cfg: e.g. group_id="primeur", enable_auto_commit=False, consumer_timeout_ms=2000.

    Raises:
        FlowError: the broker is down.
    """
    from kafka import KafkaConsumer

    return _kafka(KafkaConsumer, *topics, **{"auto_offset_reset": "earliest", "consumer_timeout_ms": 10_000, **cfg})


def kafka_admin(**cfg: Any) -> KafkaAdminClient:
    """kafka-python's admin client: topics, groups, offsets. Close it, or use it as `with kafka_admin() as admin:`."""
    from kafka import KafkaAdminClient

    return _kafka(KafkaAdminClient, **{"request_timeout_ms": 10_000, **cfg})


def confluent(**cfg: Any) -> dict[str, Any]:
    """The configuration of a confluent-kafka (librdkafka) client: `Producer(confluent(linger_ms=5))`.

    Underscores become dots (`group_id` -> `group.id`), except in callbacks (`error_cb`).

    Raises:
        FlowError: the broker is down; librdkafka itself would retry without a word.
    """
    if not answers("kafka"):
        raise is_down("kafka")
    dotted = {k if k.endswith("_cb") or k.startswith("on_") else k.replace("_", "."): v for k, v in cfg.items()}
    return {"bootstrap.servers": settings().kafka_bootstrap, "socket.timeout.ms": 10_000, **dotted}


@contextmanager
def zookeeper(**kw: Any) -> Iterator[KazooClient]:
    """A started kazoo client: `with zookeeper() as zk: zk.get_children("/brokers/ids")`.

    Raises:
        FlowError: ZooKeeper is down.
    """
    from kazoo.client import KazooClient
    from kazoo.handlers.threading import KazooTimeoutError

    if "hosts" not in kw and not answers("zookeeper"):
        raise is_down("zookeeper")
    client = KazooClient(**{"hosts": settings().zookeeper_hosts, "timeout": 10.0, **kw})
    try:
        try:
            with _quiet("kazoo"):
                client.start(timeout=CONNECT_SECONDS)
        except KazooTimeoutError:
            raise is_down("zookeeper") from None
        yield client
    finally:
        client.stop()
        client.close()


# --- MQTT and REST --------------------------------------------------------------------------------


def mqtt(
    client_id: str = "", *, on_message: Callable[..., None] | None = None, keepalive: int = 30, **kw: Any
) -> paho.mqtt.client.Client:
    """A paho (version 2 callbacks) client, connected, with its network thread running.

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
    import threading

    from paho.mqtt.client import Client
    from paho.mqtt.enums import CallbackAPIVersion

    client = Client(CallbackAPIVersion.VERSION2, client_id=client_id, **kw)
    client.connect_timeout = CONNECT_SECONDS
    client.on_message = on_message
    answer: list[Any] = []
    acknowledged = threading.Event()

    def on_connect(_client: Any, _userdata: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        answer.append(reason)
        acknowledged.set()

    client.on_connect = on_connect
    try:
        client.connect("127.0.0.1", settings().mqtt_port, keepalive=keepalive)
    except OSError:
        raise is_down("mosquitto") from None
    client.loop_start()
    if not acknowledged.wait(CONNECT_SECONDS) or answer[0].is_failure:
        client.disconnect()
        client.loop_stop()
        if answer:
            raise FlowError(f"mosquitto refused the connection: {answer[0]}", Exit.SERVICE)
        raise is_down("mosquitto")
    client.on_connect = None
    return client


def api(seconds: float = 10.0) -> requests.Session:
    """A requests session for market-api: `api().get("/orders", params={"limit": 100})`.

    Paths are joined to the service's address, and each request has a time-out (`seconds`, or `timeout=` of the call).
    What HTTP says (429, 500) comes back as a response, and a slow answer as requests.Timeout: they are yours to handle.

    Raises:
        FlowError: from a request, when nothing listens on the service's port.
    """
    return _session("market-api", settings().market_api_url, seconds)


def airflow(seconds: float = 30.0) -> requests.Session:
    """A requests session for Airflow's REST API, logged in: `airflow().get("/dags/hourly_ingestion").json()`.

    Paths are joined to the address of the API's version 2. The token is good for a day.

    Raises:
        FlowError: the api-server is down; also from a request that it refuses (400 and above), with its reason.
    """
    s = settings()
    session = _session("airflow-webserver", s.airflow_url, seconds)
    session.hooks["response"].append(_refusal)
    login = {"username": "primeur", "password": s.airflow_password}
    token = session.post("/auth/token", json=login).json()["access_token"]
    session.headers["Authorization"] = f"Bearer {token}"
    session.base += "/api/v2"
    return session


def _refusal(answer: requests.Response, *_: Any, **__: Any) -> None:
    """What Airflow's API says when it does not do what it was asked for, as one line."""
    if answer.status_code < 400:
        return
    try:
        detail = answer.json()["detail"]
    except (ValueError, KeyError, TypeError):
        detail = answer.text[:200]
    if isinstance(detail, list):  # what was wrong with which field
        detail = "; ".join(f"{'.'.join(map(str, one['loc'][1:]))}: {one['msg']}" for one in detail)
    elif isinstance(detail, dict):  # the database said no
        detail = detail.get("reason") or detail.get("message") or str(detail)
        detail = f"there is one already ({detail})" if answer.status_code == 409 else detail
    method, path = answer.request.method, answer.request.path_url.removeprefix("/api/v2")
    if answer.status_code == 401:
        detail = f"{detail}: is .env the one that airflow-webserver was started with?"
    raise FlowError(f"airflow: {method} {path}: {answer.status_code}: {detail}")


def _session(service: str, base: str, seconds: float) -> Any:
    """A requests session whose paths begin at `base` and whose requests have a time-out."""
    import requests

    class Session(requests.Session):
        def request(self, method: str, url: str, **kw: Any) -> requests.Response:  # type: ignore[override]
            if url.startswith("/"):
                url = self.base + url
            kw.setdefault("timeout", seconds)
            try:
                return super().request(method, url, **kw)
            except requests.ConnectionError:
                # A connection cut in the middle is the network's weather and the caller's to retry; no listener is not.
                if url.startswith(base) and not answers(service):
                    raise is_down(service) from None
                raise

    session = Session()
    session.base = base
    session.trust_env = False  # a proxy in the environment must not be asked for 127.0.0.1
    return session


# --- Metrics --------------------------------------------------------------------------------------


def prometheus() -> Prometheus:
    """Prometheus: `prom = prometheus()`, then `prom.query("up")` gives a DataFrame; also alerts, targets, rules.

    Raises:
        FlowError: it is down.
    """
    from flow360.monitoring.prometheus import Prometheus

    if not answers("prometheus"):
        raise is_down("prometheus")
    return Prometheus()


# --- Spark ----------------------------------------------------------------------------------------


def spark() -> SparkSession:
    """This process's session on the Connect server that all notebooks share: `spark().read.parquet(...)`.

    A second call gives the same session; after the server was started anew, a new one (views and cached tables of the
    old one are gone with it). A call to a server that went away gives up after some 5 seconds.

    Raises:
        FlowError: the server is down.
    """
    if not answers("spark-connect"):
        raise is_down("spark-connect")
    os.environ["SPARK_CONNECT_MODE_ENABLED"] = "1"  # pyspark.sql.functions asks for it: no JVM in this process
    from pyspark.errors import PySparkException
    from pyspark.sql.connect.client import DefaultChannelBuilder
    from pyspark.sql.connect.client.retries import DefaultPolicy
    from pyspark.sql.connect.session import SparkSession

    session = SparkSession.getActiveSession()
    if session is not None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "the maximum number of retries": the server it belonged to is gone
            try:
                session.conf.get("spark.app.id")
                return session
            except PySparkException:
                session.stop()
    # A proxy in the environment must not be asked for 127.0.0.1.
    channel = DefaultChannelBuilder(f"sc://127.0.0.1:{settings().spark_connect_port}", [("grpc.enable_http_proxy", 0)])
    session = SparkSession.builder.channelBuilder(channel).create()
    # The library's own patience is ten minutes.
    session.client.set_retry_policies([DefaultPolicy(max_retries=4, max_backoff=2000)])
    # A fitted model that the garbage collector takes would ask the server to forget it: at any moment, also while this
    # thread holds a lock that the question needs, and then all stands still (compare SPARK-57655). The session's end
    # forgets the models, too.
    session.client._delete_ml_cache = lambda *models, **options: []
    try:
        session.conf.get("spark.app.id")  # a session is made without asking the server
    except PySparkException:
        raise is_down("spark-connect") from None
    PySparkException._render_traceback_ = _spark_error
    logging.getLogger("SQLQueryContextLogger").setLevel(logging.CRITICAL + 1)  # it would print the JVM's stack again
    return session


def _spark_error(error: Exception) -> list[str]:
    """What a notebook shows of Spark's error: its message without the JVM's stack, five lines at most."""
    if not answers("spark-connect"):
        return [f"{type(error).__name__}: {is_down('spark-connect')}"]
    text = str(error).split("JVM stacktrace:")[0].strip()
    if "HiveMetaStoreClient" in text and not answers("hive-metastore"):
        return [f"{type(error).__name__}: {is_down('hive-metastore')}"]
    lines = [line[:300] for line in text.splitlines() if line.strip()][:5]
    return [f"{type(error).__name__}: {lines[0] if lines else ''}", *lines[1:]]


# --- The lake -------------------------------------------------------------------------------------


def lake(seconds: float = 20.0) -> WebHDFS:
    """HDFS as a file system of fsspec, over WebHDFS: `lake().ls("/")`, `with lake().open(path, "wb") as file: ...`.

    pyarrow, pandas, polars and DuckDB take it as their `filesystem`. A path is absolute, with or without `hdfs://…`.

    Args:
        seconds: how long the NameNode or a DataNode may take for one answer.

    Raises:
        FlowError: the NameNode is down, is not ready yet (safe mode), or no DataNode can be reached.
    """
    from flow360.webhdfs import Lake

    return Lake(seconds)


def hive(**kw: Any) -> HiveServer2Connection:
    """A connection (DB-API, impyla) to HiveServer2: `with hive() as connection: connection.cursor().execute(…)`.

    Args:
        kw: anything that `impala.dbapi.connect` takes, e.g. database="clean"; timeout is seconds for one answer (60).

    Raises:
        FlowError: HiveServer2 is down, or does not open a session.
    """
    if not answers("hive-server"):
        raise is_down("hive-server")
    with lake_errors():
        connection = hive_at(settings().hive_server_port, **kw)
        connection.cursor().close()  # impyla connects without a word; the session is the first thing that can fail
    return connection


@contextmanager
def lake_errors() -> Iterator[None]:
    """Within it, what HiveServer2 says about a failure becomes one line (FlowError)."""
    from impala.error import Error
    from thrift.Thrift import TException

    try:
        yield
    except (Error, TException, OSError, EOFError) as error:
        # It cannot work without these, and says so in many ways.
        for service in ("hive-server", "hive-metastore", "namenode"):
            if not answers(service):
                raise is_down(service) from None
        text = re.sub(r"(Error while (compiling|processing) statement: |FAILED: )+", "", str(error).strip())
        line = (text.splitlines() or [type(error).__name__])[0][:300]
        if isinstance(error, Error):
            raise FlowError(f"lake: {line}") from None
        raise FlowError(f"hive-server broke off ({line}): see `flow360 logs hive-server`", Exit.SERVICE) from None


def hive_at(port: int, *, host: str = "127.0.0.1", timeout: float = 60, **kw: Any) -> HiveServer2Connection:
    """impyla's own connection to a HiveServer2, with no words of ours when it fails."""
    from impala.dbapi import connect

    with _quiet("thrift.transport.TSocket"):
        return connect(
            host, port, timeout=timeout, auth_mechanism="PLAIN", user="primeur", password="x", retries=1, **kw
        )
