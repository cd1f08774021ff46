"""Checks of 04c_sql_transformations: each builds what the learner wrote, and asks PostgreSQL what came of it."""

from __future__ import annotations

from typing import Any

import pandas as pd

from flow360 import clients
from flow360.checks.verdict import NotYet, exercise, expect, expect_equal, expect_type
from flow360.clients.query import sql
from flow360.primeur.manifest import manifest
from flow360.processing import dbt, landing

SOURCES = """
version: 2

sources:
  - name: lab
    description: Readings of the vans on 7 May, with the moment of their arrival.
    tables:
      - name: readings

  - name: dropzone
    schema: landing
    description: The orders as the files delivered them; every column is text.
    tables:
      - name: orders
"""

REFUNDS = """
select
    delivery_id,
    coalesce(
        delivery_status = 'delivered' and celsius_at_door > 8, false
    ) as is_refundable
from {{ ref('stg_deliveries') }}
"""
"""The rule of the exercise `unit_test`."""

NOON = "2026-05-07 10:00+00"


def prepare() -> None:
    """What the exercises begin with: two sources, `lab.readings` as of noon, the files in `landing`, one rule."""
    with clients.postgres() as db:
        db.execute("create schema if not exists lab")
        db.execute("drop table if exists lab.readings cascade")
        db.execute(
            "create table lab.readings (van_id text, measured_at timestamptz, celsius float8, arrived_at timestamptz)"
        )
        deliver(db, first=True)
    landing.land("files")
    dbt.write("lab_sources.yml", SOURCES)
    dbt.write("lab_refunds.sql", REFUNDS)


def deliver(db: Any, *, first: bool) -> None:
    """Fill `lab.readings`: what had arrived by noon (Paris), or the rest of that hour.

    VAN-04 was out of reach from 10:40 to 11:00: these readings were taken before noon and arrive after it.
    """
    db.execute(
        f"""insert into lab.readings
            select * from (
                select van_id, measured_at, celsius,
                       case when van_id = 'VAN-04' and measured_at >= '2026-05-07 08:40+00'
                                 and measured_at < '2026-05-07 09:00+00'
                            then '2026-05-07 10:15+00' else measured_at + interval '20 seconds' end as arrived_at
                from lake.temperatures
                where measured_at >= '2026-05-07 08:00+00' and measured_at < '2026-05-07 11:00+00'
            ) as arriving
            where (arrived_at <= '{NOON}') = %s""",
        [first],
    )


# --- What several checks ask ------------------------------------------------------------------------------------------


def _built(variable: str, frame: Any, model: str, **options: Any) -> pd.Series:
    """The model's row of a fresh build; NotYet when it failed, or when the learner's table is of something else."""
    expect_type(variable, frame, pd.DataFrame)
    expect(
        "node" in frame and model in set(frame["node"]),
        f"{variable}: expected what dbt.build({model!r}, lab=True) returns",
    )
    fresh = dbt.build(model, lab=True, **options)
    for row in fresh.itertuples():
        if row.status in dbt.BAD:
            raise NotYet(f"{variable}: {row.node} ended with {row.status}: {row.message}")
    return fresh[fresh["node"] == model].iloc[0]


def _compare(variable: str, model: str, truth: str) -> None:
    """NotYet unless the model holds exactly the rows of a query: same columns, same values, same multiplicity."""
    wanted = list(sql(f"select * from ({truth}) as t limit 0").columns)
    found = list(sql(f"select * from lab.{model} limit 0").columns)
    if missing := [c for c in wanted if c not in found]:
        raise NotYet(f"{variable}: lab.{model} has no column {missing[0]} (it has: {', '.join(found)})")
    if extra := [c for c in found if c not in wanted]:
        raise NotYet(f"{variable}: lab.{model} has a column that was not asked for: {extra[0]}")
    columns = ", ".join(wanted)
    rows = int(sql(f"select count(*) from lab.{model}").iat[0, 0])
    expected = int(sql(f"select count(*) from ({truth}) as t").iat[0, 0])
    expect_equal(variable, found=rows, expected=expected, why=f"rows of lab.{model}")
    for column in wanted:
        keys = [c for c in wanted if c == column or c.endswith("_id") or c in ("hour", "ordered_on")]
        some = ", ".join(dict.fromkeys(keys))
        wrong = sql(f"select {some} from lab.{model} except all select {some} from ({truth}) as t")
        if len(wrong):
            row = ", ".join(f"{k}={v}" for k, v in wrong.iloc[0].items())
            raise NotYet(f"{variable}: {column} is not what was asked for in {len(wrong)} rows, such as {row}")
    left = sql(f"select {columns} from ({truth}) as t except all select {columns} from lab.{model}")
    expect(left.empty, f"{variable}: {len(left)} rows are missing in lab.{model}")


def _relation(model: str) -> str:
    kinds = {"r": "table", "v": "view", "m": "materialized view", "p": "partitioned table"}
    kind = sql("select relkind::text from pg_class where oid = to_regclass(%s)", [f"lab.{model}"])
    return kinds.get(kind.iat[0, 0], "something else") if len(kind) else "nothing"


# --- The exercises ----------------------------------------------------------------------------------------------------

PAYMENTS = """
    select payment_id, order_id, kind as payment_kind, method as payment_method,
           case kind when 'refund' then -amount_eur else amount_eur end as signed_eur,
           paid_at, (paid_at at time zone 'Europe/Paris')::date as paid_on
    from lake.payments
"""


@exercise
def staging_model(payments: Any) -> None:
    """View lab.lab_stg_payments: the source's rows, renamed, with a signed amount and the day in Paris."""
    model = "lab_stg_payments"
    _built("payments", payments, model)
    parents = dbt.manifest(lab=True, built=True)["parent_map"][f"model.primeur.{model}"]
    if parents != ["source.primeur.lake.payments"]:
        shown = ", ".join(p.rpartition(".")[2] for p in parents) or "nothing"
        raise NotYet(f"payments: expected source('lake', 'payments') as its only parent, found {shown}")
    expect_equal("payments", found=_relation(model), expected="view", why=f"how lab.{model} is materialized")
    _compare("payments", model, PAYMENTS)


PRODUCT_DAYS = """
    select l.product_id, (o.ordered_at at time zone 'Europe/Paris')::date as ordered_on,
           count(distinct o.order_id) as orders, sum(l.quantity) as quantity, sum(l.line_total_eur) as sales_eur
    from lake.order_lines l join lake.orders o using (order_id)
    where o.status <> 'cancelled'
    group by 1, 2
"""


@exercise
def fact_at_grain(product_days: Any) -> None:
    """Table lab.lab_fct_product_days: one row for each product and day (Paris), without cancelled orders."""
    model = "lab_fct_product_days"
    _built("product_days", product_days, model)
    document = dbt.manifest(lab=True, built=True)
    parents = [parent.rpartition(".")[2] for parent in document["parent_map"][f"model.primeur.{model}"]]
    if not parents or not all(parent.startswith("stg_") for parent in parents):
        shown = ", ".join(parents) or "nothing"
        raise NotYet(f"product_days: expected staging models of the project as its parents, found {shown}")
    expect_equal("product_days", found=_relation(model), expected="table", why=f"how lab.{model} is materialized")
    columns = set(sql(f"select * from lab.{model} limit 0").columns)
    if {"product_id", "ordered_on"} <= columns:
        doubled = sql(f"select 1 as n from lab.{model} group by product_id, ordered_on having count(*) > 1")
        expect(doubled.empty, f"product_days: the grain is broken: {len(doubled)} products have a day several times")
    _compare("product_days", model, PRODUCT_DAYS)


VAN_HOURS = """
    select van_id, date_trunc('hour', measured_at) as hour, count(*) as readings,
           max(celsius) as warmest_celsius, max(arrived_at) as last_arrived_at
    from lab.readings group by 1, 2
"""


@exercise
def incremental_model(van_hours: Any) -> None:
    """lab.lab_fct_van_hours, incremental: after new and late readings equal to its full refresh, with less work."""
    model = "lab_fct_van_hours"
    prepare()
    row = _built("van_hours", van_hours, model, full_refresh=True)
    expect_equal("van_hours", found=row["kind"], expected="incremental", why="how it is materialized")
    _compare("van_hours", model, VAN_HOURS)
    with clients.postgres() as db:
        deliver(db, first=False)
    row = _built("van_hours", van_hours, model)
    total = int(sql(f"select count(*) from ({VAN_HOURS}) as t").iat[0, 0])
    doubled = sql(f"select 1 as n from lab.{model} group by van_id, hour having count(*) > 1")
    expect(doubled.empty, f"van_hours: {len(doubled)} hours stand there twice after the second run: what is their key?")
    late = f"""
        select t.readings, m.readings as found from ({VAN_HOURS}) as t
        left join lab.{model} m using (van_id, hour)
        where van_id = 'VAN-04' and hour = '2026-05-07 08:00+00'
    """
    wanted, found = sql(late).iloc[0]
    if found != wanted:
        raise NotYet(
            f"van_hours: 20 readings of VAN-04 came late; its hour from 10:00 (Paris) should count {wanted:.0f} "
            f"readings, found {found:.0f}"
        )
    _compare("van_hours", model, VAN_HOURS)
    written = None if pd.isna(row["rows"]) else int(row["rows"])
    expect(
        written is not None and written < total,
        f"van_hours: the second run wrote {written} of {total} hours: only those that new readings touch were needed",
    )


MUTANTS = {
    "exactly 8 °C is allowed": ("celsius_at_door > 8", "celsius_at_door >= 8"),
    "8.1 °C is too warm": ("celsius_at_door > 8", "celsius_at_door > 9"),
    "a refused delivery was never handed over": ("delivery_status = 'delivered' and ", ""),
    "cold goods are not paid back": ("celsius_at_door > 8", "celsius_at_door > 8 or delivery_status = 'delivered'"),
    "without a temperature nothing is paid back": ("> 8, false", "> 8, true"),
}


@exercise
def unit_test(refund_tests: Any) -> None:
    """Unit tests of lab_refunds that pass for the rule and fail for each way of getting it wrong."""
    expect_type("refund_tests", refund_tests, pd.DataFrame)
    dbt.write("lab_refunds.sql", REFUNDS)
    try:
        tests = _unit_tests()
        expect(len(tests) > 0, "refund_tests: expected a unit test of model lab_refunds in lab_refunds.yml, found none")
        for row in tests.itertuples():
            expect(row.status == "pass", f"refund_tests: {row.node} fails for the rule as it should be: {row.message}")
        for sentence, (right, wrong) in MUTANTS.items():
            dbt.write("lab_refunds.sql", REFUNDS.replace(right, wrong))
            if (_unit_tests()["status"] == "pass").all():
                raise NotYet(f"refund_tests: they pass for a rule that forgets this: {sentence}")
    finally:
        dbt.write("lab_refunds.sql", REFUNDS)


def _unit_tests() -> pd.DataFrame:
    frame = dbt.build("lab_refunds", lab=True)
    return frame[frame["kind"] == "unit_test"]


KINDS = ("duplicate", "missing_key", "orphan", "not_a_number", "wrong_unit", "bad_row")


@exercise
def defects_test(fit: Any) -> None:
    """Test lab_orders_are_fit: of the landed files it returns exactly the spoilt orders, of clean ones none."""
    name = "lab_orders_are_fit"
    expect_type("fit", fit, pd.DataFrame)
    landing.land("files")
    row = _tested(name)
    expect(row["status"] != "error", f"fit: {name} could not run: {row['message']}")
    expect(row["status"] == "fail", f"fit: {name} ended with {row['status']} on the untidy files: it must fail")
    rows = sql(dbt.compiled(name, lab=True))
    expect("order_id" in rows, f"fit: {name} must return a column order_id, found {', '.join(rows.columns)}")
    found = set(rows["order_id"].dropna().astype(str))
    planted = {
        kind: {str(d.keys["order_id"]) for d in manifest().defects(channel="files", dataset="orders", kind=kind)}
        for kind in KINDS
    }
    for kind, keys in planted.items():
        expect(keys <= found, f"fit: {len(keys - found)} of {len(keys)} orders with the defect {kind} are not found")
    if extra := found - set().union(*planted.values()):
        raise NotYet(f"fit: {len(extra)} sound orders are accused, such as {min(extra)}")
    landing.land("clean")
    try:
        row = _tested(name)
    finally:
        landing.land("files")
    expect(row["status"] == "pass", f"fit: of clean orders {name} accuses {row['rows']}: it must pass there")


def _tested(name: str) -> pd.Series:
    return dbt.test(name, lab=True).set_index("node").loc[name]
