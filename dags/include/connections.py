"""Databases by the name of their Airflow connection."""

from __future__ import annotations

import psycopg


def connect(name: str) -> psycopg.Connection:
    """A psycopg connection to what Airflow knows as `name` ("warehouse", "shop").

    The address and the password come from the environment (AIRFLOW_CONN_WAREHOUSE ...), never from a DAG file. Used as
    `with connect("warehouse") as db:` it is one transaction: all of the block, or nothing.
    """
    from airflow.sdk import Connection

    at = Connection.get(name)
    return psycopg.connect(
        host=at.host,
        port=at.port or 5432,
        user=at.login,
        password=at.password,
        dbname=at.schema,
        connect_timeout=5,
        application_name=f"airflow {name}",
        options="-c statement_timeout=60s",
    )
