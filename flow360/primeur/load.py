"""Primeur's tables into PostgreSQL: `python -m flow360.primeur.load`.

postgres-source gets the shop's clean tables in schema `public`, with keys and checks; postgres-dwh gets what your
predecessor left: a copy of the twelve tables in schema `primeur` (primary keys only, as is usual in a warehouse), which
chapters 00 and 01 read and nothing else, and an empty schema `staging`.

Each database is loaded in one transaction, so a killed load leaves nothing behind, and its last act is to note a stamp
in the comment of the schema: with the same stamp there, the next load does nothing, and changes stay.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable
from typing import Annotated

import psycopg
import pyarrow as pa
import typer
from psycopg import sql

from flow360.errors import FlowError, ServiceError
from flow360.primeur import ddl
from flow360.primeur.copying import copy_table
from flow360.primeur.generate import table
from flow360.primeur.plan import SEED_PLAN, Plan
from flow360.primeur.schema import TABLES, WAREHOUSE, load_order
from flow360.primeur.snapshot import SEED, seed_table
from flow360.settings import settings

_STAMP = re.compile(r"\[primeur (\S+) (\S+)\]$")
_LOCK = 360_001  # two loads at a time wait for each other


def connect(which: str) -> psycopg.Connection:
    """Connect to "source" or "dwh"; POSTGRES_SOURCE_HOST and POSTGRES_DWH_HOST name another host than 127.0.0.1.

    Raises:
        FlowError: the service does not answer, or refuses the password.
    """
    s, env = settings(), f"POSTGRES_{which.upper()}_HOST"
    try:
        return psycopg.connect(
            host=os.environ.get(env, "127.0.0.1"),
            port=getattr(s, f"postgres_{which}_port"),
            user=getattr(s, f"postgres_{which}_user"),
            password=getattr(s, f"postgres_{which}_password"),
            dbname=getattr(s, f"postgres_{which}_db"),
            connect_timeout=10,
            client_encoding="utf8",
        )
    except psycopg.OperationalError as error:
        reason = str(error).strip().splitlines()[0].rpartition("FATAL: ")[2].strip()
        if "authentication" in reason:
            fix = f"its password is not the one in .env: set POSTGRES_{which.upper()}_PASSWORD, or flow360 reset"
            raise ServiceError(f"postgres-{which} refuses: {reason}; {fix} postgres-{which}") from None
        problem = f"postgres-{which} does not answer: flow360 up postgres-{which} ({reason})"
        raise ServiceError(problem) from error  # the log of market-api shows where


def seed_stamp() -> str:
    """Make a short mark of the committed tables' bytes."""
    digest = hashlib.sha256()
    for name in TABLES:
        digest.update((SEED / "tables" / f"{name}.csv.gz").read_bytes())
    return digest.hexdigest()[:12]


def found_stamp(conn: psycopg.Connection, schema: str) -> tuple[str, str]:
    """Read the (data, shape) that was loaded last, two empty texts when nothing was."""
    row = conn.execute("select obj_description(to_regnamespace(%s), 'pg_namespace')", [schema]).fetchone()
    match = _STAMP.search(row[0] or "") if row else None
    return (match[1], match[2]) if match else ("", "")


def _generated(plan: Plan) -> str:
    return f"seed={plan.seed},scale={plan.scale:g},days={plan.days}"


def loaded_plan(conn: psycopg.Connection) -> Plan:
    """Read the plan of the company that postgres-source was loaded with.

    Raises:
        ServiceError: it was loaded with nothing, or with another version's tables.
    """
    data, shape = found_stamp(conn, "public")
    known = shape == ddl.shape(load_order())
    if known and data == seed_stamp():
        return SEED_PLAN
    match = re.fullmatch(r"seed=(\d+),scale=([\d.e+-]+),days=(\d+)", data)
    if not (known and match):
        fix = "flow360 reset primeur-load, then flow360 up primeur-load, loads them again"
        raise ServiceError(f"the shop's tables are not there, or are those of another version: {fix}")
    return Plan(int(match[1]), float(match[2]), days=int(match[3]))


def load_schema(
    conn: psycopg.Connection,
    schema: str,
    names: list[str],
    get: Callable[[str], pa.Table],
    stamp: str,
    *,
    strict: bool,
    force: bool = False,
) -> int:
    """Load tables into one schema in the connection's transaction, unless the stamp says that they are there.

    Args:
        names: tables in the order in which they are to be loaded.
        get: gives a table's rows.
        stamp: the mark of these rows.
        strict: with checks, unique columns and foreign keys.
        force: load even when the stamp is the same.

    Returns:
        The rows loaded; 0 when nothing was to be done.
    """
    conn.execute("select pg_advisory_xact_lock(%s)", [_LOCK])
    shape = ddl.shape(names)
    found = found_stamp(conn, schema)
    if found == (stamp, shape) and not force:
        return 0
    full = [sql.Identifier(schema, name) for name in names]
    keep = found[1] == shape
    if keep:  # the tables stay, and with them what a learner built on them
        conn.execute(sql.SQL("truncate {}").format(sql.SQL(", ").join(full)))
    else:
        conn.execute(sql.SQL("create schema if not exists {}").format(sql.Identifier(schema)))
        conn.execute(sql.SQL("drop table if exists {} cascade").format(sql.SQL(", ").join(full)))
        for name in names:
            conn.execute(ddl.create(schema, TABLES[name], strict))
    rows = sum(copy_table(conn, f"{schema}.{name}", get(name)) for name in names)
    for name in names:
        if not keep:
            for command in ddl.keys(schema, TABLES[name], strict):
                conn.execute(command)
        for command in ddl.comments(schema, TABLES[name]):
            conn.execute(command)
    note = f"The tables of Primeur. [primeur {stamp} {shape}]"
    conn.execute(sql.SQL("comment on schema {} is {}").format(sql.Identifier(schema), sql.Literal(note)))
    return rows


def load(which: str, plan: Plan | None = None, force: bool = False) -> int:
    """Load one database, "source" or "dwh".

    Args:
        plan: None loads the committed week, another plan is generated.

    Returns:
        The rows loaded; 0 when they were there.
    """
    schema, names = ("public", load_order()) if which == "source" else ("primeur", load_order(WAREHOUSE))
    stamp = seed_stamp() if plan is None else _generated(plan)

    def get(name: str) -> pa.Table:
        return seed_table(name) if plan is None else table(name, plan)

    try:
        with connect(which) as conn:
            if which == "dwh":
                conn.execute("create schema if not exists staging")
            rows = load_schema(conn, schema, names, get, stamp, strict=which == "source", force=force)
        if rows:
            with connect(which) as conn:
                conn.autocommit = True
                conn.execute("analyze")
    except psycopg.Error as error:
        reason = str(error).strip().splitlines()[0]
        raise ServiceError(f"postgres-{which} could not be loaded, nothing was changed: {reason}") from None
    return rows


def main(
    scale: Annotated[float | None, typer.Option(help="Generate this scale instead of loading data/seed.")] = None,
    force: Annotated[
        bool, typer.Option(help="Load even when the same rows are there: takes back all changes.")
    ] = False,
    only: Annotated[str, typer.Option(help="source or dwh; both by default.")] = "",
) -> None:
    """Load Primeur's tables into postgres-source and postgres-dwh."""
    for which in [only] if only else ["source", "dwh"]:
        try:
            rows = load(which, None if scale is None else Plan(scale=scale), force)
        except FlowError as error:
            typer.echo(error.message, err=True)
            raise typer.Exit(error.code) from None
        print(f"postgres-{which}: " + (f"{rows:,} rows loaded" if rows else "up to date"))


if __name__ == "__main__":
    typer.run(main)
