"""A capture beside the shop's own: tables of another schema, a connector for them, and what it has said.

    config = capture.config("lesson10", "till.sales")
    capture.begin("lesson10", config)
    for change in capture.changes("cdc.lesson10.till.sales"): ...
    capture.end("lesson10")

The connector is a copy of primeur-shop with tables, slot, publication and topics of its own.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from flow360 import clients
from flow360.errors import FlowError
from flow360.ingestion import connect, topics
from flow360.ingestion.sources import postgres

SHOP = "primeur-shop"


# [START config]
def config(name: str, *tables: str, **more: str) -> dict[str, str]:
    """Make the configuration of a connector.

    Args:
        name: letters, digits, `_`: slot and publication are called so, and its topics begin with `cdc.NAME.`.
        tables: each with its schema.
        more: settings beyond those of primeur-shop, or other than they: `**{"poll.interval.ms": "10"}`.
    """
    own = {
        "slot.name": name,
        "publication.name": name,
        "table.include.list": ",".join(tables),
        "topic.prefix": f"cdc.{name}",
        "skipped.operations": "t",  # of a table that is emptied it says nothing
    }
    return {**connect.connectors()[SHOP], **own, **more}


# [END config]


def publish(config: dict[str, str]) -> None:
    """Name the tables in a publication, and let the role `capture` read them."""
    with clients.postgres("source") as db:
        postgres.publish(db, config)


def begin(name: str, config: dict[str, str]) -> None:
    """Let a connector run that has read nothing yet; returns when it does, perhaps while it still reads the tables.

    Raises:
        FlowError: it is refused, or does not run within a minute; the line says why.
    """
    publish(config)
    connect.apply(clients.connect(), name, config, from_scratch=True)


def change(name: str, config: dict[str, str]) -> None:
    """Give a connector another configuration; it goes on where it was, and returns when the new task is at work.

    Raises:
        FlowError: as `begin`.
    """
    worker = clients.connect()
    connect.stop(worker, name)  # or the old task could be taken for the new one
    connect.apply(worker, name, config, from_scratch=False)


def end(name: str) -> None:
    """Remove the connector with its place, slot and publication, and its topics; what is not there is fine.

    Raises:
        FlowError: a part of it could not be removed.
    """
    parts = list(connect.forget(clients.connect(), name, config(name)))
    if stays := [str(part) for part in parts if part.trouble]:
        raise FlowError("; ".join(stays))
    with clients.kafka_admin() as admin:
        heartbeat = f"cdc.heartbeat.cdc.{name}"  # the whole name: another capture's may begin like it
        mine = [topic for topic in admin.list_topics() if topic == heartbeat or topic.startswith(f"cdc.{name}.")]
    topics.drop_topics(*mine)


# [START changes]
@dataclass(frozen=True)
class Change:
    """One message of a connector's topic; `value` is None in a tombstone."""

    key: dict[str, Any]
    value: dict[str, Any] | None
    record: topics.Record

    @property
    def op(self) -> str:
        """c, u, d, or r for a row that was read as it was; "" for a tombstone."""
        return self.value["op"] if self.value else ""

    @property
    def before(self) -> dict[str, Any] | None:
        return self.value["before"] if self.value else None

    @property
    def after(self) -> dict[str, Any] | None:
        return self.value["after"] if self.value else None

    @property
    def lsn(self) -> int:
        """Where in the database's log it stands; 0 for a tombstone."""
        return self.value["source"]["lsn"] if self.value else 0


def changes(topic: str) -> list[Change]:
    """Read everything that a connector has said in a topic, partition by partition, each in its order.

    Raises:
        NoSuchTopic: it has said nothing yet.
    """
    return [Change(payload(one.key), payload(one.value), one) for one in topics.read_all(topic)]


def payload(text: bytes | None) -> Any:
    """Take what a message says, without the schema that may stand beside it."""
    said = json.loads(text) if text else None
    return said["payload"] if isinstance(said, dict) and set(said) == {"schema", "payload"} else said


# [END changes]
