"""Spark's session on the server that all notebooks share."""

from __future__ import annotations

import logging
import os
import warnings
from typing import TYPE_CHECKING

from flow360.clients import reach
from flow360.settings import settings

if TYPE_CHECKING:
    from pyspark.sql.connect.session import SparkSession


def spark() -> SparkSession:
    """Return this process's session on the Connect server that all notebooks share: `spark().read.parquet(...)`.

    A second call gives the same session; after the server was started again, a new one (views and cached tables of the
    old one are gone with it). A call to a server that went away gives up after some 5 seconds.

    Raises:
        FlowError: the server is down.
    """
    reach.require("spark-connect")
    return spark_at("127.0.0.1", settings().spark_connect_port, settings().spark_connect_token)


def spark_at(host: str, port: int, token: str) -> SparkSession:
    """Return what `spark` does, for a server at another address, such as inside the containers' network.

    Raises:
        FlowError: the server is down.
    """
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

    class Here(DefaultChannelBuilder):
        """To this address alone: the library sends a token to `localhost` only, which may be another one's ::1."""

        token = None

        def metadata(self) -> list[tuple[str, str]]:
            return [*super().metadata(), ("authorization", f"Bearer {token}")]

    # A proxy in the environment must not be asked for it.
    channel = Here(f"sc://{host}:{port}", [("grpc.enable_http_proxy", 0)])
    session = SparkSession.builder.channelBuilder(channel).create()
    # The library's own patience is ten minutes.
    session.client.set_retry_policies([DefaultPolicy(max_retries=4, max_backoff=2000)])
    # A fitted model that the garbage collector takes would ask the server to forget it: at any moment, also while this
    # thread holds a lock that the question needs, and then all stands still (compare SPARK-57655). The session's end
    # forgets the models, too.
    session.client._delete_ml_cache = lambda *models, **options: []
    try:
        session.conf.get("spark.app.id")  # a session is made without asking the server
    except PySparkException as error:
        raise reach.is_down("spark-connect", error) from None
    PySparkException._render_traceback_ = _spark_error
    logging.getLogger("SQLQueryContextLogger").setLevel(logging.CRITICAL + 1)  # it would print the JVM's stack again
    return session


def _spark_error(error: Exception) -> list[str]:
    """Shorten Spark's error to what a notebook shows: its message without the JVM's stack, five lines at most."""
    if not reach.answers("spark-connect"):
        return [f"{type(error).__name__}: {reach.is_down('spark-connect')}"]
    text = str(error).split("JVM stacktrace:")[0].strip()
    if "HiveMetaStoreClient" in text and not reach.answers("hive-metastore"):
        return [f"{type(error).__name__}: {reach.is_down('hive-metastore')}"]
    lines = [line[:300] for line in text.splitlines() if line.strip()][:5]
    return [f"{type(error).__name__}: {lines[0] if lines else ''}", *lines[1:]]
