"""Checks of 00_welcome: each asks the warehouse, or the stack itself."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

from flow360.checks import liberal
from flow360.checks.verdict import NotYet, exercise, expect, expect_equal, expect_type
from flow360.clients import reach
from flow360.clients.query import sql

KNOWN = "VAN-03"
"""The van whose evening the lesson is about."""

LATE = """
    select avg((delivered_at > promised_to)::int)::float8 as late,
           avg((delivered_at > promised_from)::int)::float8 as early,
           count(*) filter (where delivered_at > promised_to) as count
    from primeur.deliveries
"""

ALARM = """
    with readings as (
        select measured_at, celsius, min(celsius) over ten as coolest, avg(celsius) over ten as average,
               count(*) over ten as of
        from primeur.temperatures
        where van_id = %(van)s and (measured_at at time zone 'Europe/Paris')::date = '2026-05-07'
        window ten as (order by measured_at rows between 9 preceding and current row)
    ), moments as (
        select min(measured_at) filter (where coolest > 8 and of = 10) as alarm,
               min(measured_at) filter (where celsius > 8) as first,
               min(measured_at) filter (where average > 8 and of = 10) as mean
        from readings
    )
    select to_char(alarm at time zone 'Europe/Paris', 'HH24:MI') as alarm,
           to_char(alarm at time zone 'UTC', 'HH24:MI') as utc,
           to_char(first at time zone 'Europe/Paris', 'HH24:MI') as first,
           to_char(mean at time zone 'Europe/Paris', 'HH24:MI') as mean
    from moments
"""


@exercise
def busiest_store(busiest: Any) -> None:
    """Ask for the store_id with the most orders."""
    busiest = liberal.whole("busiest", busiest)
    orders = sql("select store_id, count(*) as orders from primeur.orders group by store_id order by orders desc")
    if busiest not in set(orders["store_id"]):
        raise NotYet(f"busiest: expected a store_id of primeur.stores, found {busiest}")
    mine = int(orders.set_index("store_id").loc[busiest, "orders"])
    most = int(orders["orders"].iat[0])
    expect(mine == most, f"busiest: store {busiest} has {mine} orders, another one has {most}")


@exercise
def late_share(late: Any) -> None:
    """Ask for the share, between 0 and 1, of deliveries after the promised hour."""
    late = liberal.number("late", late)
    truth = sql(LATE).iloc[0]
    if late == truth["count"]:
        raise NotYet("late: expected a share between 0 and 1, found the number of late deliveries")
    if abs(late - 100 * truth["late"]) < 0.5:
        raise NotYet("late: expected a share between 0 and 1, found a percentage")
    if abs(late - truth["early"]) < 0.0005:
        raise NotYet("late: measured against the start of the promised hour; late is after its end, promised_to")
    expect(abs(late - truth["late"]) < 0.0005, f"late: expected another share of primeur.deliveries, found {late:.4f}")


@exercise
def warmest_van(warmest: Any) -> None:
    """Ask for the van_id of the highest reading beside VAN-03's."""
    warmest = liberal.text("warmest", warmest, "VAN-01")
    expect(warmest != KNOWN, f"warmest: {KNOWN} is in the workshop already: which of the other vans?")
    vans = sql("select van_id, max(celsius) as top, avg(celsius) as mean from primeur.temperatures group by van_id")
    vans = vans.set_index("van_id").drop(KNOWN)
    if warmest not in vans.index:
        raise NotYet(f"warmest: expected a van_id such as VAN-01, found {warmest!r}")
    why = "that is the highest average: three warm minutes hide in one" if warmest == vans["mean"].idxmax() else ""
    expect_equal("warmest", found=warmest, expected=vans["top"].idxmax(), why=why)


@exercise
def alarm_minute(alarm: Any) -> None:
    """Ask for the minute, in Paris, of VAN-03's tenth reading in a row above 8 °C on Thursday."""
    alarm = liberal.text("alarm", alarm, "09:05")
    if not re.fullmatch(r"[0-2]\d:[0-5]\d", alarm):
        raise NotYet(f'alarm: expected a text such as "09:05", found {alarm!r}')
    truth = sql(ALARM, {"van": KNOWN}).iloc[0]
    near = {
        truth["first"]: "that is the first reading above 8 °C: a door that is opened would ring, too",
        truth["utc"]: "that is the minute in UTC: what does the clock in Paris show?",
        truth["mean"]: "that is where the average of ten is above 8 °C: some of them were not",
    }
    why = near.get(alarm, "is each of the ten readings above 8 °C, and is it the first such minute?")
    expect(alarm == truth["alarm"], f"alarm: expected another minute than {alarm}: {why}")


@exercise
def break_and_repair(running_since: Any, message: Any) -> None:
    """Ask for the line that a stopped postgres-dwh gave, and for a server that was started after `running_since`."""
    expect_type("running_since", running_since, datetime)
    message = liberal.text("message", message)
    if str(reach.is_down("postgres-dwh")) not in message:
        raise NotYet(f"message: expected the line that names the stopped service and its cure, found {message[:80]!r}")
    now = sql("select pg_postmaster_start_time() as since").iat[0, 0]
    expect(
        now > running_since, f"running_since: the server has been running since {now:%H:%M:%S}: was it stopped at all?"
    )
