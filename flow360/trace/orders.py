"""The way of an order: shop, API, branch's file, lake, warehouse, mart, panel, logs. Add a hop at its place."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date
from typing import TYPE_CHECKING

from flow360 import clients
from flow360.errors import Exit, FlowError, ServiceError
from flow360.primeur.clock import PARIS
from flow360.primeur.contract import contract
from flow360.primeur.intake import Record, records, rows
from flow360.primeur.shop import HAPPENED
from flow360.primeur.snapshot import dropped
from flow360.processing import clean
from flow360.storage import clean_zone, raw
from flow360.trace import asking
from flow360.trace.way import SECONDS, Failed, NotThere, Place, Thing, Trace, Way
from flow360.waiting import patient

if TYPE_CHECKING:
    from flow360.clients.webhdfs import Lake

WAY = Way("order")
KEPT = "2d"
"""So far back Prometheus is asked which days the dashboard has shown: as long as it keeps samples."""


def follow(number: int | str) -> Trace:
    """Ask every layer where an order is.

    Raises:
        FlowError: that cannot be an order's number, or no layer knows it.
        ServiceError: no layer that answers knows it.
    """
    if not re.fullmatch(r"0*[1-9][0-9]{0,17}", str(number), re.ASCII):
        raise FlowError(f"order {str(number)[:40]!r}: a number from 1, of 18 digits at most, as 100933", Exit.USAGE)
    return WAY.follow(Thing("order", int(number)))


@WAY.hop("shop", after="", service="postgres-source", by="market-day")
def shop(order: Thing) -> list[Place]:
    found = asking.rows(
        "source",
        f"""select orders.*, {asking.WRITTEN.format("orders.")} as written, array(
              select (moment at time zone 'Europe/Paris')::date from ({HAPPENED}) as happened
              where happened.order_id = orders.order_id) as days
            from orders where order_id = %s""",
        order.key,
    )
    for row in found:
        order.learn(day=row.ordered_at.astimezone(PARIS).date(), days=sorted(set(row.days)))
    return [
        Place(
            f"table orders, order_id = {row.order_id}",
            f"ordered {asking.paris(row.ordered_at)} at store {row.store_id}, {row.total_eur} EUR, {row.status}",
            row.written,
        )
        for row in found
    ]


CHANGES = "cdc.shop.public.orders"


@WAY.hop("changes", after="shop", service="kafka", by="")
def changes(order: Thing) -> list[Place]:
    return asking.changes(CHANGES, "order_id", [order.key], lambda row: row["status"])


@WAY.hop("captured", after="changes", service="postgres-dwh", by="")
def captured(order: Thing) -> list[Place]:
    """Find the order where its changes come, seconds after the shop; the night's way is another one."""
    return asking.captured(CHANGES, f'{{"order_id":{order.key}}}')


@WAY.hop("API", after="shop", service="market-api", by="")
def api(order: Thing) -> list[Place]:
    answer = clients.api(seconds=patient(SECONDS)).get(f"/orders/{order.key}")
    if answer.status_code == 404:
        return []
    if not answer.ok:
        raise ServiceError(f"market-api answers {answer.status_code}: ask again")
    said = answer.json()
    return [Place(f"GET /orders/{order.key}", f"{said.get('total_eur')} EUR, {said.get('status')}")]


@WAY.hop("file", after="shop", service="", by="")
def branch_file(order: Thing) -> list[Place]:
    number, found = str(order.key).encode(), []
    for path in dropped(contract("orders_csv").path):
        if number not in path.read_bytes():
            continue
        for record in records(contract("orders_csv"), path):
            if _is(order, record):
                what = f"not right: {record.defect}" if record.defect else f"{record.right['total_eur']} EUR"
                found.append(Place(f"{path.name}, line {record.line}", what))
    return found


@WAY.hop("raw", after="shop", service="namenode", by="nightly_lake")
def raw_zone(order: Thing) -> list[Place]:
    lake = asking.lake()
    found, lines = [], set()
    for source in raw.SOURCES:
        for day in asking.days_of(lake, f"{raw.ZONE}/{source}", "day", order.known.get("days")):
            for run in raw.runs(lake, source, day)[-1:]:
                for file, record in _records(order, lake, run):
                    lines.add((source, file.name, record.line))
                    place = f"{run.path(file)}, line {record.line}"
                    found.append(Place(place, record.defect or "keeps its contract", run.landed_at))
    order.learn(lines=lines)
    return found


def _records(order: Thing, lake: Lake, run: raw.Manifest) -> Iterator[tuple[raw.File, Record]]:
    """Yield the rows of a run that are about the order, right or not, as far as they can be divided into columns."""
    for file in run.files:
        promised = clean.promise(run.source, file.name)
        if promised is None or promised.table != "orders":
            continue
        data = lake.cat_file(run.path(file))
        if str(order.key).encode() in data:
            yield from ((file, record) for record in rows(promised, data) if _is(order, record))


def _is(order: Thing, record: Record) -> bool:
    return str(record.values.get("order_id")) == str(order.key)


@WAY.hop("clean", after="raw", service="namenode", by="nightly_lake")
def cleaned(order: Thing) -> list[Place]:
    lake, found = asking.lake(), []
    for day in _clean_days(order, lake, "orders"):
        folder, columns = clean_zone.partition("orders", day), ["status", *clean.CAME_FROM]
        mine = clean_zone.read(lake, "orders", day, columns=columns, filters=[("order_id", "=", order.key)])
        for row in mine.to_pylist():
            came = f"{row['status']}; out of {row['_source']}/{row['_file']}, line {row['_line']}"
            found.append(Place(folder, came, asking.landed_at(lake, folder)))
    return found


@WAY.hop("quarantine", after="raw", service="namenode", by="")
def quarantine(order: Thing) -> list[Place]:
    """Find what was set aside of the rows that the hop before has found."""
    if "lines" not in order.known:
        raise Failed("the raw zone did not say which rows are to be looked for")
    lake, found = asking.lake(), []
    for day in _clean_days(order, lake, "quarantine"):
        folder = clean_zone.partition("quarantine", day)
        for row in clean_zone.read(lake, "quarantine", day, filters=[("table", "=", "orders")]).to_pylist():
            if (row["source"], row["file"], row["line"]) in order.known["lines"]:
                place = f"{folder}: {row['source']}/{row['file']}, line {row['line']}"
                found.append(Place(place, row["reason"], asking.landed_at(lake, folder)))
    return found


def _clean_days(order: Thing, lake: Lake, table: str) -> list[date]:
    return asking.days_of(lake, f"{clean_zone.ZONE}/{table}", clean_zone.KEY, order.known.get("days"))


@WAY.hop("landing", after="clean", service="postgres-dwh", by="nightly_lake")
def landing(order: Thing) -> list[Place]:
    found = asking.rows(
        "warehouse",
        f"""select *, _day as brought, _source as source, {asking.WRITTEN.format("")} as written
            from lake.orders_by_day where order_id = %s order by _day""",
        order.key,
    )
    for row in found:
        order.learn(day=row.ordered_at.astimezone(PARIS).date())
    return [
        Place(
            f"lake.orders_by_day, order_id = {row.order_id}",
            f"{row.total_eur} EUR, {row.status}, as {row.source} had it; brought with {row.brought}",
            row.written,
        )
        for row in found
    ]


@WAY.hop("fact", after="landing", service="postgres-dwh", by="nightly_dbt")
def fact(order: Thing) -> list[Place]:
    found = asking.rows(
        "warehouse",
        f"select *, {asking.WRITTEN.format('')} as written from marts.fct_orders where order_id = %s",
        order.key,
    )
    for row in found:
        order.learn(day=row.ordered_on)
    return [
        Place(
            f"marts.fct_orders, order_id = {row.order_id}",
            f"{row.total_eur} EUR, paid {row.net_eur} EUR, {row.order_status}",
            row.written,
        )
        for row in found
    ]


@WAY.hop("cell", after="fact", service="postgres-dwh", by="nightly_dbt")
def cell(order: Thing) -> list[Place]:
    found = asking.rows(
        "warehouse",
        f"""select cell.*, fact.net_eur as its, {asking.WRITTEN.format("cell.")} as written
            from marts.store_days as cell join marts.fct_orders as fact
              on cell.store_id = fact.store_id and cell.day = fact.ordered_on
            where fact.order_id = %s""",
        order.key,
    )
    return [
        Place(
            f"marts.store_days, store {row.store_id} on {row.day}",
            f"1 of {row.orders} orders, {row.its} of {row.net_eur} EUR",
            row.written,
        )
        for row in found
    ]


@WAY.hop("dashboard", after="fact", service="prometheus", by="nightly_dbt")
def dashboard(order: Thing) -> list[Place]:
    prometheus, day = clients.prometheus(), order.known.get("day")
    if day is None:
        raise NotThere("no hop before knows the order's day")
    count = prometheus.value(f'last_over_time(nightly_orders{{layer="warehouse", day="{day}"}}[{KEPT}])')
    if count is None:
        return []
    shown = set(prometheus.query('nightly_orders{layer="warehouse"}').get("day", ()))
    later = "" if str(day) in shown else f"; by now it shows {', '.join(sorted(shown)) or 'nothing'}"
    return [Place(asking.panels("nightly_orders"), f"1 of the {count:.0f} orders of {day}{later}")]


@WAY.hop("logs", after="shop", service="elasticsearch", by="")
def logs(order: Thing) -> list[Place]:
    return asking.lines({"term": {"order_id": order.key}})
