"""PostgreSQL by psycopg, by SQLAlchemy, by ADBC; MySQL by PyMySQL."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from flow360.clients import reach
from flow360.errors import Exit, FlowError, ServiceError
from flow360.settings import is_split, settings

if TYPE_CHECKING:
    import adbc_driver_postgresql.dbapi
    import psycopg
    import pymysql
    import sqlalchemy

# what it is called here, and in the settings: user, database and password
_POSTGRES = {
    "warehouse": "postgres_dwh",
    "source": "postgres_source",
    "airflow": "postgres_airflow",
    "metastore": "postgres_hive",
}
_ALSO = {"postgres-dwh": "warehouse", "dwh": "warehouse", "postgres-source": "source", "shop": "source"}


def _postgres_service(which: str) -> tuple[str, dict[str, Any]]:
    try:
        key = _POSTGRES[_ALSO.get(which, which)]
    except KeyError:
        raise FlowError(
            f'there is no database {which!r}: use "warehouse", "source", "airflow" or "metastore"', Exit.USAGE
        ) from None
    s = settings()
    shared = key in ("postgres_airflow", "postgres_hive") and not is_split(s.compose_file)
    service = "postgres-dwh" if shared else key.replace("_", "-")
    return service, {
        "host": "127.0.0.1",
        "port": reach.port_of(service),
        "user": getattr(s, f"{key}_user"),
        "password": getattr(s, f"{key}_password"),
        "dbname": getattr(s, f"{key}_db"),
        "connect_timeout": reach.CONNECT_SECONDS,
        "application_name": "flow360",
        "options": "-c statement_timeout=120s",
    }


def postgres(which: str = "warehouse", **kw: Any) -> psycopg.Connection:
    """Connect to the warehouse (`datawarehouse`), the source (`shop`), or the records of Airflow or of the metastore.

    Used as `with postgres() as db:` it commits at the end of the block, rolls back on an error, and closes.

    Args:
        which: "warehouse", "source", "airflow" or "metastore" (Hive's).
        kw: anything that `psycopg.connect` takes, e.g. autocommit=True, row_factory=dict_row; it wins over the
            defaults (5 s to connect, 120 s a statement).

    Raises:
        FlowError: the server is down, is still starting, refuses the password of `.env`, or cannot be talked to
            (`PGSSLMODE=require`): the driver's reason.
    """
    import psycopg

    service, defaults = _postgres_service(which)
    try:
        return psycopg.connect(**{**defaults, **kw})
    except psycopg.OperationalError as error:
        raise _postgres_error(service, str(error)) from None


def refused(service: str) -> FlowError:
    """Write the one line about a password that a database does not take."""
    return ServiceError(
        f"{service} refused the password of .env: put back the .env that the database was made with, "
        f"or make it again with `flow360 reset {service}` (its data goes)",
    )


def _postgres_error(service: str, text: str) -> FlowError:
    if "authentication failed" in text or "no password supplied" in text:
        return refused(service)
    if "starting up" in text or "shutting down" in text or "recovery" in text:
        return ServiceError(f"{service} is not ready yet: try again in a few seconds, or `flow360 status`")
    if "does not exist" in text or "too many clients" in text or "permission denied" in text:
        # The driver adds where it connected to, and sometimes a DETAIL: the line that matters is the server's own.
        said = next((line for line in text.splitlines() if "FATAL:" in line), text.strip().splitlines()[-1])
        return ServiceError(f"{service}: {said[max(0, said.find('FATAL:')) :].strip()}")
    return reach.is_down(
        service, re.sub(r"connection (failed|is bad): (connection to server at .*, port \d+ failed: )?", "", text)
    )


def mysql(**kw: Any) -> pymysql.Connection:
    """Open a connection to the fleet's database, in strict mode and in UTC as the server is.

    Used as `with mysql() as db:` it closes at the end of the block; commit yourself.

    Args:
        kw: anything that `pymysql.connect` takes, e.g. autocommit=True, cursorclass=DictCursor, user="root"; it wins
            over the defaults (5 s to connect, 120 s for an answer).

    Raises:
        FlowError: the server is down, refuses the password of `.env`, or the database that was asked for.
    """
    import pymysql
    from pymysql.constants import ER

    s = settings()
    defaults: dict[str, Any] = {
        "host": "127.0.0.1",
        "port": s.fleet_port,
        "user": s.fleet_user,
        "password": s.fleet_password,
        "database": s.fleet_db,
        "charset": "utf8mb4",
        "connect_timeout": reach.CONNECT_SECONDS,
        "read_timeout": 120,
        "write_timeout": 120,
    }
    try:
        return pymysql.connect(**{**defaults, **kw})
    except pymysql.OperationalError as error:
        number, said = (*error.args, "")[:2]
        if number == ER.ACCESS_DENIED_ERROR:
            raise refused("mysql") from None
        if number == ER.CON_COUNT_ERROR:
            raise ServiceError(f"mysql: {said}: close connections that nobody uses") from None
        raise reach.is_down("mysql", said) from None


def engine(which: str = "warehouse", **kw: Any) -> sqlalchemy.Engine:
    """Make a SQLAlchemy engine for the warehouse or the source (psycopg 3), or for the fleet ("mysql", by PyMySQL).

    It has been asked once when you get it.

    Raises:
        FlowError: as `postgres` and `mysql`.
    """
    import sqlalchemy

    if which == "mysql":
        mysql().close()
        return sqlalchemy.create_engine("mysql+pymysql://", **{"pool_pre_ping": True, "creator": mysql, **kw})
    postgres(which).close()
    _, at = _postgres_service(which)
    url = sqlalchemy.URL.create(
        "postgresql+psycopg",
        username=at.pop("user"),
        password=at.pop("password"),
        host=at.pop("host"),
        port=at.pop("port"),
        database=at.pop("dbname"),
    )
    return sqlalchemy.create_engine(url, **{"pool_pre_ping": True, "connect_args": at, **kw})


def adbc(which: str = "warehouse") -> adbc_driver_postgresql.dbapi.Connection:
    """Connect by ADBC, which takes and gives Arrow tables: `cursor.adbc_ingest("t", table, mode="append")`.

    Used as `with adbc() as db:` it closes at the end; commit yourself.

    Raises:
        FlowError: as `postgres`.
    """
    from urllib.parse import quote

    from adbc_driver_postgresql import dbapi

    postgres(which).close()
    _, at = _postgres_service(which)
    who = f"{quote(at['user'])}:{quote(at['password'])}"
    return dbapi.connect(f"postgresql://{who}@{at['host']}:{at['port']}/{at['dbname']}")
