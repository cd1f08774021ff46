"""The way of a van's day: tours in shop and fleet, readings and alarms in Kafka, warehouse, pager, mart, logs."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from typing import Any

import pyarrow.compute as pc

from flow360 import clients
from flow360.errors import Exit, FlowError
from flow360.ingestion import readings as landed
from flow360.ingestion.topics import Record, read_all
from flow360.primeur.clock import PARIS, bounds, day_of
from flow360.primeur.contract import contract
from flow360.primeur.vans import READINGS
from flow360.processing.alarms import ALARMS
from flow360.trace import asking
from flow360.trace.way import SECONDS, Failed, Place, Thing, Trace, Way
from flow360.waiting import patient

WAY = Way("van")


def follow(van: str, day: date | str) -> Trace:
    """Ask every layer where a van's day is.

    Raises:
        FlowError: that cannot be a van or a day, or no layer knows of such a tour.
        ServiceError: no layer that answers does.
    """
    right, _ = contract("readings").only("van_id").judge({"van_id": van})
    if right is None:
        raise FlowError(f"van {str(van)[:40]!r}: a van's name is written as VAN-03", Exit.USAGE)
    try:
        when = day_of(day)
        bounds(when)
    except (ValueError, OverflowError):
        raise FlowError(f"{str(day)[:40]}: a date, as 2026-05-07", Exit.USAGE) from None
    return WAY.follow(Thing("van", van, {"day": when}))


@WAY.hop("shop", after="", service="postgres-source", by="market-day")
def shop(van: Thing) -> list[Place]:
    found = asking.rows(
        "source",
        f"""select *, {asking.WRITTEN.format("van_routes.")} as written,
              (select count(*) from deliveries where deliveries.route_id = van_routes.route_id) as doors
            from van_routes where van_id = %s and day = %s order by route_id""",
        van.key,
        van.known["day"],
    )
    return [
        Place(
            f"table van_routes, route_id = {row.route_id}",
            f"from store {row.store_id} at {asking.paris(row.departed_at)}, {row.doors} doors",
            row.written,
        )
        for row in found
    ]


@WAY.hop("fleet", after="shop", service="mysql", by="")
def fleet(van: Thing) -> list[Place]:
    found = asking.fleet_rows(
        "select * from tours where van_id = %s and day = %s order by route_id", van.key, van.known["day"]
    )
    van.learn(tours=[row["route_id"] for row in found])
    return [Place(f"table tours, route_id = {row['route_id']}", _driven(row)) for row in found]


def _driven(row: dict[str, Any]) -> str:
    way = row["odometer_to_km"] - row["odometer_from_km"]
    return f"driver {row['driver_id']}, {way:.1f} km, odometer {row['odometer_to_km']:.1f} km after it"


TOURS = "cdc.fleet.fleet.tours"


@WAY.hop("changes", after="fleet", service="kafka", by="")
def changes(van: Thing) -> list[Place]:
    """Find what the connector has brought of the tours that the fleet's database has."""
    if "tours" not in van.known:
        raise Failed("the fleet's database did not say which tours are to be looked for")
    return asking.changes(TOURS, "route_id", van.known["tours"], _driven)


@WAY.hop("readings", after="shop", service="kafka", by="vans-bridge")
def readings(van: Thing) -> list[Place]:
    start, end = (int(moment.timestamp() * 1000) for moment in bounds(van.known["day"]))
    mine = [record for record in _of(van, READINGS, since=start) if start <= record.timestamp < end]
    found = []
    for number in sorted({record.partition for record in mine}):
        offsets = [record.offset for record in mine if record.partition == number]
        last = max((record for record in mine if record.partition == number), key=lambda record: record.offset)
        where = f"{READINGS}, partition {number}, offsets {offsets[0]} to {offsets[-1]}"
        found.append(Place(where, f"{len(offsets):,} readings, the last one measured {_measured(last)}"))
    return found


@WAY.hop("raw", after="readings", service="namenode", by="nightly_lake")
def raw_zone(van: Thing) -> list[Place]:
    lake, found = asking.lake(), []
    mine = landed.of_day(lake, van.known["day"], columns=["offset"], filters=[("key", "=", van.key.encode())])
    for path, rows in mine:
        if len(rows):
            offsets = pc.min_max(rows["offset"]).as_py()
            what = f"{len(rows):,} readings, offsets {offsets['min']} to {offsets['max']}"
            written = lake.info(path)["modificationTime"]
            found.append(Place(path, what, datetime.fromtimestamp(written / 1000, UTC)))
    return found


@WAY.hop("alarms", after="readings", service="kafka", by="")
def alarms(van: Thing) -> list[Place]:
    start, end = bounds(van.known["day"])
    found = []
    for record in _of(van, ALARMS, isolation_level="read_committed"):
        told = json.loads(record.value)
        if start <= datetime.fromisoformat(told["since"]) < end:
            what = (
                f"too warm since {_clock(told['since'])}, said at {_clock(told['reported_at'])}: {told['celsius']} °C"
            )
            found.append(Place(f"{ALARMS}, partition {record.partition}, offset {record.offset}", what))
    return found


def _of(van: Thing, topic: str, **options: object) -> list[Record]:
    with asking.topics():
        found = read_all(topic, seconds=patient(SECONDS), **options)
    return [record for record in found if record.key == van.key.encode()]


def _measured(record: Record) -> str:
    return f"{datetime.fromtimestamp(record.timestamp / 1000, PARIS):%H:%M}"


def _clock(text: str) -> str:
    return f"{datetime.fromisoformat(text).astimezone(PARIS):%H:%M}"


@WAY.hop("ops.alarms", after="alarms", service="postgres-dwh", by="alarms-sink")
def warehouse(van: Thing) -> list[Place]:
    found = asking.rows(
        "warehouse",
        "select * from ops.alarms where van_id = %s and since >= %s and since < %s order by since",
        van.key,
        *bounds(van.known["day"]),
    )
    return [
        Place(
            f"ops.alarms, van_id = {row.van_id}, since = {row.since.astimezone(PARIS):%H:%M}",
            f"out of partition {row.kafka_partition}, offset {row.kafka_offset}; "
            + (f"closed {asking.paris(row.closed_at)}" if row.closed_at else "open"),
            row.recorded_at,
        )
        for row in found
    ]


@WAY.hop("pager", after="ops.alarms", service="prometheus", by="alarms-sink")
def pager(van: Thing) -> list[Place]:
    prometheus = clients.prometheus()
    shown = prometheus.value(f'primeur_alarms_open{{van_id="{van.key}"}}')
    if shown is None:
        return []
    firing = prometheus.value(f'count(ALERTS{{alertname="ColdChainLost", van_id="{van.key}", alertstate="firing"}})')
    what = f"{shown:.0f} open of all its days; " + ("ColdChainLost fires" if firing else "nobody is paged")
    return [Place(asking.panels("primeur_alarms_open"), what)]


@WAY.hop("landing", after="shop", service="postgres-dwh", by="nightly_lake")
def landing(van: Thing) -> list[Place]:
    found = asking.rows(
        "warehouse",
        f"""select tour.route_id, count(*) as readings, max(celsius) as warmest,
              max({asking.WRITTEN.format("reading.")}) as written
            from lake.van_routes as tour join lake.temperatures_by_day as reading using (route_id)
            where tour.van_id = %s and tour.day = %s group by tour.route_id order by tour.route_id""",
        van.key,
        van.known["day"],
    )
    return [
        Place(
            f"lake.temperatures_by_day, route_id = {row.route_id}",
            f"{row.readings:,} readings, {row.warmest:.1f} °C the warmest",
            row.written,
        )
        for row in found
    ]


@WAY.hop("fact", after="landing", service="postgres-dwh", by="nightly_dbt")
def fact(van: Thing) -> list[Place]:
    found = asking.rows(
        "warehouse",
        f"""select route_id, count(*) as doors, count(*) filter (where is_warm) as warm,
              max(tour_minutes_above_limit) as minutes, max({asking.WRITTEN.format("fct_deliveries.")}) as written
            from marts.fct_deliveries where van_id = %s and delivered_on = %s group by route_id order by route_id""",
        van.key,
        van.known["day"],
    )
    return [
        Place(
            f"marts.fct_deliveries, route_id = {row.route_id}",
            f"{row.doors} doors, {row.warm} of them above 8 °C; {row.minutes} minutes too warm on the tour",
            row.written,
        )
        for row in found
    ]


@WAY.hop("logs", after="shop", service="elasticsearch", by="")
def logs(van: Thing) -> list[Place]:
    """Find lines about the van in which its day stands: they were written whenever that day was played."""
    return asking.lines({"term": {"van_id": van.key}}, {"match_phrase": {"message": str(van.known["day"])}})
