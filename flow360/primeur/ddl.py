"""SQL for Primeur's tables, written from the schema."""

from __future__ import annotations

import hashlib

from flow360.primeur.schema import TABLES, Table


def _name(schema: str, table: str) -> str:
    return f'"{schema}"."{table}"'


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def create(schema: str, table: Table, checks: bool) -> str:
    """Write CREATE TABLE with types and NOT NULL, and the checks when asked; keys come after the load."""
    lines = []
    for c in table.columns:
        line = f"{c.name} {c.sql_type}" + ("" if c.nullable else " not null")
        if checks and c.check:
            line += f" check ({c.name} {c.check})"
        lines.append(line)
    return f"create table {_name(schema, table.name)} (\n  " + ",\n  ".join(lines) + "\n)"


def keys(schema: str, table: Table, foreign: bool) -> list[str]:
    """Write the primary key; with `foreign` also unique columns, foreign keys, and an index on each of these."""
    name = _name(schema, table.name)
    found = [f"alter table {name} add primary key ({', '.join(table.key)})"]
    if not foreign:
        return found
    for c in table.columns:
        if c.unique:
            found.append(f"alter table {name} add unique ({c.name})")
        if c.references:
            parent, column = c.references.split(".")
            found.append(f"alter table {name} add foreign key ({c.name}) references {_name(schema, parent)} ({column})")
            if c.name != table.key[0] and not c.unique:
                found.append(f"create index on {name} ({c.name})")
    return found


def comments(schema: str, table: Table) -> list[str]:
    """Write COMMENT ON TABLE (the grain) and on each column (its meaning and unit)."""
    name = _name(schema, table.name)
    found = [f"comment on table {name} is {_text('One row is ' + table.grain + '.')}"]
    for c in table.columns:
        text = c.text + (f" [{c.unit}]" if c.unit else "")
        found.append(f"comment on column {name}.{c.name} is {_text(text)}")
    return found


def shape(tables: list[str]) -> str:
    """Make a short mark of the SQL of these tables: it changes when one of their columns or keys does."""
    text = "\n".join(create("x", TABLES[t], True) + "\n".join(keys("x", TABLES[t], True)) for t in tables)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
