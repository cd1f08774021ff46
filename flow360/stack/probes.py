"""Is it ready? Each probe asks the service itself, over its own protocol, and answers within its time-out.

A probe returns None when the service answered as it should, else one short sentence that says what is missing.
`wait_ready` repeats a probe until a deadline.
"""

from __future__ import annotations

import json
import socket
import struct
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from flow360.settings import settings
from flow360.waiting import patient, rounds

if TYPE_CHECKING:
    import requests

    from flow360.stack.model import Model, Service

Probe = Callable[[], str | None]
TIMEOUT = 3.0  # seconds that one question may take
HEARTBEAT = 6.0  # seconds of silence after which a part of Airflow counts as gone: three times its interval
REFUSED = "password authentication failed"  # in PostgreSQL's words
SEALED = "it is sealed"
PROBE_SESSION = "00000000-0000-4000-8000-000000000360"  # the Connect server keeps what it is told for each session

PROBES: dict[str, Callable[..., str | None]] = {}
"""All probes by the names that the layers' files use."""


def _probe(function: Callable[..., str | None]) -> Callable[..., str | None]:
    PROBES[function.__name__] = function
    return function


def of(model: Model, service: Service) -> Probe:
    """Return the probe of a service, with the ports that it asks.

    `broker` names another service to ask; `port = 1` means the second port; {service = "NAME", port = 1} as a value is
    another service's port.
    """
    ready = dict(service.native.ready or {})
    probe = PROBES[ready.pop("probe")]
    port = model[ready.pop("broker", service.name)].ports[ready.pop("port", 0)]
    for key, value in ready.items():
        if isinstance(value, dict):
            ready[key] = model[value["service"]].ports[value.get("port", 0)]
    return partial(probe, port, **ready)


@_probe
def postgres(port: int, database: str, session: str = "", host: str = "127.0.0.1") -> str | None:
    """Ask `select 1` as the course's own user: a server that refuses the password is not ready.

    With a session, a client of that name must be connected: that is how a program without a port says that it is there.
    """
    import psycopg

    s = settings()
    user, name, password = (getattr(s, f"{database}_{what}") for what in ("user", "db", "password"))
    try:
        with psycopg.connect(
            host=host,
            port=port,
            user=user,
            dbname=name,
            password=password,
            connect_timeout=int(TIMEOUT),
        ) as connection:
            connection.execute("select 1")
            query = "select 1 from pg_stat_activity where application_name = %s"
            if session and not connection.execute(query, [session]).fetchone():
                return f"{session} is not connected"
    except psycopg.Error as error:
        return str(error).strip().splitlines()[-1]
    return None


@_probe
def mysql(port: int, database: str, host: str = "127.0.0.1") -> str | None:
    """Ask `select 1` as the course's own user: a server that refuses the password is not ready."""
    import pymysql
    from pymysql.constants import ER

    s = settings()
    user, name, password = (getattr(s, f"{database}_{what}") for what in ("user", "db", "password"))
    at = {"host": host, "port": port, "user": user, "password": password, "database": name}
    try:
        with pymysql.connect(**at, connect_timeout=TIMEOUT, read_timeout=TIMEOUT) as connection:
            connection.cursor().execute("select 1")
    except pymysql.Error as error:
        if error.args[:1] == (ER.ACCESS_DENIED_ERROR,):
            return f"{REFUSED} for user {user}"
        return " ".join(map(str, error.args[1:])) or type(error).__name__
    return None


@_probe
def mongodb(port: int, database: str, host: str = "127.0.0.1") -> str | None:
    """Ask whether it takes writes, as the course's own user: a server that refuses the password is not ready."""
    from pymongo import MongoClient, errors

    from flow360.clients.documents import DENIED

    s, wait = settings(), int(TIMEOUT * 1000)
    user, password = (getattr(s, f"{database}_{what}") for what in ("user", "password"))
    limits = {"serverSelectionTimeoutMS": wait, "connectTimeoutMS": wait, "socketTimeoutMS": wait}
    try:
        with MongoClient(host, port, username=user, password=password, directConnection=True, **limits) as client:
            client.admin.command("ping")
            return None if client.is_primary else "it takes no writes yet"
    except errors.OperationFailure as error:
        return f"{REFUSED} for user {user}" if error.code == DENIED else str(error)
    except errors.PyMongoError as error:
        return str(error).partition(",")[0]


@_probe
def zookeeper(port: int) -> str | None:
    """Send the four-letter word `ruok`, which a serving node answers with `imok`."""
    try:
        with socket.create_connection(("127.0.0.1", port), TIMEOUT) as sock:
            sock.settimeout(TIMEOUT)
            sock.sendall(b"ruok")
            answer = sock.recv(16)
    except OSError as error:
        return f"ruok: {error}"
    return None if answer == b"imok" else f"ruok answered {answer!r}"


@_probe
def kafka(port: int) -> str | None:
    """Ask the broker for a controller (metadata, version 1) and a coordinator of groups (version 0); it must name both.

    The second question makes a new broker create the topic in which it keeps the groups' offsets, so that the first
    consumer of a course does not meet a broker that cannot serve it yet.
    """
    name = b"flow360"
    try:
        answer = _ask_kafka(port, 3, 1, struct.pack(">i", 0))
        if not _has_controller(answer):
            return "metadata: no controller yet"
        answer = _ask_kafka(port, 10, 0, struct.pack(">h", len(name)) + name)
    except (OSError, EOFError, struct.error) as error:
        return f"metadata: {error}"
    return "no coordinator of groups yet" if struct.unpack_from(">h", answer, 4)[0] else None


def _ask_kafka(port: int, key: int, version: int, body: bytes) -> bytes:
    """Send one request of Kafka's protocol; return the answer from its correlation number on."""
    client = b"flow360"
    body = struct.pack(">hhih", key, version, 1, len(client)) + client + body
    with socket.create_connection(("127.0.0.1", port), TIMEOUT) as sock:
        sock.settimeout(TIMEOUT)
        sock.sendall(struct.pack(">i", len(body)) + body)
        return _exactly(sock, struct.unpack(">i", _exactly(sock, 4))[0])


def _has_controller(answer: bytes) -> bool:
    brokers = struct.unpack_from(">i", answer, 4)[0]
    offset = 8
    for _ in range(brokers):
        offset += 4
        offset += 2 + struct.unpack_from(">h", answer, offset)[0] + 4
        rack = struct.unpack_from(">h", answer, offset)[0]
        offset += 2 + max(rack, 0)
    return bool(brokers) and struct.unpack_from(">i", answer, offset)[0] >= 0


def _exactly(sock: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = sock.recv(count - len(data))
        if not more:
            raise EOFError("the connection was closed")
        data += more
    return data


@_probe
def mqtt(port: int, topic: str = "", contains: str = "") -> str | None:
    """Send CONNECT, which must be accepted; with a topic, what is retained on it must contain a text.

    That is how a publisher without a port says that it is there.
    """
    import paho.mqtt.client as paho

    accepted: list[bool] = []
    found: list[str] = []

    def connected(client: Any, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        accepted.append(not reason.is_failure)
        if topic:
            client.subscribe(topic)

    client = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id=f"flow360-probe-{topic or 'broker'}")
    client.on_connect = connected
    client.on_message = lambda _client, _data, message: found.append(message.payload.decode("utf-8", "replace"))
    try:
        client.connect("127.0.0.1", port, keepalive=10)
        for _ in rounds(TIMEOUT / 2, every=0):
            client.loop(0.1)
            if found if topic else accepted:
                break
    except OSError as error:
        return f"CONNECT: {error}"
    finally:
        client.disconnect()
    if accepted != [True]:
        return "CONNECT: refused" if accepted else "CONNECT: no answer"
    if topic and not found:
        return f"nothing retained on {topic}"
    return None if not topic or contains in found[0] else f"{topic} says {found[0][:80]}"


@_probe
def http(port: int, path: str = "/", contains: str = "") -> str | None:
    """Send GET, which must be answered with 200, with a text in the body if one is named."""
    import requests

    try:
        answer = _get(port, path)
    except requests.RequestException as error:
        return f"GET {path}: {type(error).__name__}"
    if answer.status_code != 200:
        return f"GET {path}: {answer.status_code}"
    return None if contains in answer.text else f"GET {path}: {contains!r} not in the answer"


@_probe
def vault(port: int) -> str | None:
    """Ask for its health: 200 when it is unsealed, 503 while it is sealed."""
    missing = http(port, "/v1/sys/health")
    return SEALED if missing and missing.endswith(": 503") else missing


@_probe
def connect(port: int) -> str | None:
    """Ask for its connectors, as its own user: it answers when it has read its topics and joined its group."""
    import requests

    from flow360.clients.web import connect as worker
    from flow360.errors import FlowError

    try:
        worker(TIMEOUT, f"http://127.0.0.1:{port}").get("/connectors")
    except FlowError as error:
        return error.message
    except requests.RequestException as error:
        return f"GET /connectors: {type(error).__name__}"
    return None


@_probe
def search(port: int) -> str | None:
    """Ask for the search engine's health as its own user: all indices can be written to (yellow: no second node)."""
    from flow360.clients.search import search_as
    from flow360.errors import FlowError

    engine = search_as("elastic", settings().elastic_password, f"http://127.0.0.1:{port}")
    try:
        health = engine.get("/_cluster/health", timeout=TIMEOUT).json()["status"]
    except FlowError as error:
        return error.message
    return None if health in ("yellow", "green") else f"its health is {health}"


@_probe
def shipper(port: int, seconds: float = 30) -> str | None:
    """Check that what the shipper counts of itself has come to the search engine (`port`) a moment ago."""
    from flow360.clients.search import search_as
    from flow360.errors import FlowError

    engine = search_as("elastic", settings().elastic_password, f"http://127.0.0.1:{port}")
    fresh = {"query": {"range": {"@timestamp": {"gte": f"now-{seconds:g}s"}}}, "size": 0}
    try:
        found = engine.get("/primeur-shipper/_search?ignore_unavailable=true", json=fresh, timeout=TIMEOUT).json()
    except FlowError as error:
        return error.message
    return None if found["hits"]["total"]["value"] else "nothing has come from it yet"


def _get(port: int, path: str) -> requests.Response:
    from flow360.clients.direct import Session

    with Session() as session:
        return session.get(f"http://127.0.0.1:{port}{path}", timeout=TIMEOUT)


@_probe
def airflow_heartbeat(port: int, job: str, host: str = "127.0.0.1") -> str | None:
    """Check that a part of Airflow said in the metadata that it lives, as it does every two seconds.

    Args:
        port: of the server that keeps the metadata.
        job: SchedulerJob, DagProcessorJob or TriggererJob.
    """
    import psycopg

    query = """select extract(epoch from now() - max(latest_heartbeat)) from job
               where job_type = %s and state = 'running'"""
    at = {"host": host, "port": port, "user": "airflow", "dbname": "airflow_metadata"}
    try:
        with psycopg.connect(**at, password=settings().airflow_db_password, connect_timeout=int(TIMEOUT)) as db:
            age = db.execute(query, (job,)).fetchone()[0]
    except psycopg.Error as error:
        return str(error).strip().splitlines()[-1]
    if age is None:
        return f"no {job} has reported"
    return None if age < HEARTBEAT else f"{job} has been silent for {age:.0f} s"


@_probe
def spark_connect(port: int, page: int) -> str | None:
    """Send a Config request for `spark.app.id`: the driver answers that once it is registered with the master.

    A driver whose application was ended by the master goes on to answer it, and can compute nothing; its web page has
    ended with its context, so that is asked, too: for a file, because its first answer from below /api takes a second.

    Args:
        page: the port of its web page.
    """
    import grpc

    # ConfigRequest by hand: pyspark's own classes take a second to import. The session is the same each time.
    key = b"spark.app.id"
    get = b"\x0a" + bytes([len(key)]) + key
    request = b"\x0a\x24" + PROBE_SESSION.encode() + b"\x12\x09\x0a\x07flow360\x1a" + bytes([len(get) + 2])
    request += b"\x12" + bytes([len(get)]) + get
    token = [("authorization", f"Bearer {settings().spark_connect_token}")]
    with grpc.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.enable_http_proxy", 0)]) as channel:
        ask = channel.unary_unary("/spark.connect.SparkConnectService/Config")
        try:
            answer = ask(request, timeout=TIMEOUT, metadata=token)
        except grpc.RpcError as error:
            return f"Config: {error.code().name}"
    return http(page, "/static/webui.css") if b"app-" in answer else "Config: no application id yet"


def _jmx(port: int, bean: str) -> dict:
    """Read one bean of a Hadoop daemon, over HTTP; {} while it is not there.

    Raises:
        requests.RequestException, ValueError: no answer, or none that is JSON.
    """
    answer = _get(port, f"/jmx?qry=Hadoop:{bean}")
    answer.raise_for_status()
    beans = answer.json()["beans"]
    return beans[0] if beans else {}


@_probe
def namenode(port: int) -> str | None:
    """Ask JMX on its web port for its state: active. (Whether it can be written to is its DataNodes' matter.)"""
    import requests

    try:
        state = _jmx(port, "service=NameNode,name=NameNodeStatus").get("State")
    except (requests.RequestException, ValueError) as error:
        return f"JMX: {type(error).__name__}"
    return None if state == "active" else f"JMX: its state is {state or 'not known yet'}"


@_probe
def datanode(port: int, namenode: int) -> str | None:
    """Ask JMX on both web ports: it is registered with its NameNode, which counts it as live and has left safe mode."""
    import requests

    try:
        actors = _jmx(port, "service=DataNode,name=DataNodeInfo").get("BPServiceActorInfo", "[]")
        pool = [actor for actor in json.loads(actors) if actor["ActorState"] == "RUNNING" and actor["BlockPoolID"]]
        if not pool:
            return "it is not registered with the NameNode yet"
        live = _jmx(namenode, "service=NameNode,name=FSNamesystemState").get("NumLiveDataNodes", 0)
        safe = _jmx(namenode, "service=NameNode,name=NameNodeInfo").get("Safemode", "not known yet")
    except (requests.RequestException, ValueError, KeyError) as error:
        return f"JMX: {type(error).__name__}"
    if safe:
        return f"the NameNode is in safe mode: {safe[:80]}"
    return None if live else "the NameNode has no live DataNode"


@_probe
def hive_metastore(port: int) -> str | None:
    """Call `getCatalogs` over Thrift (binary protocol): it is answered from the database, by Hive's own catalogue."""
    name = b"get_catalogs"
    call = struct.pack(">II", 0x80010001, len(name)) + name + struct.pack(">I", 1) + b"\x00"
    try:
        with socket.create_connection(("127.0.0.1", port), TIMEOUT) as sock:
            sock.settimeout(TIMEOUT)
            sock.sendall(call)
            head = _exactly(sock, 8 + len(name) + 4)
            # A reply is of type 2 (3 is an exception); its first field, 0, is the result (1 is Hive's own error).
            field = _exactly(sock, 3)
    except (OSError, EOFError) as error:
        return f"get_catalogs: {error}"
    if head[:4] != b"\x80\x01\x00\x02" or field != b"\x0c\x00\x00":
        return "get_catalogs: refused: does its database answer?"
    return None


@_probe
def hive_server(port: int) -> str | None:
    """Send OpenSession and CloseSession, as every client begins and ends."""
    from flow360.clients import hive_at

    try:
        connection = hive_at(port, timeout=TIMEOUT)
        try:
            connection.cursor().close()
        finally:
            connection.close()
    except Exception as error:  # noqa: BLE001 - Thrift raises what it likes on half a connection
        return f"OpenSession: {type(error).__name__}"
    return None


def wait_ready(probe: Probe, deadline: float, alive: Callable[[], str | None], pause: float = 0.1) -> str | None:
    """Repeat a probe until it is content.

    A wrong password is not waited for: time does not mend it.

    Args:
        probe: returns None when ready, else what is missing.
        deadline: seconds from now, on an idle machine (see `patient`).
        alive: returns None while the process lives, else a sentence; a dead process is not waited for.
        pause: seconds between two questions.

    Returns:
        None when ready, else the last sentence.
    """
    deadline = patient(deadline)
    end = time.monotonic() + deadline
    while True:
        missing = probe()
        if missing is None:
            return None
        if REFUSED in missing:
            return missing
        if dead := alive():
            return dead
        if time.monotonic() >= end:
            return f"not ready after {deadline:.0f} s ({missing})"
        time.sleep(pause)
        pause = min(pause * 1.3, 1.0)


if __name__ == "__main__":  # the health check of containers that have no port: PROBE PORT WORD…
    name, number, *words = sys.argv[1:]
    sys.exit(PROBES[name](int(number), *words))
