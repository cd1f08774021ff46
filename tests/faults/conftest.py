"""A topic and a table of one's own for each test, gone afterwards."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

import pytest

from flow360 import clients


@pytest.fixture
def topics(started) -> Iterator[Callable[..., str]]:
    """`topics("orders", partitions=3)`: a new topic with a name that nobody else has."""
    from confluent_kafka.admin import AdminClient, NewTopic

    started("kafka")
    admin = AdminClient(clients.confluent())
    made = []

    def make(name: str, partitions: int = 3, **config: str) -> str:
        unique = f"fault-{name}-{time.time_ns()}"
        new = NewTopic(unique, partitions, 1, config={k.replace("_", "."): v for k, v in config.items()})
        admin.create_topics([new])[unique].result(30)
        made.append(unique)
        return unique

    yield make
    with contextlib.suppress(Exception):  # the test may have left the broker down; the topics are nobody else's
        for future in admin.delete_topics(made, operation_timeout=10).values():
            future.result(15)


@pytest.fixture
def table(started) -> Iterator[Callable[[str], str]]:
    """`table("id int primary key")`: a new table in the warehouse's schema `staging`."""
    started("postgres-dwh")
    made = []

    def make(columns: str) -> str:
        name = f"staging.fault_{time.time_ns()}"
        with clients.postgres() as db:
            db.execute("create schema if not exists staging")
            db.execute(f"create table {name} ({columns})")
        made.append(name)
        return name

    yield make
    with clients.postgres() as db:
        for name in made:
            db.execute(f"drop table if exists {name}")
