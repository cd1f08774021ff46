"""Connections to the services, one line each: `with postgres("source") as db: ...`.

Every function knows address and credentials from `settings()`, sets a time-out, and answers a service that is down with
one line that says which one and how to start it. Libraries are imported where they are used, so that importing this
module costs nothing.
"""

from flow360.clients.brokers import confluent, consumer, kafka_admin, mqtt, producer, zookeeper
from flow360.clients.compute import spark, spark_at
from flow360.clients.databases import adbc, engine, mysql, postgres
from flow360.clients.documents import mongodb
from flow360.clients.lakes import hive, hive_at, lake, lake_errors
from flow360.clients.reach import answers, is_down, port_of
from flow360.clients.search import search, search_as
from flow360.clients.secrets import vault, vault_as, vault_at
from flow360.clients.web import airflow, api, connect, prometheus

__all__ = [
    "adbc",
    "airflow",
    "answers",
    "api",
    "confluent",
    "connect",
    "consumer",
    "engine",
    "hive",
    "hive_at",
    "is_down",
    "kafka_admin",
    "lake",
    "lake_errors",
    "mongodb",
    "mqtt",
    "mysql",
    "port_of",
    "postgres",
    "producer",
    "prometheus",
    "search",
    "search_as",
    "spark",
    "spark_at",
    "vault",
    "vault_as",
    "vault_at",
    "zookeeper",
]
