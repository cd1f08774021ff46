"""How datasets are called: namespace and name, as OpenLineage's naming says for each kind of store.

A dataset has one name, whichever engine runs and whoever asks: the host is the service's name and the port the one in
the containers' network, not what a machine publishes. A day's folder is part of the dataset, not one of its own.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, order=True)
class Dataset:
    """What is read or written: a table, a topic, a folder of the lake."""

    namespace: str
    name: str

    @property
    def place(self) -> str:
        """Where it is, as a picture shows it: the schema of a table, the zone of a folder, else the dataset itself."""
        service = self.namespace.partition("://")[2].partition(":")[0]
        kind = self.namespace.partition(":")[0]
        if kind == "postgres":
            database, schema, _ = self.name.split(".", 2)
            return f"{service}: {database}" if schema == "public" else f"{service}: {schema}"
        if kind == "hdfs":
            zone, _, rest = self.name.strip("/").partition("/")
            return f"hdfs: /{zone}/{rest}" if zone == "raw" else f"hdfs: /{zone}"
        return f"{service or kind}: {self.name}"


def shop(table: str) -> Dataset:
    """Name a table of the shop's own database."""
    return Dataset("postgres://postgres-source:5432", f"shop.public.{table}")


def warehouse(table: str) -> Dataset:
    """Name a table of the warehouse, "schema.table"."""
    return Dataset("postgres://postgres-dwh:5432", f"datawarehouse.{table}")


def raw(source: str) -> Dataset:
    """Name what the lake's raw zone holds of a source."""
    return Dataset("hdfs://namenode:8020", f"/raw/{source}")


def clean(table: str) -> Dataset:
    """Name a table of the lake's clean zone."""
    return Dataset("hdfs://namenode:8020", f"/clean/{table}")


def topic(name: str) -> Dataset:
    """Name a topic of Kafka."""
    return Dataset("kafka://kafka:29092", name)


VANS = Dataset("mqtt://mosquitto:1883", "primeur/vans")
"""The thermometers' messages. (OpenLineage's naming has nothing for MQTT and HTTP: the pattern of the others.)"""
MARKET = Dataset("http://market-api:8000", "/")
"""The market's REST API."""
DEPOT = Dataset("file", "data/seed/files")
"""The drop zone of the branches' files, from the checkout's root."""
