"""One SQL statement, its rows as a DataFrame: for the warehouse, the sources, the lake and the records of others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from flow360.clients.databases import mysql, postgres
from flow360.clients.lakes import hive, lake_errors
from flow360.errors import FlowError

if TYPE_CHECKING:
    import pandas as pd

_WHOLE = (20, 21, 23, 26)  # int8, int2, int4 and oid, as PostgreSQL numbers its types


def sql(query: str, params: Sequence[Any] | Mapping[str, Any] | None = None, db: str = "warehouse") -> pd.DataFrame:
    """Run one statement and return its rows.

    Args:
        query: SQL with `%s` or `%(name)s` where a value goes; values are never pasted into the text.
        params: the values. Without them a `%` is just a `%`.
        db: "warehouse", "source", "mysql" (the fleet), "lake" (HiveServer2), or what Airflow and Hive keep for
            themselves: "airflow", "metastore".

    Returns:
        The rows. Whole numbers stay exact (int64, or Int64 where one is missing), numeric is float64: cast it to text
        where its digits matter beyond the fifteenth. For a statement without rows one line with its command tag
        ("INSERT 0 5", "OK" on the lake, "5 rows" of MySQL).

    Raises:
        FlowError: the server is down, or it refused the statement: its message, and where in the text.
    """
    import pandas as pd
    import psycopg
    from psycopg.types.numeric import FloatLoader

    pd.set_option("display.max_colwidth", 120)  # a sentence in a column should be readable
    if db == "lake":
        return _lake_sql(query, params)
    if db == "mysql":
        return _mysql_sql(query, params)
    with postgres(db) as connection:
        connection.adapters.register_loader("numeric", FloatLoader)
        try:
            cursor = connection.execute(query, params)
            if cursor.description is None:
                return pd.DataFrame({"done": [cursor.statusmessage]})
            rows, about = cursor.fetchall(), [(c.name, c.type_code in _WHOLE) for c in cursor.description]
        except psycopg.Error as error:
            connection.rollback()
            raise FlowError(_sql_error(error, query, params, db)) from None
    return _frame(rows, about)


def _frame(rows: Sequence[Sequence[Any]], about: Sequence[tuple[str, bool]]) -> pd.DataFrame:
    """Make a frame of the rows; `about` gives each column's name, and whether its numbers are whole.

    A whole number beside a missing one is a float to pandas, and another number beyond 2**53.
    """
    import pandas as pd

    table = pd.DataFrame(rows, columns=[name for name, _ in about])
    for n, (_, whole) in enumerate(about):
        if whole and any(row[n] is None for row in rows):
            table.isetitem(n, pd.array([row[n] for row in rows], dtype="Int64"))
    return table


def _sql_error(error: Any, query: str, params: Any, db: str) -> str:
    said = error.diag.message_primary or (str(error).splitlines() or [type(error).__name__])[0]
    text = f"{db}: {said}"
    position = error.diag.statement_position
    if position and params is None:
        before = query[: int(position) - 1]
        line = before.count("\n") + 1
        column = len(before) - (before.rfind("\n") + 1) + 1
        text += f" (line {line}, column {column}: `{query.splitlines()[line - 1].strip()[:80]}`)"
    if error.diag.message_hint:
        text += f". {error.diag.message_hint}"
    return text


def _mysql_sql(query: str, params: Any) -> pd.DataFrame:
    """Run one statement in the fleet's database."""
    import pandas as pd
    import pymysql
    from pymysql.constants import FIELD_TYPE
    from pymysql.converters import conversions

    whole = (FIELD_TYPE.TINY, FIELD_TYPE.SHORT, FIELD_TYPE.INT24, FIELD_TYPE.LONG, FIELD_TYPE.LONGLONG, FIELD_TYPE.YEAR)
    with mysql(conv={**conversions, FIELD_TYPE.NEWDECIMAL: float}) as connection, connection.cursor() as cursor:
        try:
            cursor.execute(query, params)
            connection.commit()
        except pymysql.Error as error:
            raise FlowError(f"mysql: {error.args[-1]}") from None
        if cursor.description is None:
            return pd.DataFrame({"done": [f"{cursor.rowcount} rows"]})
        return _frame(cursor.fetchall(), [(name, kind in whole) for name, kind, *_ in cursor.description])


def _lake_sql(query: str, params: Any) -> pd.DataFrame:
    """Run one statement in HiveServer2."""
    import pandas as pd

    with lake_errors(), hive() as connection, connection.cursor() as cursor:
        cursor.execute(query, params)
        if cursor.description is None:
            return pd.DataFrame({"done": ["OK"]})
        about = [(name, kind in ("TINYINT", "SMALLINT", "INT", "BIGINT")) for name, kind, *_ in cursor.description]
        return _frame(cursor.fetchall(), about)
