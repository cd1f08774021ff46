"""The way of an order: shop, API, branch's file, lake, warehouse, mart, panel. Add a hop at its place."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from flow360 import clients
from flow360.errors import Exit, FlowError, ServiceError
from flow360.primeur.clock import PARIS
from flow360.primeur.contract import contract
from flow360.primeur.intake import records
from flow360.primeur.snapshot import FILES
from flow360.processing import clean
from flow360.storage import raw
from flow360.trace import asking
from flow360.trace.way import SECONDS, NotThere, Place, Thing, Trace, Way
from flow360.waiting import patient

WAY = Way("order")


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
              select (moment at time zone 'Europe/Paris')::date from (
                select ordered_at union select paid_at from payments p where p.order_id = orders.order_id
                union select delivered_at from deliveries d where d.order_id = orders.order_id
                union select written_at from reviews r where r.order_id = orders.order_id) as happened (moment)
            ) as days
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
    for path in sorted(FILES.glob(contract("orders_csv").path)):
        if number not in path.read_bytes():
            continue
        for record in records(contract("orders_csv"), path):
            if str(record.values.get("order_id")) == str(order.key):
                what = f"not right: {record.defect}" if record.defect else f"{record.right['total_eur']} EUR"
                found.append(Place(f"{path.name}, line {record.line}", what))
    return found


@WAY.hop("raw", after="shop", service="namenode", by="nightly_lake")
def raw_zone(order: Thing) -> list[Place]:
    lake = asking.lake()
    return [
        Place(f"{one.path(file)}, line {row['line']}", row["reason"] or "right", one.landed_at)
        for source in raw.SOURCES
        for day in asking.days_of(lake, f"{raw.ZONE}/{source}", "day", order.known.get("days"))
        for one in raw.runs(lake, source, day)[-1:]
        for file in one.files
        for row in _lines(order, one, file, lake)
    ]


def _lines(order: Thing, run: raw.Manifest, file: raw.File, lake: asking.Lake) -> Iterator[dict]:
    promised = clean.promise(run.source, file.name)
    if promised is None or promised.table != "orders":
        return
    data = lake.cat_file(run.path(file))
    if str(order.key).encode() not in data:
        return
    key = json.dumps([str(order.key)])
    yield from (row for row in clean.judged(run.source, run.day, file, data) if row["key"] == key or _names(order, row))


def _names(order: Thing, row: dict) -> bool:
    """Whether a row that is not right is about the order, as far as its bytes say: a field is its number."""
    if not row["reason"]:
        return False
    return re.search(rb"(?<![0-9A-Za-z.+-])%d(?![0-9A-Za-z.-])" % order.key, row["original"] or b"") is not None


@WAY.hop("clean", after="raw", service="namenode", by="nightly_lake")
def clean_zone(order: Thing) -> list[Place]:
    lake, found = asking.lake(), []
    for day in asking.days_of(lake, f"{clean.ZONE}/orders", "business_day", order.known.get("days")):
        folder = f"{clean.ZONE}/orders/business_day={day}"
        columns = ["status", *clean.CAME_FROM]
        for row in asking.parquet(lake, folder, columns=columns, filters=[("order_id", "=", order.key)]).to_pylist():
            came = f"{row['status']}; out of {row['_source']}/{row['_file']}, line {row['_line']}"
            found.append(Place(folder, came, asking.landed_at(lake, folder)))
    return found


@WAY.hop("quarantine", after="raw", service="namenode", by="")
def quarantine(order: Thing) -> list[Place]:
    lake, found = asking.lake(), []
    for day in asking.days_of(lake, f"{clean.ZONE}/quarantine", "business_day", order.known.get("days")):
        folder = f"{clean.ZONE}/quarantine/business_day={day}"
        for row in asking.parquet(lake, folder, filters=[("table", "=", "orders")]).to_pylist():
            if _names(order, row):
                place = f"{folder}: {row['source']}/{row['file']}, line {row['line']}"
                found.append(Place(place, row["reason"], asking.landed_at(lake, folder)))
    return found


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
    shown = clients.prometheus().query('nightly_orders{layer="warehouse"}')
    if shown.empty or "day" not in order.known:
        return []
    on = {row.day: int(row.value) for row in shown.itertuples()}
    if (day := str(order.known["day"])) not in on:
        raise NotThere(f"it shows {', '.join(sorted(on))}")
    return [Place(asking.panels("nightly_orders"), f"1 of the {on[day]} orders of {day}")]
