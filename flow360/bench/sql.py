"""The figure about dbt: what it adds to the SQL that it sends."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

from flow360.bench.measure import Round, timer
from flow360.bench.sandbox import engine_of_its_own
from flow360.process import run
from flow360.stack.facade import silent

WEEKS_OF_DBT = 50

# What must differ from week to week when the landed week is repeated.
_KEYS = {
    "orders": ["order_id"],
    "order_lines": ["order_id"],
    "payments": ["payment_id", "order_id"],
    "deliveries": ["delivery_id", "order_id"],
    "reviews": ["review_id", "order_id"],
}


@contextmanager
def dbt_over_psql() -> Iterator[Round]:
    """Compare the seconds of `dbt build` in this process with the same compiled SQL (models and tests) by one psql."""
    from flow360 import clients
    from flow360.processing import dbt, feed, landing
    from flow360.settings import settings
    from flow360.storage import backup

    with engine_of_its_own() as engine:
        engine.up(["postgres-source", "postgres-dwh", "primeur-load"], silent)
        feed.fill()
        landing.land("clean")
        with clients.postgres() as db:
            for name, keys in _KEYS.items():
                columns = db.execute(f"select * from landing.{name} limit 0").description
                shifted = [
                    f"({c.name}::bigint + 100000000::bigint * week)::text" if c.name in keys else c.name
                    for c in columns
                ]
                weeks = f"generate_series(1, {WEEKS_OF_DBT - 1}) as week"
                db.execute(f"insert into landing.{name} select {', '.join(shifted)} from landing.{name}, {weeks}")
        with clients.postgres(autocommit=True) as db:
            db.execute("vacuum analyze")
        options = {
            "target": "sandbox",
            "channel": "landing",
            "full_refresh": True,
            "keep_failures": False,
            "check": True,
        }
        dbt.drop_sandbox()
        dbt.build(**options)
        # What psql cannot repeat is built before, and not measured: the snapshot, the seed, the rows of unit tests.
        options["exclude"] = "customers_snapshot public_holidays test_type:unit"
        done = list(dbt.build(**options)["node"])
        document = json.loads((dbt.target_dir("sandbox", "landing") / "manifest.json").read_text("utf-8"))
        nodes = {node["name"]: node for node in document["nodes"].values()}
        statements = ["create schema bench;"]
        for node in (nodes[name] for name in done if name in nodes):
            code = node["compiled_code"].strip().rstrip(";")
            if node["resource_type"] == "test":
                statements.append(f"select count(*) from (\n{code}\n) as failures;")
            else:
                kind = "view" if node["config"]["materialized"] == "view" else "table"
                statements.append(f"create {kind} bench.{node['name']} as\n{code};")
        statements.append("drop schema bench cascade;")
        psql = [backup.program("psql"), "--no-psqlrc", "--quiet", "-v", "ON_ERROR_STOP=1", settings().postgres_dwh_db]

        def one() -> tuple[float, float]:
            with timer() as ours:
                dbt.build(**options)
            with timer() as theirs:
                run(psql, stdin="\n".join(statements), env=backup.environment(), seconds=600)
            return ours[0], theirs[0]

        yield one
