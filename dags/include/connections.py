"""What the tasks talk to, by the name of its Airflow connection.

Address and password come from the environment (AIRFLOW_CONN_WAREHOUSE ...), or out of Vault where that is Airflow's
backend (stack/layers/vaulted.yaml); never from a DAG file.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import psycopg

from flow360.errors import FlowError

if TYPE_CHECKING:
    import requests
    from pyspark.sql.connect.session import SparkSession

    from flow360.clients.webhdfs import Lake


def database(name: str) -> dict[str, Any]:
    """Return where what Airflow knows as `name` ("warehouse", "shop") is and who signs in, in psycopg's words."""
    from airflow.sdk import Connection

    at = Connection.get(name)
    return {"host": at.host, "port": at.port or 5432, "user": at.login, "password": at.password, "dbname": at.schema}


@contextmanager
def connect(name: str) -> Iterator[psycopg.Connection]:
    """Connect psycopg to a `database`, for one transaction: all of the block, or nothing.

    `pipeline` is the warehouse for what reads and writes rows. Out of Vault it is a user of its own for each block, who
    is gone after it, or when the lease is over (10 minutes; a task that takes longer has no user, and is repeated).
    """
    with (
        _borrowed(name) as who,
        psycopg.connect(
            **database(name) | who,
            connect_timeout=5,
            application_name=f"airflow {name}",
            options="-c statement_timeout=60s",
        ) as db,
    ):
        yield db


@contextmanager
def _borrowed(name: str) -> Iterator[dict[str, str]]:
    """Borrow who signs in for the length of a block, where Vault makes a user for it; else nothing."""
    from airflow.configuration import conf

    if name != "pipeline" or not conf.get("secrets", "backend", fallback=""):
        yield {}
        return
    from flow360 import clients

    at = conf.getjson("secrets", "backend_kwargs")
    vault = clients.vault_at(at["url"], at["role_id"], at["secret_id"])
    found = vault.secrets.database.generate_credentials(name)["data"]
    try:
        yield {"user": found["username"], "password": found["password"]}
    finally:
        try:
            vault.auth.token.revoke_self()
        except FlowError as error:  # the work is done, or has its own error; the lease ends by itself
            print(f"not given back, it ends with its lease: {found['username']}: {error}")


def lake() -> Lake:
    """Open the lake's file system, over WebHDFS."""
    from airflow.sdk import Connection

    from flow360.clients.webhdfs import Lake

    at = Connection.get("lake")
    return Lake(host=at.host, port=at.port, secret=at.password)


def market() -> requests.Session:
    """Open a session for market-api, which joins paths to its address."""
    from airflow.sdk import Connection

    from flow360.clients import api

    at = Connection.get("market")
    return api(base=f"http://{at.host}:{at.port}")


def spark() -> SparkSession:
    """Open a session on the Spark Connect server."""
    from airflow.sdk import Connection

    from flow360.clients import spark_at

    at = Connection.get("spark")
    return spark_at(at.host, at.port, at.password)


def pushgateway() -> str:
    """Return where programs that end leave their metrics: host:port."""
    from airflow.sdk import Connection

    at = Connection.get("pushgateway")
    return f"{at.host}:{at.port}"
