"""Checks of 01_sources: the REST service's own account, the vans' replay, the shop's database, the manifest."""

from __future__ import annotations

import contextlib
import io
import json
import threading
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flow360 import clients
from flow360.checks.verdict import NotYet, exercise, expect, expect_equal, expect_type, limited
from flow360.clients.query import sql
from flow360.errors import FlowError
from flow360.waiting import wait_for

# --- 1 · REST ---------------------------------------------------------------------------------------------------------

ROUGH = {"errors": 0.3, "slow": 0.15, "trickle": 0, "delay": 1.5, "rate": 2, "burst": 2, "patience": 2}
"""How market-api behaves while a client is checked: 429, 500 and slow answers are sure to be met.

Retry-After is 2: a client that waits a second at each 429, whatever it says, does not read it.
"""
PATIENCE = 0.7  # seconds that the session waits for an answer: less than a slow one takes
DAYS = ("2026-05-07", "2026-05-08")
DELIVERIES = """
    select delivery_id from deliveries where (delivered_at at time zone 'Europe/Paris')::date = %s order by delivery_id
"""


@exercise
def paged_client(fetch_deliveries: Any) -> None:
    """All deliveries of a day, each once, through 429, 500 and slow answers, without hammering the service."""
    if not callable(fetch_deliveries):
        raise NotYet(f"fetch_deliveries: expected a function, found {type(fetch_deliveries).__name__}")
    with clients.api() as switch:
        switch.post("/chaos", json=ROUGH).raise_for_status()
        try:
            for day in DAYS:
                _fetches(fetch_deliveries, day)
        finally:
            switch.post("/chaos", json={}).raise_for_status()


def _fetches(fetch_deliveries: Any, day: str) -> None:
    called = f'fetch_deliveries(session, "{day}")'
    with clients.api(seconds=PATIENCE) as session:
        session.headers["X-Client-Id"] = f"check-{uuid.uuid4().hex[:12]}"
        found = limited(fetch_deliveries, 90, "fetch_deliveries")(session, day)
        expect_type(called, found, list)
        try:
            numbers = [item["delivery_id"] for item in found]
        except (TypeError, KeyError):
            raise NotYet(f"{called}: expected a list of deliveries, each a dict with its delivery_id") from None
        truth = sql(DELIVERIES, [day], db="source")["delivery_id"].tolist()
        twice = len(numbers) - len(set(numbers))
        lost = len(set(truth) - set(numbers))
        other = len(set(numbers) - set(truth))
        expect(not lost, f"{called}: expected {len(truth)} deliveries, {lost} are missing: did you turn every page?")
        expect(not other, f"{called}: {other} deliveries of another day are in it")
        expect(not twice, f"{called}: {twice} deliveries are in it twice: the service sent them twice, drop the copies")
        whole = all({"order_id", "status", "celsius_at_door"} <= set(item) for item in found)
        expect(whole, f"{called}: expected each delivery with all its fields, as the service sent it")
        # No request counts against a client here but its own: what the service answered it, it asked for.
        usage = clients.api().get("/usage", headers=session.headers).json()
        answers = Counter({int(k): n for k, n in usage["answers"].items()})
        others = answers.total() - answers[429]
        expect(
            answers[429] <= others,
            f"{called}: the service had to say 429 {answers[429]} times in {answers.total()} answers: "
            "wait as long as Retry-After says before you ask again",
        )
        expect(
            not usage["early"],
            f"{called}: {usage['early']} requests came too soon after a 429: wait as long as Retry-After says, "
            "whatever your own pause would be",
        )


# --- 2 · MQTT ---------------------------------------------------------------------------------------------------------


@exercise
def sensor_subscriber(subscribe: Any) -> None:
    """Each reading of a replayed day once, the late ones too, whatever else comes over the wire."""
    from flow360.primeur.manifest import manifest

    if not callable(subscribe):
        raise NotYet(f"subscribe: expected a function, found {type(subscribe).__name__}")
    day, run, readings, end = manifest().day, f"check-{uuid.uuid4().hex[:12]}", [], []
    # A client that the broker remembers: what comes while its link is down is kept, if it was subscribed with QoS 1.
    client = clients.mqtt(run, clean_session=False)
    try:
        with _raised_in_callbacks() as raised:
            limited(subscribe, 10)(client, run, readings)
            client.message_callback_add(f"check/{run}", lambda *_: end.append(True))
            client.subscribe(f"check/{run}", qos=1)
            _replay(f"other-{run}", day, ["VAN-01"])  # so that there surely is something of another run on the wire
            _leave(client)
            _replay(run, day, [])
            client.reconnect()
            client.loop_start()
            client.publish(f"check/{run}", "end", qos=1)
            # The broker keeps the order, so the end comes last; without it (a broken on_message) the rest says why.
            with contextlib.suppress(FlowError):
                wait_for(lambda: end or raised, deadline=10)
    finally:
        _leave(client)
        _leave(clients.mqtt(run, clean_session=True))  # the broker forgets it
    if raised:
        raise raised[0]
    _compare_readings(list(readings), run, manifest().keys("reading_id", channel="mqtt", kind="bad_row"), day)


@contextmanager
def _raised_in_callbacks() -> Iterator[list[BaseException]]:
    """What a callback of the learner's raises: it ends paho's thread, whose traceback would be all that is said."""
    raised: list[BaseException] = []
    usual = threading.excepthook

    def keep(about: threading.ExceptHookArgs) -> None:
        if about.thread and about.thread.name.startswith("paho-mqtt-client-"):
            raised.append(about.exc_value)
        else:
            usual(about)

    threading.excepthook = keep
    try:
        yield raised
    finally:
        threading.excepthook = usual


def _leave(client: Any) -> None:
    client.disconnect()
    client.loop_stop()


def _replay(run: str, day: str, vans: list[str]) -> dict[str, Any]:
    """Have a day of some vans (none named: of all) played as fast as can be; the vans' own count at its end."""
    ends: list[dict[str, Any]] = []

    def on_message(client: Any, userdata: Any, message: Any) -> None:
        news = json.loads(message.payload)
        if news["state"] == "complete":
            ends.append(news)

    client = clients.mqtt(on_message=on_message)
    try:
        client.subscribe(f"primeur/sensors/replays/{run}", qos=1)
        client.publish("primeur/control/replay", json.dumps({"id": run, "day": day, "speed": 0, "vans": vans}), qos=1)
        return wait_for(lambda: ends, 60, "the end of the replay")[0]
    finally:
        _leave(client)


def _compare_readings(readings: list[Any], run: str, cut: set[int], day: str) -> None:
    from flow360.primeur.manifest import manifest

    if not readings:
        raise NotYet(
            "readings: nothing arrived of what was sent while the link was down: is on_message set, and the "
            "subscription to all vans made with qos=1?"
        )
    if not all(isinstance(r, dict) and "reading_id" in r and "value" in r for r in readings):
        raise NotYet("readings: expected dicts, the parsed JSON of each message with all its fields")
    others = sum(r.get("run") != run for r in readings)
    expect(not others, f"readings: {others} are not from the run that was asked for: look at the field run")
    counts = Counter(r["reading_id"] for r in readings)
    query = "select reading_id from temperatures where (measured_at at time zone 'Europe/Paris')::date = %s"
    truth = set(sql(query, [day], db="source")["reading_id"]) - cut
    lost, twice = truth - set(counts), sum(n - 1 for n in counts.values())
    late = manifest().keys("reading_id", channel="mqtt", kind="late")
    empty = manifest().keys("reading_id", channel="mqtt", kind="not_a_number")
    if lost and lost <= late:
        raise NotYet(f"readings: {len(lost)} late readings are missing: late is not duplicated, keep them")
    if lost and lost <= empty:
        raise NotYet(f"readings: {len(lost)} readings without a value are missing: keep them, a gap is a fact too")
    expect(
        not lost,
        f"readings: expected {len(truth):,} different readings, {len(lost):,} are missing: does a cut message end your "
        "on_message, or are readings of two vans taken for one?",
    )
    expect(not twice, f"readings: {twice} readings are in it twice: keep the keys that you have seen")
    expect_equal("readings", found=len(counts), expected=len(truth), why="are there readings of another day in it?")


# --- 3 · Files --------------------------------------------------------------------------------------------------------


@exercise
def typed_parquet(parquet_path: Any) -> None:
    """The shop's week as Parquet: identifiers, moments, money and texts with their right types, no value changed."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    expect_type("parquet_path", parquet_path, (str, Path))
    path = Path(parquet_path)
    if not path.is_file():
        raise NotYet(f"parquet_path: there is no file {path}")
    try:
        schema = pq.read_schema(path)
    except (pa.ArrowInvalid, OSError):
        raise NotYet(f"parquet_path: {path.name} is not a Parquet file") from None
    expected = ["order_id", "ordered_at", "postcode", "newsletter", "items", "total_eur", "delivery_note"]
    expect_equal("the file's columns", found=sorted(schema.names), expected=sorted(expected))
    types = pa.types
    kind = {name: schema.field(name).type for name in expected}

    def wrong(name: str, wanted: str) -> NotYet:
        return NotYet(f"{name}: expected {wanted}, found {kind[name]}")

    for name in ("order_id", "items"):
        if not types.is_integer(kind[name]):
            raise wrong(name, "a whole number")
    for name in ("postcode", "delivery_note"):
        if not (types.is_string(kind[name]) or types.is_large_string(kind[name])):
            raise wrong(name, "text: a postcode may begin with a zero" if name == "postcode" else "text")
    if not types.is_boolean(kind["newsletter"]):
        raise wrong("newsletter", "true or false")
    if not types.is_decimal(kind["total_eur"]) or kind["total_eur"].scale != 2:
        raise wrong("total_eur", "a decimal with two places: money is exact")
    if not types.is_timestamp(kind["ordered_at"]) or kind["ordered_at"].tz is None:
        raise wrong("ordered_at", "a timestamp with a time zone")
    _compare_rows(pq.read_table(path))


def _compare_rows(table: Any) -> None:
    """The file's rows against the shop's, value by value."""
    with clients.postgres("source") as db:
        truth = {row[0]: row[1:] for row in db.execute(EXPORT)}
    columns = ["order_id", "ordered_at", "postcode", "newsletter", "items", "total_eur", "delivery_note"]
    rows = {r["order_id"]: tuple(r[c] for c in columns[1:]) for r in table.select(columns).to_pylist()}
    expect_equal("rows of the file", found=table.num_rows, expected=len(truth))
    expect(rows.keys() == truth.keys(), "order_id: the orders in the file are not those of the shop")
    for n, name in enumerate(columns[1:]):
        other = [order for order in truth if rows[order][n] != truth[order][n]]
        if not other:
            continue
        found, wanted = rows[other[0]][n], truth[other[0]][n]
        why = ": an empty field is a missing value, not an empty text" if (found, wanted) == ("", None) else ""
        why = ": what is this column called from Thursday on?" if found is None else why
        raise NotYet(f"{name}: {len(other)} values differ, order {other[0]}: expected {wanted!r}, found {found!r}{why}")


EXPORT = """
    select order_id, ordered_at, postcode, newsletter, items, total_eur, delivery_note
    from orders join customers using (customer_id)
    order by order_id
"""
"""What the accountants were sent."""
BEFORE = "order_id, ordered_at, postcode, newsletter, items, total_eur, delivery_note"
SINCE_THURSDAY = "order_id, postcode, ordered_at, total_eur, items, newsletter, delivery_note as note"


def export_days(folder: Path) -> None:
    """Write the same rows as CSV files, one a day, whose columns change on Thursday."""
    folder.mkdir(parents=True, exist_ok=True)
    week = f"from ({EXPORT}) week where (ordered_at at time zone 'Europe/Paris')::date"
    with clients.postgres("source") as db:
        for day in (f"2026-05-{number:02}" for number in range(4, 11)):
            columns = BEFORE if day < "2026-05-07" else SINCE_THURSDAY
            export = f"copy (select {columns} {week} = '{day}') to stdout (format csv, header)"
            with db.cursor().copy(export) as copy, (folder / f"orders_{day}.csv").open("wb") as file:
                file.writelines(copy)


# --- 4 · Quality ------------------------------------------------------------------------------------------------------

RULES = ("encoding", "bad_row", "missing_key", "orphan", "not_a_number", "wrong_unit", "duplicate", "late")


@exercise
def quality_profile(profile: Any) -> None:
    """Every planted defect of the seven order files, under the rule that it breaks, and no sound order."""
    from flow360.primeur.manifest import manifest
    from flow360.primeur.snapshot import FILES

    if not callable(profile):
        raise NotYet(f"profile: expected a function, found {type(profile).__name__}")
    files = sorted(FILES.glob("orders_*.csv"), key=lambda path: manifest().day not in path.name)
    for path in files:  # the day that the learner knows comes first
        found = limited(profile, 60)(path)
        expect_type(f"profile({path.name})", found, dict)
        expect_equal(f"the rules of profile({path.name})", found=sorted(map(str, found)), expected=sorted(RULES))
        for rule in RULES:
            _compare_rule(rule, found[rule], path.name, manifest().keys("order_id", where=path.name, kind=rule))


def _compare_rule(rule: str, found: Any, name: str, planted: set[int]) -> None:
    called = f'profile("{name}")["{rule}"]'
    expect_type(called, found, (set, frozenset, list))
    try:
        mine = {int(number) for number in found}
    except (TypeError, ValueError):
        raise NotYet(f"{called}: expected a set of order numbers, found {found!r}") from None
    if mine == planted:
        return
    missed, wrong = len(planted - mine), sorted(mine - planted)
    text = f"{called}: expected {len(planted)} orders, found {len(mine)}"
    text += f", {missed} were missed" if missed else ""
    text += f", {len(wrong)} do not belong there, such as {wrong[0]}" if wrong else ""
    raise NotYet(text)


# --- 5 · Generated ----------------------------------------------------------------------------------------------------

SIZE = 5_000
COLUMNS = ["order_id", "customer_id", "store_id", "ordered_at", "channel", "status", "items", "total_eur"]


@exercise
def generated_orders(generate_orders: Any) -> None:
    """Orders that the shop's own table takes, of customers who exist, in their store, the same for the same seed."""
    import pandas as pd

    if not callable(generate_orders):
        raise NotYet(f"generate_orders: expected a function, found {type(generate_orders).__name__}")
    make = limited(generate_orders, 60)
    orders = make(SIZE, 1)
    expect_type(f"generate_orders({SIZE}, 1)", orders, pd.DataFrame)
    missing = sorted(set(COLUMNS) - set(orders.columns))
    expect(not missing, f"generate_orders: the columns {', '.join(missing)} are missing")
    expect_equal(f"rows of generate_orders({SIZE}, 1)", found=len(orders), expected=SIZE)
    orders = orders[COLUMNS].reset_index(drop=True)
    again, other = (make(SIZE, seed)[COLUMNS].reset_index(drop=True) for seed in (1, 2))
    expect(orders.equals(again), "generate_orders: the same seed gave two different tables: is every draw seeded?")
    expect(not orders.equals(other), "generate_orders: two seeds gave the same table: is the seed used at all?")
    customers = orders["customer_id"].nunique()
    expect(
        customers >= SIZE / 10, f"customer_id: only {customers} customers ordered {SIZE:,} times: draw from all of them"
    )
    _insert_and_forget(orders)


def _insert_and_forget(orders: Any) -> None:
    """Put the rows into the shop's table, ask about them, and roll back: the server judges, and nothing stays."""
    import psycopg

    text = io.StringIO()
    orders.to_csv(text, index=False, header=False)
    with clients.postgres("source") as db:
        try:
            last = db.execute("select max(order_id) from orders").fetchone()[0]
            with (
                db.cursor() as cursor,
                cursor.copy(f"copy orders ({', '.join(COLUMNS)}) from stdin (format csv)") as copy,
            ):
                copy.write(text.getvalue())
            strangers, early = db.execute(
                """
                select count(*) filter (where s.city <> c.city),
                       count(*) filter (where o.ordered_at < c.registered_on)
                from orders o join customers c using (customer_id) join stores s using (store_id)
                where o.order_id > %s
                """,
                [last],
            ).fetchone()
            old = len(orders) - db.execute("select count(*) from orders where order_id > %s", [last]).fetchone()[0]
        except (psycopg.IntegrityError, psycopg.DataError) as error:
            tells_key = isinstance(error, psycopg.errors.ForeignKeyViolation | psycopg.errors.UniqueViolation)
            said = error.diag.message_detail if tells_key else error.diag.message_primary
            raise NotYet(f"generate_orders: the shop's table refuses the rows: {said}") from None
        finally:
            db.rollback()
    expect(not old, f"order_id: {old} numbers are not above {last:,}, the last order of the shop")
    expect(not strangers, f"store_id: {strangers} orders are not in the store of their customer's city")
    expect(not early, f"ordered_at: {early} orders are older than their customer's registration")
