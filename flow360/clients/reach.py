"""Where each service listens, whether it answers, and what is said when it does not."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from flow360.errors import Exit, FlowError
from flow360.settings import settings

CONNECT_SECONDS = 5
_PORT_SETTING = {
    "zookeeper": "zookeeper_port",
    "kafka": "kafka_port",
    "postgres-source": "postgres_source_port",
    "postgres-dwh": "postgres_dwh_port",
    "postgres-airflow": "postgres_airflow_port",
    "postgres-hive": "postgres_hive_port",
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


def require(service: str) -> None:
    """Go on only if the service answers.

    Raises:
        FlowError: it does not; the line of `is_down`.
    """
    if not answers(service):
        raise is_down(service)


@contextmanager
def quiet(logger: str) -> Iterator[None]:
    """Keep a library's connection chatter out of the notebook while we wait for it: our one line says it better."""
    log = logging.getLogger(logger)
    before = log.level
    log.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        log.setLevel(before)
