"""Rows into a table by loads that may run again: a row that is there already changes nothing, or what differs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    import psycopg

WHOLE = ("smallint", "integer", "bigint")


# [START insert_once]
def insert_once(db: psycopg.Connection, table: str, rows: Sequence[Mapping[str, Any]], key: str | Sequence[str]) -> int:
    """Insert rows; one whose key is there already changes nothing.

    Args:
        table: "schema.table", with a primary key or unique constraint on `key`.
        rows: column -> value, all with the same columns.
        key: one column, or several.

    Returns:
        How many rows were new.
    """
    from psycopg import sql

    if not rows:
        return 0
    columns = list(rows[0])
    statement = sql.SQL("insert into {} ({}) values ({}) on conflict ({}) do nothing").format(
        sql.Identifier(*table.split(".")),
        sql.SQL(", ").join(map(sql.Identifier, columns)),
        sql.SQL(", ").join(map(sql.Placeholder, columns)),
        sql.SQL(", ").join(map(sql.Identifier, [key] if isinstance(key, str) else key)),
    )
    with db.cursor() as cursor:
        cursor.executemany(statement, rows)
        return cursor.rowcount


# [END insert_once]


# [START merge_by_copy]
def merge_by_copy(db: psycopg.Connection, table: str, rows: pd.DataFrame, key: str | Sequence[str]) -> dict[str, int]:
    """Bring rows into a table by COPY: new keys are inserted, changed rows replaced, equal ones left alone.

    All or nothing, within the transaction of `db`. What the table computes by itself is left to it.

    Args:
        table: "schema.table", partitioned or not, with a primary key or unique constraint on `key`.
        rows: columns named like the table's, each key once; missing values become null, dicts and lists JSON.
        key: one column, or several.

    Returns:
        How many were "new", "changed" and "same".
    """
    from psycopg import sql
    from psycopg.rows import tuple_row

    target, keys = sql.Identifier(*table.split(".")), [key] if isinstance(key, str) else list(key)
    with db.transaction(), db.cursor(row_factory=tuple_row) as cursor:
        about = """select attname, atttypid::regtype::text, attgenerated <> '', attidentity = 'a'
            from pg_attribute where attrelid = %s::regclass"""
        found = cursor.execute(about, [target.as_string(db)]).fetchall()
        kinds = {name: kind for name, kind, _, _ in found}
        computed = {name for name, _, computed, _ in found if computed}
        fixed = {*keys, *(name for name, _, _, counted in found if counted)}
        columns = [name for name in rows.columns if name not in computed]
        others = [name for name in columns if name not in fixed]

        def each(names: Iterable[str], text: str = "{}") -> sql.Composed:
            return sql.SQL(", ").join(sql.SQL(text).format(sql.Identifier(name)) for name in names)

        def values_of(row: str) -> sql.Composed:
            cast = {"json": "::text"}  # it has no `=`
            return sql.SQL(", ").join(each([n], f"{row}.{{}}{cast.get(kinds.get(n), '')}") for n in others)

        replace = sql.SQL("do update set {} where ({}) is distinct from ({})").format(
            each(others, "{0} = excluded.{0}"), values_of("t"), values_of("excluded")
        )
        parts = {"target": target, "columns": each(columns), "key": each(keys), "old": each(keys[:1], "old.{}")}
        parts["then"] = replace if others else sql.SQL("do nothing")
        cursor.execute("drop table if exists pg_temp.incoming")
        shape = "create temp table incoming on commit drop as select {columns} from {target} with no data"
        cursor.execute(sql.SQL(shape).format(**parts))
        with cursor.copy(sql.SQL("copy incoming ({columns}) from stdin").format(**parts)) as copy:
            for row in _fitting(rows[columns], kinds).itertuples(index=False, name=None):
                copy.write_row(row)
        merge = """insert into {target} as t ({columns}) overriding system value select {columns} from incoming
            on conflict ({key}) {then} returning {old} is null"""  # a row that was not there before has no old one
        done = [new for (new,) in cursor.execute(sql.SQL(merge).format(**parts))]
    return {"new": sum(done), "changed": len(done) - sum(done), "same": len(rows) - len(done)}


# [END merge_by_copy]


def _fitting(rows: pd.DataFrame, kinds: Mapping[str, str]) -> pd.DataFrame:
    """Turn the rows into objects: pandas makes 3.0 of a whole number beside a gap, and JSON is text on its way."""
    import pandas as pd

    values = rows.astype(object).where(rows.notna(), None)
    fit = dict.fromkeys(WHOLE, lambda v: int(v) if isinstance(v, float) and v.is_integer() else v)
    fit |= dict.fromkeys(("json", "jsonb"), lambda v: v if v is None or isinstance(v, str) else json.dumps(v))
    for name in values.columns:
        if kinds.get(name) in fit:
            fitting = [fit[kinds[name]](value) for value in values[name]]
            values[name] = pd.Series(fitting, values.index, object)  # else pandas would make floats again
    return values
