"""What the tasks talk to, by the name of its Airflow connection.

The address and the password come from the environment (AIRFLOW_CONN_WAREHOUSE ...), never from a DAG file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg

if TYPE_CHECKING:
    import requests
    from pyspark.sql.connect.session import SparkSession

    from flow360.clients.webhdfs import Lake


def database(name: str) -> dict[str, Any]:
    """Where what Airflow knows as `name` ("warehouse", "shop") is and who signs in, in psycopg's words."""
    from airflow.sdk import Connection

    at = Connection.get(name)
    return {"host": at.host, "port": at.port or 5432, "user": at.login, "password": at.password, "dbname": at.schema}


def connect(name: str) -> psycopg.Connection:
    """A psycopg connection to a `database`.

    Used as `with connect("warehouse") as db:` it is one transaction: all of the block, or nothing.
    """
    return psycopg.connect(
        **database(name),
        connect_timeout=5,
        application_name=f"airflow {name}",
        options="-c statement_timeout=60s",
    )


def lake() -> Lake:
    """The lake's file system, over WebHDFS."""
    from airflow.sdk import Connection

    from flow360.clients.webhdfs import Lake

    at = Connection.get("lake")
    return Lake(host=at.host, port=at.port, secret=at.password)


def market() -> requests.Session:
    """A session for market-api, which joins paths to its address."""
    from airflow.sdk import Connection

    from flow360.clients import api

    at = Connection.get("market")
    return api(base=f"http://{at.host}:{at.port}")


def spark() -> SparkSession:
    """A session on the Spark Connect server."""
    from airflow.sdk import Connection

    from flow360.clients import spark_at

    at = Connection.get("spark")
    return spark_at(at.host, at.port, at.password)


def pushgateway() -> str:
    """Where programs that end leave their metrics: host:port."""
    from airflow.sdk import Connection

    at = Connection.get("pushgateway")
    return f"{at.host}:{at.port}"
