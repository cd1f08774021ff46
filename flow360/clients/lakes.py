"""HDFS, and Hive on it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from flow360.clients import reach
from flow360.errors import FlowError, ServiceError
from flow360.settings import settings

if TYPE_CHECKING:
    from fsspec.implementations.webhdfs import WebHDFS
    from impala.hiveserver2 import HiveServer2Connection


def lake(seconds: float = 20.0) -> WebHDFS:
    """Open HDFS as a file system of fsspec, over WebHDFS: `lake().ls("/")`, `with lake().open(path) as file: ...`.

    pyarrow, pandas, polars and DuckDB take it as their `filesystem`. A path is absolute, with or without `hdfs://…`.

    Args:
        seconds: how long the NameNode or a DataNode may take for one answer.

    Raises:
        FlowError: the NameNode is down, is not ready yet (safe mode), or no DataNode can be reached.
    """
    from flow360.clients.webhdfs import Lake

    return Lake(seconds)


def hive(**kw: Any) -> HiveServer2Connection:
    """Connect (DB-API, impyla) to HiveServer2: `with hive() as connection: connection.cursor().execute(…)`.

    Args:
        kw: anything that `impala.dbapi.connect` takes, e.g. database="clean"; timeout is seconds for one answer (60).

    Raises:
        FlowError: HiveServer2 is down, or does not open a session.
    """
    reach.require("hive-server")
    with lake_errors():
        connection = hive_at(settings().hive_server_port, **kw)
        connection.cursor().close()  # impyla connects without a word; the session is the first thing that can fail
    return connection


@contextmanager
def lake_errors() -> Iterator[None]:
    """Turn what HiveServer2 says about a failure within the block into one line (FlowError)."""
    from impala.error import Error
    from thrift.Thrift import TException

    try:
        yield
    except (Error, TException, OSError, EOFError) as error:
        # It cannot work without these, and says so in many ways.
        for service in ("hive-server", "hive-metastore", "namenode"):
            if not reach.answers(service):
                raise reach.is_down(service) from None
        text = re.sub(r"(Error while (compiling|processing) statement: |FAILED: )+", "", str(error).strip())
        line = (text.splitlines() or [type(error).__name__])[0][:300]
        if "Error validating the login" in line:
            line = "hive-server refuses the password: is .env the one that it was started with?"
            raise ServiceError(line) from None
        if isinstance(error, Error):
            raise FlowError(f"lake: {line}") from None
        raise ServiceError(f"hive-server broke off ({line}): see `flow360 logs hive-server`") from None


def hive_at(
    port: int, *, host: str = "127.0.0.1", password: str | None = None, timeout: float = 60, **kw: Any
) -> HiveServer2Connection:
    """Connect to a HiveServer2 by impyla, with no words of ours when it fails; without a password, with ours."""
    from impala.dbapi import connect

    who = {"auth_mechanism": "PLAIN", "user": "primeur", "password": password or settings().hive_server_password}
    with reach.quiet("thrift.transport.TSocket"):
        return connect(host, port, timeout=timeout, retries=1, **who, **kw)
