"""Answers of 01_sources."""

from __future__ import annotations

import contextlib
import csv
import json
import math
import time
from datetime import datetime
from decimal import Decimal
from functools import cache
from pathlib import Path, PurePosixPath
from tempfile import mkdtemp

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from flow360 import lesson
from flow360.checks.c01_sources import RULES, export_days
from tests.answers import last_hint, near_miss, right

# --- 1 · REST ---------------------------------------------------------------------------------------------------------


def patient(session: requests.Session) -> requests.Session:
    rules = Retry(total=10, status_forcelist=[429, 500], backoff_factor=0.2, respect_retry_after_header=True)
    session.mount("http://", HTTPAdapter(max_retries=rules))
    return session


def walk(session, day, **params):
    cursor = None
    while True:
        answer = session.get("/deliveries", params={"day": day, "limit": 100, "cursor": cursor, **params})
        answer.raise_for_status()
        yield from answer.json()["items"]
        cursor = answer.json()["next_cursor"]
        if cursor is None:
            return


@right("paged_client")
def with_the_rules_of_the_last_hint():
    def fetch_deliveries(session, day):
        rules = eval(last_hint("01", "paged_client")[0], {"Retry": Retry})
        session.mount("http://", HTTPAdapter(max_retries=rules))
        return list({item["delivery_id"]: item for item in walk(session, day)}.values())

    return fetch_deliveries


def by_hand(add, limit=100):
    """A client with its own loop; `add(found, items)` takes a page's items over."""

    def fetch_deliveries(session, day):
        found, cursor = [], None
        while True:
            try:
                answer = session.get("/deliveries", params={"day": day, "limit": limit, "cursor": cursor})
            except requests.Timeout:
                continue
            if answer.status_code != 200:
                time.sleep(float(answer.headers.get("Retry-After", 0.3)))
                continue
            add(found, answer.json()["items"])
            cursor = answer.json()["next_cursor"]
            if cursor is None:
                return found

    return fetch_deliveries


@right("paged_client")
def loop_by_hand_over_small_pages():
    def add(found, items):
        for item in items:
            if item not in found:
                found.append(item)

    return by_hand(add, limit=80)


@right("paged_client")
def a_frame_that_drops_the_copies():
    def fetch_deliveries(session, day):
        found = pd.DataFrame(list(walk(patient(session), day)), dtype=object)
        return found.drop_duplicates("delivery_id").to_dict("records")

    return fetch_deliveries


@near_miss("paged_client", says="as the service sent it")
def units_put_right():
    def fetch_deliveries(session, day):
        found = {item["delivery_id"]: item for item in walk(patient(session), day)}
        for item in found.values():
            if item["celsius_at_door"] and item["celsius_at_door"] > 25:
                item["celsius_at_door"] = round((item["celsius_at_door"] - 32) * 5 / 9, 1)
        return list(found.values())

    return fetch_deliveries


@near_miss("paged_client", says="as the service sent it")
def three_fields_are_enough():
    def fetch_deliveries(session, day):
        found = {item["delivery_id"]: item for item in walk(patient(session), day)}
        return [{k: item[k] for k in ("delivery_id", "order_id", "status")} for item in found.values()]

    return fetch_deliveries


@near_miss("paged_client", says="it raised KeyError")
def each_day_has_a_delivery():
    def fetch_deliveries(session, day):
        found = pd.DataFrame(list(walk(patient(session), day)), dtype=object).set_index("delivery_id", drop=False)
        return found[~found.index.duplicated()].to_dict("records")

    return fetch_deliveries


@near_miss("paged_client", says="it raised")
def a_slow_answer_is_an_error():
    def fetch_deliveries(session, day):
        rules = Retry(total=10, read=0, status_forcelist=[429, 500], backoff_factor=0.2)
        session.mount("http://", HTTPAdapter(max_retries=rules))
        return list({item["delivery_id"]: item for item in walk(session, day)}.values())

    return fetch_deliveries


@near_miss("paged_client", says="drop the copies")
def copies_on_one_page_stay():
    return by_hand(lambda found, items: found.extend([item for item in items if item not in found]))


@near_miss("paged_client", says="turn every page")
def only_the_first_page():
    def fetch_deliveries(session, day):
        answer = patient(session).get("/deliveries", params={"day": day, "limit": 100})
        return answer.json()["items"]

    return fetch_deliveries


@near_miss("paged_client", says="drop the copies")
def keeps_the_copies():
    return lambda session, day: list(walk(patient(session), day))


@near_miss("paged_client", says="as long as Retry-After says")
def asks_again_at_once():
    def fetch_deliveries(session, day):
        found, cursor = {}, None
        while True:
            try:
                answer = session.get("/deliveries", params={"day": day, "limit": 100, "cursor": cursor})
            except requests.Timeout:
                continue
            if answer.status_code == 200:
                found |= {item["delivery_id"]: item for item in answer.json()["items"]}
                cursor = answer.json()["next_cursor"]
                if cursor is None:
                    return list(found.values())

    return fetch_deliveries


def waiting(pause):
    """A client that waits after a refusal, but as long as it likes: `pause(attempt)` seconds."""

    def fetch_deliveries(session, day):
        found, cursor, attempt = {}, None, 0
        while True:
            try:
                answer = session.get("/deliveries", params={"day": day, "limit": 100, "cursor": cursor})
            except requests.Timeout:
                continue
            if answer.status_code != 200:
                time.sleep(pause(attempt))
                attempt += 1
                continue
            found |= {item["delivery_id"]: item for item in answer.json()["items"]}
            cursor, attempt = answer.json()["next_cursor"], 0
            if cursor is None:
                return list(found.values())

    return fetch_deliveries


@near_miss("paged_client", says="as long as Retry-After says")
def twice_as_long_each_time_whatever_was_asked():
    return waiting(lambda attempt: 0.3 * 2**attempt)


@near_miss("paged_client", says="as long as Retry-After says")
def a_second_each_time_whatever_was_asked():
    return waiting(lambda attempt: 1.0)


@near_miss("paged_client", says="as long as Retry-After says")
def an_adapter_told_not_to_read_the_header():
    def fetch_deliveries(session, day):
        rules = Retry(
            total=20, status_forcelist=[429, 500], backoff_factor=0.3, backoff_max=1, respect_retry_after_header=False
        )
        session.mount("http://", HTTPAdapter(max_retries=rules))
        return list({item["delivery_id"]: item for item in walk(session, day)}.values())

    return fetch_deliveries


@near_miss("paged_client", says="it raised")
def no_second_try():
    return lambda session, day: list({item["delivery_id"]: item for item in walk(session, day)}.values())


@near_miss("paged_client", says="another day")
def forgets_the_day():
    return lambda session, day: list({i["delivery_id"]: i for i in walk(patient(session), None)}.values())


# --- 2 · MQTT ---------------------------------------------------------------------------------------------------------


def subscriber(keep, run_too=True):
    """A subscribe whose on_message appends what `keep(reading, memory)` lets through."""

    def subscribe(client, run, readings):
        memory = {}

        def on_message(client, userdata, message):
            try:
                reading = json.loads(message.payload)
            except json.JSONDecodeError:
                return
            if (reading["run"] == run or not run_too) and keep(reading, memory):
                readings.append(reading)

        client.on_message = on_message
        client.subscribe("primeur/vans/+/temperature", qos=1)

    return subscribe


def new(key):
    def keep(reading, memory):
        first = key(reading) not in memory
        memory[key(reading)] = True
        return first

    return keep


@right("sensor_subscriber")
def by_reading_id():
    return subscriber(new(lambda r: r["reading_id"]))


@right("sensor_subscriber")
def by_van_and_sequence():
    return subscriber(new(lambda r: (r["van_id"], r["sequence"])))


@right("sensor_subscriber")
def with_a_callback_for_the_topic():
    """Every topic of the vans, a function for one of them, and the parsed readings compared as they are."""

    def subscribe(client, run, readings):
        seen = {}

        def on_reading(client, userdata, message):
            with contextlib.suppress(ValueError):
                reading = json.loads(message.payload)
                if reading.get("run") == run and seen.setdefault(message.payload, reading) is reading:
                    readings.append(reading)

        client.message_callback_add("primeur/vans/+/temperature", on_reading)
        client.subscribe([("primeur/vans/#", 1)])

    return subscribe


@near_miss("sensor_subscriber", says="as the dict that its message holds")
def three_fields_of_each():
    once = new(lambda r: r["reading_id"])

    def keep(reading, memory):
        for name in set(reading) - {"run", "reading_id", "van_id", "value", "sequence"}:
            del reading[name]
        return once(reading, memory)

    return subscriber(keep)


@near_miss("sensor_subscriber", says="as the dict that its message holds")
def values_put_into_celsius():
    once = new(lambda r: r["reading_id"])

    def keep(reading, memory):
        if reading["value"] and reading["value"] > 25:
            reading["value"] = round((reading["value"] - 32) * 5 / 9, 1)
        return once(reading, memory)

    return subscriber(keep)


@near_miss("sensor_subscriber", says="are in it twice")
def keeps_doubles():
    return subscriber(lambda reading, memory: True)


@near_miss("sensor_subscriber", says="are missing")
def by_sequence_alone():
    return subscriber(new(lambda r: r["sequence"]))


@near_miss("sensor_subscriber", says="late is not duplicated")
def only_what_is_newer():
    def keep(reading, memory):
        newer = reading["sequence"] > memory.get(reading["van_id"], 0)
        if newer:
            memory[reading["van_id"]] = reading["sequence"]
        return newer

    return subscriber(keep)


@near_miss("sensor_subscriber", says="without a value")
def drops_what_has_no_value():
    once = new(lambda r: r["reading_id"])
    return subscriber(lambda reading, memory: reading["value"] is not None and once(reading, memory))


@near_miss("sensor_subscriber", says="not from the run")
def takes_other_runs_too():
    return subscriber(new(lambda r: (r["run"], r["reading_id"])), run_too=False)


@near_miss("sensor_subscriber", says="nothing arrived")
def forgets_to_subscribe():
    return lambda client, run, readings: setattr(client, "on_message", lambda *_: readings.append({}))


@near_miss("sensor_subscriber", says="qos=1")
def at_most_once():
    subscribe = subscriber(new(lambda r: r["reading_id"]))

    def with_qos_0(client, run, readings):
        subscribe(client, run, readings)
        client.subscribe("primeur/vans/+/temperature", qos=0)

    return with_qos_0


@near_miss("sensor_subscriber", says="on_message: it raised JSONDecodeError")
def raises_at_a_cut_message():
    def subscribe(client, run, readings):
        def on_message(client, userdata, message):
            reading = json.loads(message.payload)
            if reading["run"] == run and reading not in readings:
                readings.append(reading)

        client.on_message = on_message
        client.subscribe("primeur/vans/+/temperature", qos=1)

    return subscribe


@near_miss("sensor_subscriber", says="does a cut message end your on_message")
def falls_over_a_cut_message():
    def subscribe(client, run, readings):
        def on_message(client, userdata, message):
            if message.payload.startswith(f'{{"run": "{run}"'.encode()):
                try:
                    reading = json.loads(message.payload)
                except json.JSONDecodeError:
                    client.unsubscribe("primeur/vans/+/temperature")
                    client.on_message = None
                    return
                if reading not in readings:
                    readings.append(reading)

        client.on_message = on_message
        client.subscribe("primeur/vans/+/temperature", qos=1)

    return subscribe


# --- 3 · Files --------------------------------------------------------------------------------------------------------

TYPES = {
    "order_id": pa.int64(),
    "ordered_at": pa.timestamp("us", tz="UTC"),
    "postcode": pa.string(),
    "newsletter": pa.bool_(),
    "items": pa.int32(),
    "total_eur": pa.decimal128(10, 2),
    "delivery_note": pa.string(),
}


@cache
def folder() -> Path:
    return Path(mkdtemp(prefix="flow360-c01-"))


def exported() -> list[Path]:
    export_days(folder())
    return sorted(folder().glob("orders_*.csv"))


def converted(name: str, nulls: bool = True, note: str = "note", **types: pa.DataType) -> Path:
    path = folder() / f"{name}.parquet"
    convert = pacsv.ConvertOptions(
        column_types=TYPES | {"note": pa.string()} | types,
        strings_can_be_null=nulls,
        true_values=["t"],
        false_values=["f"],
    )
    days = [pacsv.read_csv(day, convert_options=convert) for day in exported()]
    days = [day.rename_columns([{note: "delivery_note"}.get(n, n) for n in day.column_names]) for day in days]
    pq.write_table(pa.concat_tables(days, promote_options="default"), path)
    return path


@right("typed_parquet")
def with_a_schema():
    return converted("schema")


@right("typed_parquet")
def by_pandas_with_care():
    path = folder() / "pandas.parquet"
    as_text = {"postcode": str, "total_eur": str, "newsletter": str}
    days = [pd.read_csv(day, dtype=as_text).rename(columns={"note": "delivery_note"}) for day in exported()]
    table = pd.concat(days, ignore_index=True)
    table["newsletter"] = table["newsletter"] == "t"
    table["ordered_at"] = pd.to_datetime(table["ordered_at"])
    arrow = pa.Table.from_pandas(table, preserve_index=False)
    money = arrow["total_eur"].cast(pa.decimal128(12, 2))
    pq.write_table(arrow.set_column(arrow.schema.get_field_index("total_eur"), "total_eur", money), path)
    return str(path)


@right("typed_parquet")
def row_by_row_with_decimals():
    days = [csv.DictReader(day.read_text("utf-8").splitlines()) for day in exported()]
    rows = [row | {"delivery_note": row.get("delivery_note", row.get("note")) or None} for day in days for row in day]
    how = {
        "order_id": int,
        "ordered_at": datetime.fromisoformat,
        "newsletter": "t".__eq__,
        "items": int,
        "total_eur": Decimal,
    }
    columns = {name: [how.get(name, lambda same: same)(row[name]) for row in rows] for name in reversed(TYPES)}
    pq.write_table(pa.table(columns), folder() / "rows.parquet")
    return PurePosixPath(folder() / "rows.parquet")


@near_miss("typed_parquet", says="a CSV file beside")
def one_header_put_right_by_hand():
    path = converted("by-hand")
    thursday = folder() / "orders_2026-05-07.csv"
    thursday.write_bytes(thursday.read_bytes().replace(b",note", b",delivery_note", 1))
    return path


@near_miss("typed_parquet", says="postcode")
def by_pandas_as_it_comes():
    path = folder() / "plain.parquet"
    days = [pd.read_csv(day).rename(columns={"note": "delivery_note"}) for day in exported()]
    pd.concat(days).to_parquet(path)
    return path


@near_miss("typed_parquet", says="the file's columns")
def both_names_of_a_column():
    return converted("both", note="no such name")


@near_miss("typed_parquet", says="called from Thursday on")
def the_new_name_dropped():
    path = folder() / "dropped.parquet"
    pq.write_table(pq.read_table(converted("both", note="no such name")).drop_columns("note"), path)
    return path


@near_miss("typed_parquet", says="money is exact")
def money_as_a_float():
    return converted("float", total_eur=pa.float64())


@near_miss("typed_parquet", says="time zone")
def moments_as_text():
    return converted("text", ordered_at=pa.string())


@near_miss("typed_parquet", says="not an empty text")
def empty_notes():
    return converted("empty", nulls=False)


@near_miss("typed_parquet", says="not a Parquet file")
def the_csv_itself():
    return exported()[0]


@near_miss("typed_parquet", says="rows of the file")
def half_of_it():
    path = folder() / "half.parquet"
    pq.write_table(pq.read_table(converted("whole")).slice(0, 1_000), path)
    return path


# --- 4 · Quality ------------------------------------------------------------------------------------------------------


def profile_with(**other):
    """The right profile, with some of its rules replaced by `rule(line, fields, seen, day)`."""
    known = set(lesson.sql("select customer_id from customers", db="source")["customer_id"].astype(str))
    whole = {
        "encoding": lambda line, f, seen, day: "\ufffd" in line.decode("utf-8", errors="replace"),
        "bad_row": lambda line, f, seen, day: len(f) != 9,
    }
    nine = {
        "missing_key": lambda line, f, seen, day: f[2] == "",
        "orphan": lambda line, f, seen, day: f[2] != "" and f[2] not in known,
        "not_a_number": lambda line, f, seen, day: math.isnan(float(f[7])),
        "wrong_unit": lambda line, f, seen, day: float(f[7]) > 250,
        "duplicate": lambda line, f, seen, day: line in seen,
        "late": lambda line, f, seen, day: f[1][:10] < day,
    }

    def profile(path):
        found, seen = {rule: set() for rule in RULES}, set()
        for line in path.read_bytes().splitlines()[1:]:
            fields = next(csv.reader([line.decode("utf-8", errors="replace")]))
            rules = whole | (nine if len(fields) == 9 else {}) | other
            for rule, broken in rules.items():
                if broken(line, fields, seen, path.stem[-10:]):
                    found[rule].add(int(fields[0]))
            seen.add(line)
        return found

    return profile


@right("quality_profile")
def line_by_line():
    return profile_with()


@right("quality_profile")
def lists_instead_of_sets():
    profile = profile_with()
    return lambda path: {rule: sorted(orders) for rule, orders in profile(path).items()}


@near_miss("quality_profile", says='["orphan"]')
def an_empty_key_is_an_orphan_too():
    known = set(lesson.sql("select customer_id from customers", db="source")["customer_id"].astype(str))
    return profile_with(orphan=lambda line, f, seen, day: len(f) == 9 and f[2] not in known)


@near_miss("quality_profile", says='["wrong_unit"]')
def limit_too_high():
    return profile_with(wrong_unit=lambda line, f, seen, day: len(f) == 9 and float(f[7]) > 2_500)


@near_miss("quality_profile", says='["not_a_number"]')
def nan_is_a_number_for_float():
    return profile_with(not_a_number=lambda line, f, seen, day: len(f) == 9 and f[7] == "")


@right("quality_profile")
def numbers_of_another_kind():
    profile = profile_with()
    return lambda path: {rule: {np.int64(order) for order in orders} for rule, orders in profile(path).items()}


@near_miss("quality_profile", says='["wrong_unit"]')
def a_total_without_a_point():
    return profile_with(wrong_unit=lambda line, f, seen, day: len(f) == 9 and float(f[7]) > 250 and len(f[7]) > 4)


@near_miss("quality_profile", says='["wrong_unit"]')
def two_hundred_and_fifty_is_too_much():
    return profile_with(wrong_unit=lambda line, f, seen, day: len(f) == 9 and float(f[7]) >= 250)


@near_miss("quality_profile", says='["orphan"]')
def strangers_have_the_number_that_they_have_here():
    return profile_with(orphan=lambda line, f, seen, day: len(f) == 9 and f[2].startswith("9000"))


@near_miss("quality_profile", says='["late"]')
def late_by_a_day_or_more():
    def late(line, f, seen, day):
        return len(f) == 9 and pd.Timestamp(f[1]) <= pd.Timestamp(day, tz="Europe/Paris") - pd.Timedelta(days=1)

    return profile_with(late=late)


@near_miss("quality_profile", says="the rules of")
def one_rule_forgotten():
    profile = profile_with()
    return lambda path: {rule: orders for rule, orders in profile(path).items() if rule != "late"}


@near_miss("quality_profile", says="encoding")
def pandas_that_skips():
    def profile(path):
        table = pd.read_csv(path, encoding_errors="replace", on_bad_lines="skip")
        found = {rule: set() for rule in RULES}
        found["missing_key"] = set(table.loc[table["customer_id"].isna(), "order_id"])
        found["not_a_number"] = set(table.loc[table["total_eur"].isna(), "order_id"])
        found["wrong_unit"] = set(table.loc[table["total_eur"] > 250, "order_id"])
        found["duplicate"] = set(table.loc[table.duplicated(), "order_id"])
        return found

    return profile


@near_miss("quality_profile", says="expected set")
def counts_instead_of_orders():
    profile = profile_with()
    return lambda path: {rule: len(orders) for rule, orders in profile(path).items()}


# --- 5 · Generated ----------------------------------------------------------------------------------------------------


def orders_with(change=lambda rows, draw: rows, seeded=True):
    """The right generator, with a last step that changes its rows."""

    def generate_orders(n, seed):
        query = "select customer_id, store_id from customers join stores using (city) order by customer_id"
        parents = lesson.sql(query, db="source")
        last = lesson.sql("select max(order_id) from orders", db="source").iat[0, 0]
        draw = np.random.default_rng(seed if seeded else None)
        rows = parents.iloc[draw.integers(0, len(parents), n)].reset_index(drop=True)
        rows["order_id"] = last + 1 + np.arange(n)
        seconds = pd.to_timedelta(draw.integers(0, 7 * 86_400, n), unit="s")
        rows["ordered_at"] = pd.Timestamp("2026-05-04", tz="Europe/Paris") + seconds
        rows["channel"] = draw.choice(["web", "app", "phone"], n)
        rows["status"] = "delivered"
        rows["items"] = draw.integers(1, 9, n)
        rows["total_eur"] = draw.integers(100, 15_000, n) / 100
        return change(rows, draw)

    return generate_orders


@right("generated_orders")
def drawn_from_the_parents():
    return orders_with()


@right("generated_orders")
def with_a_note_and_another_order_of_columns():
    return orders_with(lambda rows, draw: rows.assign(delivery_note=None)[sorted([*rows.columns, "delivery_note"])])


@near_miss("generated_orders", says="is not present in table")
def customers_out_of_the_air():
    return orders_with(lambda rows, draw: rows.assign(customer_id=draw.integers(1, 1_000_000, len(rows))))


@near_miss("generated_orders", says="store of their customer's city")
def any_store():
    return orders_with(lambda rows, draw: rows.assign(store_id=draw.integers(1, 13, len(rows))))


@near_miss("generated_orders", says="same seed")
def no_seed():
    return orders_with(seeded=False)


@near_miss("generated_orders", says="already exists")
def numbers_from_the_beginning():
    return orders_with(lambda rows, draw: rows.assign(order_id=100_001 + np.arange(len(rows))))


@near_miss("generated_orders", says="draw from all of them")
def one_busy_customer():
    return orders_with(lambda rows, draw: rows.assign(customer_id=rows["customer_id"][0], store_id=rows["store_id"][0]))


@near_miss("generated_orders", says="violates check constraint")
def a_status_of_ones_own():
    return orders_with(lambda rows, draw: rows.assign(status="new"))


@right("generated_orders")
def from_a_list_of_rows():
    def generate_orders(n, seed):
        return pd.DataFrame(orders_with()(n, seed).to_dict("records"))

    return generate_orders


@near_miss("generated_orders", says="from before 4 May 2026")
def a_week_of_utc_days():
    return orders_with(lambda rows, draw: rows.assign(ordered_at=rows["ordered_at"] - pd.Timedelta(hours=2)))


@near_miss("generated_orders", says="rows of generate_orders")
def five_thousand_whatever_is_asked():
    make = orders_with()
    return lambda n, seed: make(5_000 if n != 5_000 else n + 1, seed)


@near_miss("generated_orders", says="older than their customer")
def orders_of_long_ago():
    return orders_with(lambda rows, draw: rows.assign(ordered_at=rows["ordered_at"] - pd.Timedelta(days=2_000)))


@near_miss("generated_orders", says="in which unit")
def all_in_the_first_second():
    midnight = pd.Timestamp("2026-05-04", tz="Europe/Paris")
    return orders_with(
        lambda rows, draw: rows.assign(ordered_at=midnight + (rows["ordered_at"] - midnight) / 1_000_000_000)
    )


@near_miss("generated_orders", says="from after 10 May")
def a_week_and_a_day():
    return orders_with(lambda rows, draw: rows.assign(ordered_at=rows["ordered_at"] + pd.Timedelta(days=1)))


@near_miss("generated_orders", says="the last is from after 10 May")
def one_in_thousands_is_a_second_too_late():
    """As in a draw whose end belongs to it: among the few thousand that are inserted there is none."""
    end = pd.Timestamp("2026-05-11", tz="Europe/Paris")
    return orders_with(
        lambda rows, draw: rows.assign(ordered_at=rows["ordered_at"].mask(rows.index % 7_500 == 7_499, end))
    )


@near_miss("generated_orders", says="nobody orders by")
def one_channel_for_all():
    return orders_with(lambda rows, draw: rows.assign(channel=draw.choice(["web", "app", "phone"])))
