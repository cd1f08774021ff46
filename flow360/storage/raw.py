"""The raw zone of the lake: what a source gave for a day, byte for byte as it came, with a manifest of it.

    /raw/shop/day=2026-05-07/run=scheduled__2026-05-08/orders.csv        what came
    /raw/shop/day=2026-05-07/run=scheduled__2026-05-08/_manifest.json    its rows, bytes and SHA-256

Nothing is judged here, and nothing is ever changed: a day that is taken again is a run of its own beside the first. The
manifest is written last, and whole: a run without one is a run that was killed, and does not exist.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

from flow360.errors import FlowError

if TYPE_CHECKING:
    from flow360.clients.webhdfs import Lake

ZONE = "/raw"
SOURCES = ("shop", "api", "files")
"""What a night takes from, in the order in which the sources are believed."""
MANIFEST = "_manifest.json"  # Spark and Hive pass over what begins with _
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class File:
    """A file as it was landed: `rows` is what its source counted, None where it said nothing."""

    name: str
    rows: int | None
    bytes: int
    sha256: str

    def defect(self, data: bytes) -> str:
        """Say why these bytes are not the ones that were landed, or ""."""
        if len(data) != self.bytes:
            return f"not what was landed: {len(data):,} bytes of {self.bytes:,}"
        return "" if hashlib.sha256(data).hexdigest() == self.sha256 else "not what was landed: other bytes"


@dataclass(frozen=True)
class Manifest:
    """One run of one source for one day.

    Attributes:
        day: in Paris.
        run: the name of the run, as it stands in the path.
        landed_at: when the last file was there, UTC.
        missing: what should have come and did not, and why.
    """

    source: str
    day: date
    run: str
    landed_at: datetime
    files: tuple[File, ...]
    missing: Mapping[str, str] = field(default_factory=dict)

    @property
    def folder(self) -> str:
        """Where the run lies."""
        return f"{ZONE}/{self.source}/day={self.day}/run={self.run}"

    def path(self, file: File) -> str:
        """Return the path where one of its files lies."""
        return f"{self.folder}/{file.name}"

    def json(self) -> bytes:
        """Write the manifest as it is kept."""
        plain = asdict(self) | {"day": self.day.isoformat(), "landed_at": self.landed_at.isoformat()}
        return json.dumps(plain, indent=1, ensure_ascii=False).encode()

    @classmethod
    def parse(cls, data: bytes) -> Manifest:
        """Read what `json` wrote."""
        said = json.loads(data)
        said["day"], said["landed_at"] = date.fromisoformat(said["day"]), datetime.fromisoformat(said["landed_at"])
        return cls(**(said | {"files": tuple(File(**one) for one in said["files"])}))


def run_name(text: str) -> str:
    """Write a run's name as a path can hold it: HDFS has no colon, and a space asks for trouble."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-.")


def put(
    lake: Lake,
    source: str,
    day: date,
    run: str,
    files: Iterable[tuple[str, bytes, int | None]],
    missing: Mapping[str, str] | None = None,
) -> Manifest:
    """Land what a source gave for a day. The same run again takes the place of what it left before.

    Args:
        run: any text that distinguishes this run from others, such as Airflow's run_id.
        files: name, bytes, and the rows that the source counted, one after the other.
        missing: name -> why it did not come.

    Raises:
        FlowError: HDFS refused it, or a name cannot be one of a file; then the run has no manifest and does not exist.
    """
    begun = Manifest(source, day, run_name(run), datetime.now(UTC), ())
    lake.rm(begun.folder, recursive=True, missing_ok=True)
    landed = []
    for name, data, rows in files:
        if not _NAME.fullmatch(name) or name in {one.name for one in landed}:
            raise FlowError(f"raw: {name!r} cannot be the name of a file in {begun.folder}, or is there already")
        lake.write(f"{begun.folder}/{name}", data)
        landed.append(File(name, rows, len(data), hashlib.sha256(data).hexdigest()))
    done = Manifest(source, day, begun.run, datetime.now(UTC), tuple(landed), missing or {})
    lake.replace(f"{done.folder}/{MANIFEST}", done.json())
    return done


def runs(lake: Lake, source: str, day: date) -> list[Manifest]:
    """List the finished runs of a source for a day, the newest last."""
    folder = f"{ZONE}/{source}/day={day}"
    if not lake.exists(folder):
        return []
    paths = [f"{one['name']}/{MANIFEST}" for one in lake.ls(folder, detail=True) if one["type"] == "directory"]
    found = [Manifest.parse(lake.cat_file(path)) for path in paths if lake.exists(path)]
    return sorted(found, key=lambda one: one.landed_at)


def latest(lake: Lake, source: str, day: date) -> Manifest:
    """Return the newest finished run of a source for a day.

    Raises:
        FlowError: there is none.
    """
    if not (found := runs(lake, source, day)):
        raise FlowError(f"raw: nothing has been landed of {source} for {day}")
    return found[-1]
