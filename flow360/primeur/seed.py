"""The committed week: writes data/seed/ again. `python -m flow360.primeur.seed` is a maintainer's command.

The tables are CSV in gzip, because they are loaded and not read, and because CSV's bytes do not depend on the version
of a library; a document is a line of MongoDB's Extended JSON, in gzip, too. What is compared is the text inside, since
two builds of zlib may pack the same text differently. The drop zone's files are as their senders made them.
"""

from __future__ import annotations

import gzip
import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import typer

from flow360.primeur import documents, documents_spoilt, files, tours, weather_file
from flow360.primeur.api import feed
from flow360.primeur.copying import csv_bytes
from flow360.primeur.defects import Defect
from flow360.primeur.generate import table
from flow360.primeur.plan import DAY, FAILING_DAY, FAILING_MINUTE, FAILING_VAN, SEED_PLAN, Plan, van_name
from flow360.primeur.records import by_day, local, outward, utc
from flow360.primeur.schema import FLEET, TABLES
from flow360.primeur.snapshot import document_line
from flow360.primeur.vans import TOPIC, stream
from flow360.settings import ROOT

FOLDER = ROOT / "data" / "seed"
PACKED = ("tables/", "documents/")


@dataclass
class Seed:
    """What data/seed/ holds, in memory: `texts` by relative path (not packed), the Parquet file's table."""

    texts: dict[str, bytes]
    weather: pa.Table
    manifest: dict[str, Any]


def build(plan: Plan = SEED_PLAN) -> Seed:
    """Make the whole seed in memory."""
    tables = {name: table(name, plan) for name in TABLES | FLEET}
    texts = {f"tables/{name}.csv": bytes(csv_bytes(data)) for name, data in tables.items()}
    collections = {name: documents_spoilt.SPOIL[name](plan, clean) for name, clean in documents.make(plan).items()}
    for name, (rows, _) in collections.items():
        texts[f"documents/{name}.jsonl"] = "".join(map(document_line, rows)).encode()
    orders = outward(tables["orders"])
    dropped = [
        *files.order_files(plan, orders),
        files.review_file(plan, outward(tables["reviews"])),
        files.price_file(plan, outward(tables["price_lists"])),
    ]
    texts |= {f"files/{f.name}": f.data for f in dropped}
    spoilt_weather, weather_defects = weather_file.weather_file(plan, tables["weather"])
    api = [feed.feed(plan, name, outward(tables[name])) for name in feed.UNTIDY]
    readings = [r for r in tables["temperatures"].to_pylist() if local(r["measured_at"])[:10] == DAY.isoformat()]
    messages, mqtt = stream.stream(plan, DAY.isoformat(), readings)
    defects = [d for f in dropped for d in f.defects] + weather_defects + [d for f in api for d in f.defects] + mqtt
    incident = _incident(plan, tables)
    defects.append(
        Defect(
            "mqtt",
            "temperatures",
            "cooling_failure",
            TOPIC.format(van_id=incident["van_id"]),
            {"van_id": incident["van_id"], "route_id": incident["route_id"]},
            incident["day"],
            column="value",
            note=f"warmer from {incident['failed_at']} on",
        )
    )
    defects += [d for _, spoilt in collections.values() for d in spoilt]
    manifest = {
        "version": 1,
        "seed": plan.seed,
        "scale": plan.scale,
        "start": plan.start.isoformat(),
        "days": plan.days,
        "day": DAY.isoformat(),
        "tables": {name: len(data) for name, data in tables.items()},
        "orders_by_day": {day: len(rows) for day, rows in by_day(orders, "ordered_at").items()},
        "files": {f.name: f.rows for f in dropped} | {weather_file.NAME: len(spoilt_weather)},
        "documents": {name: len(rows) for name, (rows, _) in collections.items()},
        "messages": {"readings": len(readings), "sent": len(messages)},
        "incident": incident,
        "long_stop": {"van_id": van_name(tours.LONG_STOP_VAN), "day": DAY.isoformat(), "minutes": 3},
        "fahrenheit_van": stream.FAHRENHEIT_VAN,
        "mislabelled_van": stream.MISLABELLED_VAN,
        "counts": _counts(defects),
        "defects": [d.as_dict() for d in defects],
    }
    texts["manifest.json"] = manifest_bytes(manifest)
    return Seed(texts, spoilt_weather, manifest)


def _incident(plan: Plan, tables: dict[str, pa.Table]) -> dict[str, Any]:
    """Describe the van whose cooling fails: when, when it passed the limit, and which orders were refused for it."""
    route = int(tours.route_id(plan, FAILING_DAY * 2 + 1, FAILING_VAN))
    failed = plan.second(FAILING_DAY, *tours.STARTS[1]) + FAILING_MINUTE * 60
    readings = [r for r in tables["temperatures"].to_pylist() if r["route_id"] == route]
    over = [r["measured_at"] for r in readings if r["celsius"] > tours.LIMIT]
    refused = [d["order_id"] for d in tables["deliveries"].to_pylist() if d["status"] == "refused"]
    return {
        "van_id": van_name(FAILING_VAN),
        "day": plan.day(FAILING_DAY).isoformat(),
        "route_id": route,
        "failed_at": next(utc(r["measured_at"]) for r in readings if r["measured_at"].timestamp() == failed),
        "above_limit_from": utc(over[0]),
        "limit_celsius": tours.LIMIT,
        "readings_above_limit": len(over),
        "refused_orders": refused,
    }


def _counts(defects: list[Defect]) -> dict[str, dict[str, dict[str, int]]]:
    counts: dict[str, dict[str, Counter]] = {}
    for d in defects:
        counts.setdefault(d.channel, {}).setdefault(d.dataset, Counter())[d.kind] += 1
    return {c: {n: dict(kinds) for n, kinds in sets.items()} for c, sets in counts.items()}


def manifest_bytes(manifest: dict[str, Any]) -> bytes:
    """Write the manifest as JSON with one defect a line, so that a change shows as the lines that changed."""
    head = {k: v for k, v in manifest.items() if k != "defects"}
    text = json.dumps(head, indent=1, ensure_ascii=False)[:-2]
    lines = ",\n".join("  " + json.dumps(d, ensure_ascii=False) for d in manifest["defects"])
    return f'{text},\n "defects": [\n{lines}\n ]\n}}\n'.encode()


def write(folder: Path = FOLDER, plan: Plan = SEED_PLAN) -> int:
    """Write the seed into a folder; files of an older seed are taken away. Returns the bytes on disk."""
    seed = build(plan)
    wanted = {f"files/{weather_file.NAME}": weather_file.parquet_bytes(seed.weather)}
    for name, text in seed.texts.items():
        if name.startswith(PACKED):
            wanted[f"{name}.gz"] = gzip.compress(text, 9, mtime=0)
        else:
            wanted[name] = text
    for name in ("tables", "files", "documents"):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for old in (folder / name).iterdir():
            if f"{name}/{old.name}" not in wanted:
                old.unlink()
    for name, data in wanted.items():
        (folder / name).write_bytes(data)
    return sum(map(len, wanted.values()))


def main(folder: Path = FOLDER) -> None:
    """Write data/seed/ again."""
    size = write(folder)
    print(f"{folder}: {size:,} bytes")


if __name__ == "__main__":
    typer.run(main)
