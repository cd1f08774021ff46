"""What the exercises of 04c begin with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from flow360 import clients
from flow360.checks import scene
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

RULE = "coalesce(\n        delivery_status = 'delivered' and celsius_at_door > 8, false\n    )"
REFUNDS = f"""
select
    delivery_id,
    {RULE} as is_refundable
from {{{{ ref('stg_deliveries') }}}}
"""
"""The rule of the exercise `unit_test`."""

READINGS = "lab.readings"
NOON = "2026-05-07 10:00+00"


def prepare() -> None:
    """Make two sources, `lab.readings` as of noon, the files in `landing`, and one rule."""
    prepare_sources()
    prepare_readings()
    prepare_files()
    prepare_rule()


def prepare_sources() -> None:
    """Write down the two sources that the exercises read."""
    dbt.write("lab_sources.yml", SOURCES)


def prepare_readings() -> None:
    """Fill `lab.readings` with what had arrived by noon (Paris).

    VAN-04 was out of reach from 10:40 to 11:00: these readings were taken before noon and arrive after it.
    """
    _readings()
    with clients.postgres() as db:
        db.execute(
            f"""insert into {READINGS}
                select * from (
                    select van_id, measured_at, celsius,
                           case when van_id = 'VAN-04' and measured_at >= '2026-05-07 08:40+00'
                                     and measured_at < '2026-05-07 09:00+00'
                                then '2026-05-07 10:15+00' else measured_at + interval '20 seconds' end as arrived_at
                    from lake.temperatures
                    where measured_at >= '2026-05-07 08:00+00' and measured_at < '2026-05-07 11:00+00'
                ) as arriving
                where arrived_at <= '{NOON}'"""
        )


def prepare_files() -> None:
    """Land the orders of the drop zone."""
    landing.land("files", ["orders"])


def prepare_rule() -> None:
    """Write the rule of the exercise `unit_test`."""
    dbt.write("lab_refunds.sql", REFUNDS)


def only_readings(rows: Sequence[Mapping[str, Any]]) -> None:
    """Let `lab.readings` hold these and no others."""
    _readings()
    deliver(rows)


def deliver(rows: Sequence[Mapping[str, Any]]) -> None:
    """Let more readings arrive."""
    with clients.postgres() as db:
        scene.add(db, READINGS, rows)


def _readings() -> None:
    scene.free(READINGS)
    with clients.postgres() as db:
        db.execute("create schema if not exists lab")
        db.execute(f"drop table if exists {READINGS} cascade")
        db.execute(
            f"create table {READINGS} (van_id text, measured_at timestamptz, celsius float8, arrived_at timestamptz)"
        )
