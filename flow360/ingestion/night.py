"""What a night takes from each source for a day, as it is given, into the lake's raw zone.

    take_shop(shop, lake, day, run)     the twelve tables at one moment, as COPY writes them
    take_api(session, lake, day, run)   the pages of the day's orders, deliveries and reviews, as they were sent
    take_files(lake, day, run)          the files of the drop zone that can hold rows of the day, as they lie there

Nothing is judged here. A file that has not come is noted in the manifest, and the rest of the night goes on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from flow360.ingestion.paging import walk
from flow360.monitoring import lineage
from flow360.primeur.contract import NAMES, contract
from flow360.primeur.schema import WAREHOUSE
from flow360.primeur.shop import extracts
from flow360.primeur.snapshot import DROP_ZONE, dropped
from flow360.storage.raw import Manifest, put

if TYPE_CHECKING:
    import psycopg
    import requests

    from flow360.clients.webhdfs import Lake

LISTS = ("orders", "deliveries", "reviews")
"""The lists of the API that can be asked for one day."""
DUE = ("orders_csv",)
"""The contracts of which a file comes each day; of the others one comes now and then."""


def take_shop(shop: psycopg.Connection, lake: Lake, day: date, run: str) -> Manifest:
    """Land the shop's tables.

    Raises:
        psycopg.Error: the shop broke off.
        FlowError: the lake did.
    """
    files = ((f"{one.table}.csv", one.data, one.rows) for one in extracts(shop, day))
    with lineage.run("night.shop", map(lineage.shop, WAREHOUSE), to=lineage.raw("shop")) as job:
        return _noted(job, put(lake, "shop", day, run, files))


def take_api(session: requests.Session, lake: Lake, day: date, run: str) -> Manifest:
    """Land the API's pages of the day, each as the body that came.

    Args:
        session: `clients.api()`.

    Raises:
        GaveUp: a page did not come, however often it was asked for.
        FlowError: the service or the lake is down.
    """

    def files() -> Iterator[tuple[str, bytes, int]]:
        for name in LISTS:
            for number, (page, body) in enumerate(walk(session, f"/{name}", {"day": day.isoformat()}), 1):
                yield f"{name}-{number:04}.json", body, len(page["items"])

    with lineage.run("night.api", lineage.MARKET, to=lineage.raw("api")) as job:
        return _noted(job, put(lake, "api", day, run, files()))


def take_files(lake: Lake, day: date, run: str, folders: Sequence[Path] = DROP_ZONE) -> Manifest:
    """Land the files of the drop zone that have the day in their name, and those that have none and hold many days.

    Of the second kind each night takes the file as it lies there; the judge leaves the rows of other days to theirs.

    Raises:
        FlowError: the lake broke off.
    """
    promised = {name: contract(name) for name in NAMES if contract(name).is_file}
    wanted = {name: one.path.replace("*", day.isoformat()) for name, one in promised.items()}
    come = {name: path for name, file in wanted.items() for path in dropped(file, folders)}
    missing = {wanted[name]: "has not come" for name in DUE if name not in come}
    files = ((path.name, path.read_bytes(), None) for path in come.values())
    with lineage.run("night.files", lineage.DEPOT, to=lineage.raw("files")) as job:
        return _noted(job, put(lake, "files", day, run, files, missing))


def _noted(job: lineage.Run, landed: Manifest) -> Manifest:
    """Count what was landed: rows where the source has counted them, and bytes."""
    for file in landed.files:
        job.wrote(lineage.raw(landed.source), file.rows, file.bytes)
    return landed
