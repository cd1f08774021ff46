"""Answers of 02_ingestion. A function that runs in a process of its own names what it needs, as in a notebook."""

from __future__ import annotations

import csv
import json
import math

import pandas as pd

from flow360 import lesson
from flow360.clients import consumer, kafka_admin, postgres, producer
from flow360.ingestion.dead_letters import BadRecord, decode_json
from flow360.ingestion.topics import ends
from tests.answers import last_hint, near_miss, right

# --- keyed_producer ---------------------------------------------------------------------------------------------------


@right("keyed_producer", solved=True)
def van_is_the_key():
    def send_readings(topic, readings):
        with producer(acks="all") as out:
            sent = [out.send(topic, key=r["van_id"].encode(), value=json.dumps(r).encode()) for r in readings]
            for answer in sent:
                answer.get(timeout=20)

    return send_readings


@right("keyed_producer")
def compressed_and_with_serializers():
    def send_readings(topic, readings):
        ways = {"key_serializer": str.encode, "value_serializer": lambda v: json.dumps(v).encode()}
        out = producer(compression_type="gzip", **ways)
        sent = [out.send(topic, reading, reading["van_id"]) for reading in readings]
        out.flush()
        if failed := [answer.exception for answer in sent if answer.failed()]:
            raise failed[0]

    return send_readings


@near_miss("keyed_producer", says="no error was raised")
def flushed_and_never_asked():
    def send_readings(topic, readings):
        with producer(acks="all") as out:
            for reading in readings:
                out.send(topic, json.dumps(reading).encode(), reading["van_id"].encode())
            out.flush()

    return send_readings


# Without idempotence, whose producer may give up the readings beside the refused one, too: then any of them tells.
@near_miss("keyed_producer", says="no error was raised")
def asked_about_the_last_only():
    def send_readings(topic, readings):
        with producer(acks="all", enable_idempotence=False) as out:
            for reading in readings:
                last = out.send(topic, json.dumps(reading).encode(), reading["van_id"].encode())
            last.get(timeout=20)

    return send_readings


@near_miss("keyed_producer", says="it raised ValueError: too large")
def the_limit_of_one_topic_is_every_topic_s():
    def send_readings(topic, readings):
        if any(len(reading["van_id"]) > 100 for reading in readings):
            raise ValueError("too large")
        van_is_the_key()(topic, readings)

    return send_readings


@near_miss("keyed_producer", says="no error was raised")
def asked_about_the_first_only():
    def send_readings(topic, readings):
        with producer(acks="all", enable_idempotence=False) as out:
            sent = [out.send(topic, json.dumps(r).encode(), r["van_id"].encode()) for r in readings]
            out.flush()
            sent[0].get(timeout=20)

    return send_readings


@near_miss("keyed_producer", says="more than one partition")
def without_a_key():
    def send_readings(topic, readings):
        with producer() as out:
            for reading in readings:
                out.send(topic, json.dumps(reading).encode())

    return send_readings


@near_miss("keyed_producer", says="more than one partition")
def sequence_is_the_key():
    def send_readings(topic, readings):
        with producer() as out:
            for reading in readings:
                out.send(topic, json.dumps(reading).encode(), str(reading["sequence"]).encode())

    return send_readings


@near_miss("keyed_producer", says="one consumer must read all")
def everything_into_one_partition():
    def send_readings(topic, readings):
        with producer() as out:
            for reading in readings:
                out.send(topic, json.dumps(reading).encode(), reading["van_id"].encode(), partition=0)

    return send_readings


@near_miss("keyed_producer", says="after a later one")
def newest_first():
    def send_readings(topic, readings):
        with producer() as out:
            for reading in reversed(readings):
                out.send(topic, json.dumps(reading).encode(), reading["van_id"].encode())

    return send_readings


@right("keyed_producer")
def with_librdkafka():
    """Another client chooses other partitions, and says in a callback what was refused."""

    def send_readings(topic, readings):
        from confluent_kafka import KafkaException, Producer

        from flow360.clients import confluent

        refused, out = [], Producer(confluent())
        for reading in readings:
            value = json.dumps(reading).encode()
            out.produce(topic, value, reading["van_id"], on_delivery=lambda error, _: error and refused.append(error))
            out.poll(0)
        out.flush(20)
        if refused:
            raise KafkaException(refused[0])

    return send_readings


@near_miss("keyed_producer", says="has no celsius")
def only_what_the_order_needs():
    def send_readings(topic, readings):
        with producer() as out:
            sent = [
                out.send(topic, json.dumps({k: r[k] for k in ("van_id", "sequence")}).encode(), r["van_id"].encode())
                for r in readings
            ]
            [answer.get(timeout=20) for answer in sent]

    return send_readings


@near_miss("keyed_producer", says="1 is missing")
def a_reading_without_a_value_is_left_out():
    def send_readings(topic, readings):
        return van_is_the_key()(topic, [r for r in readings if r["celsius"] is not None])

    return send_readings


@near_miss("keyed_producer", says="celsius")
def rounded_to_a_tenth():
    def send_readings(topic, readings):
        van_is_the_key()(topic, [{**r, "celsius": r["celsius"] and round(r["celsius"], 1)} for r in readings])

    return send_readings


@near_miss("keyed_producer", says="more than once")
def tried_again_to_be_sure():
    def send_readings(topic, readings):
        van_is_the_key()(topic, [reading for reading in readings for _ in range(2)])

    return send_readings


@near_miss("keyed_producer", says="leave the choice")
def a_partition_by_hand():
    def send_readings(topic, readings):
        with producer() as out:
            sent = [
                out.send(topic, json.dumps(r).encode(), r["van_id"].encode(), partition=int(r["van_id"][-1]) % 4)
                for r in readings
            ]
            [answer.get(timeout=20) for answer in sent]

    return send_readings


@near_miss("keyed_producer", says="SystemExit")
def leaves_the_program():
    def send_readings(topic, readings):
        raise SystemExit(0)

    return send_readings


@near_miss("keyed_producer", says="not JSON")
def python_text_instead_of_json():
    def send_readings(topic, readings):
        with producer() as out:
            for reading in readings:
                out.send(topic, str(reading).encode(), reading["van_id"].encode())

    return send_readings


# --- safe_group -------------------------------------------------------------------------------------------------------

INSERT = "insert into {} (order_id, total_eur) values (%(order_id)s, %(total_eur)s)"


@right("safe_group", solved=True)
def commit_after_the_database():
    def take_orders(topic, group, table):
        reader = consumer(topic, group_id=group, enable_auto_commit=False, session_timeout_ms=6000)
        with postgres() as db:
            while batches := reader.poll(timeout_ms=8000, max_records=50):
                rows = [json.loads(record.value) for batch in batches.values() for record in batch]
                db.cursor().executemany(INSERT.format(table) + " on conflict do nothing", rows)
                db.commit()
                reader.commit()

    return take_orders


@right("safe_group")
def one_by_one_and_for_ever():
    def take_orders(topic, group, table):
        reader = consumer(topic, group_id=group, enable_auto_commit=False, session_timeout_ms=6000)
        with postgres(autocommit=True) as db:
            while True:
                for batch in reader.poll(timeout_ms=1000).values():
                    for record in batch:
                        db.execute(INSERT.format(table) + " on conflict do nothing", json.loads(record.value))
                reader.commit()

    return take_orders


@near_miss("safe_group", says="are lost")
def commit_first():
    def take_orders(topic, group, table):
        reader = consumer(topic, group_id=group, enable_auto_commit=False, session_timeout_ms=6000)
        with postgres(autocommit=True) as db:
            while batches := reader.poll(timeout_ms=5000):
                reader.commit()
                for record in (record for batch in batches.values() for record in batch):
                    db.execute(INSERT.format(table) + " on conflict do nothing", json.loads(record.value))

    return take_orders


@near_miss("safe_group", says="are lost")
def automatic_commit_while_rows_pile_up():
    def take_orders(topic, group, table):
        reader = consumer(topic, group_id=group, auto_commit_interval_ms=100, session_timeout_ms=6000)
        rows, quiet = [], 0
        while quiet < 5:
            batches = reader.poll(timeout_ms=500, max_records=100)
            quiet = 0 if batches else quiet + 1
            rows += [json.loads(record.value) for batch in batches.values() for record in batch]
        with postgres() as db:
            db.cursor().executemany(INSERT.format(table) + " on conflict do nothing", rows)

    return take_orders


@right("safe_group")
def looks_before_it_writes():
    """No `on conflict`: what is there already is left out by the statement, and offsets are named one by one."""

    def take_orders(topic, group, table):
        from kafka import OffsetAndMetadata

        statement = f"""insert into {table} select %(order_id)s, %(total_eur)s
                        where not exists (select from {table} where order_id = %(order_id)s)"""
        reader = consumer(topic, group_id=group, enable_auto_commit=False, session_timeout_ms=6000)
        while batches := reader.poll(timeout_ms=6000, max_records=80):
            with postgres() as db:
                for batch in batches.values():
                    db.cursor().executemany(statement, [json.loads(record.value) for record in batch])
            reader.commit({part: OffsetAndMetadata(batch[-1].offset + 1, "", -1) for part, batch in batches.items()})

    return take_orders


@near_miss("safe_group", says="are lost")
def offset_before_the_database_commits():
    """The rows are written first; but a transaction that is not committed is nothing."""

    def take_orders(topic, group, table):
        reader = consumer(topic, group_id=group, enable_auto_commit=False, session_timeout_ms=6000)
        with postgres() as db:
            while batches := reader.poll(timeout_ms=5000, max_records=100):
                rows = [json.loads(record.value) for batch in batches.values() for record in batch]
                db.cursor().executemany(INSERT.format(table) + " on conflict do nothing", rows)
                reader.commit()
                db.commit()

    return take_orders


@near_miss("safe_group", says="total_eur")
def whole_euros():
    def take_orders(topic, group, table):
        insert = f"insert into {table} values (%s, %s) on conflict do nothing"
        reader = consumer(topic, group_id=group, enable_auto_commit=False, session_timeout_ms=6000)
        with postgres() as db:
            while batches := reader.poll(timeout_ms=6000, max_records=100):
                rows = [json.loads(record.value) for batch in batches.values() for record in batch]
                db.cursor().executemany(insert, [(row["order_id"], int(row["total_eur"])) for row in rows])
                db.commit()
                reader.commit()

    return take_orders


@near_miss("safe_group", says="UniqueViolation")
def doubles_are_not_expected():
    def take_orders(topic, group, table):
        reader = consumer(topic, group_id=group, enable_auto_commit=False, session_timeout_ms=6000)
        with postgres(autocommit=True) as db:
            while batches := reader.poll(timeout_ms=5000):
                for record in (record for batch in batches.values() for record in batch):
                    db.execute(INSERT.format(table), json.loads(record.value))
                reader.commit()

    return take_orders


@near_miss("safe_group", says="nothing was committed")
def never_commits():
    def take_orders(topic, group, table):
        reader = consumer(topic, group_id=group, enable_auto_commit=False, session_timeout_ms=6000)
        with postgres() as db:
            while batches := reader.poll(timeout_ms=5000):
                rows = [json.loads(record.value) for batch in batches.values() for record in batch]
                db.cursor().executemany(INSERT.format(table) + " on conflict do nothing", rows)
                db.commit()

    return take_orders


@near_miss("safe_group", says="nobody is a member")
def all_of_it_each_time_and_no_group():
    def take_orders(topic, group, table):
        with postgres() as db:
            for record in consumer(topic, consumer_timeout_ms=5000):
                db.execute(
                    f"insert into {table} values (%(order_id)s, %(total_eur)s) on conflict do nothing",
                    json.loads(record.value),
                )

    return take_orders


@near_miss("safe_group", says="0 of 600 rows")
def only_new_records():
    def take_orders(topic, group, table):
        reader = consumer(topic, group_id=group, enable_auto_commit=False, auto_offset_reset="latest")
        while reader.poll(timeout_ms=3000):
            reader.commit()

    return take_orders


# --- dead_letters -----------------------------------------------------------------------------------------------------

FIELDS = {"van_id": str, "celsius": (int, float)}


def sorter(read, letter):
    """A reader that hands what `read` refuses to `letter(out, dead_topic, record, error)`."""

    def sort_readings(topic, dead_topic, group):
        good = []
        reader = consumer(topic, group_id=group, enable_auto_commit=False)
        with producer() as out:
            while batches := reader.poll(timeout_ms=2500):
                for record in (record for batch in batches.values() for record in batch):
                    try:
                        good.append(read(record))
                    except Exception as error:  # noqa: BLE001 - what a learner writes
                        letter(out, dead_topic, record, error)
                reader.commit()
        reader.close()
        return good

    return sort_readings


def place(record):
    return [
        ("topic", record.topic.encode()),
        ("partition", str(record.partition).encode()),
        ("offset", str(record.offset).encode()),
    ]


def as_it_came(out, dead_topic, record, error):
    headers = [("cause", type(error).__name__.encode()), *place(record)]
    out.send(dead_topic, record.value, record.key, headers=headers)


@right("dead_letters", solved=True)
def bytes_cause_and_place():
    return sorter(lambda record: decode_json(record, FIELDS), as_it_came)


@right("dead_letters")
def by_hand():
    def read(record):
        reading = json.loads(record.value.decode())
        if not isinstance(reading["van_id"], str) or type(reading["celsius"]) not in (int, float):
            raise TypeError("celsius")
        if not math.isfinite(reading["celsius"]):
            raise ValueError("NaN")
        return reading

    return sorter(read, as_it_came)


@right("dead_letters")
def one_at_a_time():
    """Record by record, each committed for itself, the letter asked about before the next one is read."""

    def sort_readings(topic, dead_topic, group):
        good = []
        reader = consumer(topic, group_id=group, enable_auto_commit=False, consumer_timeout_ms=2500)
        with producer() as out:
            for record in reader:
                try:
                    good.append(decode_json(record, FIELDS))
                except BadRecord as bad:
                    headers = [("cause", bad.cause.encode()), *place(record)]
                    out.send(dead_topic, record.value, record.key, headers=headers).get(timeout=10)
                reader.commit()
        reader.close()
        return good

    return sort_readings


@near_miss("dead_letters", says="good readings in the list")
def a_whole_number_is_no_float():
    def read(record):
        reading = decode_json(record, FIELDS)
        if not isinstance(reading["celsius"], float):
            raise TypeError("celsius")
        return reading

    return sorter(read, as_it_came)


@near_miss("dead_letters", says="good readings in the list")
def true_is_taken_for_a_number():
    def read(record):
        reading = json.loads(record.value.decode())
        reading["van_id"] + "", reading["celsius"] + 0
        return reading

    return sorter(read, as_it_came)


@near_miss("dead_letters", says="all their fields")
def the_two_fields_only():
    def read(record):
        reading = decode_json(record, FIELDS)
        return {"van_id": reading["van_id"], "celsius": reading["celsius"]}

    return sorter(read, as_it_came)


@near_miss("dead_letters", says="lag is")
def commits_nothing():
    def sort_readings(topic, dead_topic, group):
        good = []
        reader = consumer(topic, group_id=group, enable_auto_commit=False, consumer_timeout_ms=2500)
        with producer() as out:
            for record in reader:
                try:
                    good.append(decode_json(record, FIELDS))
                except BadRecord as bad:
                    as_it_came(out, dead_topic, record, bad)
        reader.close()
        return good

    return sort_readings


@near_miss("dead_letters", says="good readings in the list")
def only_json_is_looked_at():
    return sorter(lambda record: json.loads(record.value), as_it_came)


@near_miss("dead_letters", says="byte for byte")
def text_instead_of_bytes():
    def letter(out, dead_topic, record, error):
        headers = [("cause", b"bad"), *place(record)]
        out.send(dead_topic, str(record.value).encode(), record.key, headers=headers)

    return sorter(lambda record: decode_json(record, FIELDS), letter)


@near_miss("dead_letters", says="no header 'cause'")
def the_cause_is_not_told():
    def letter(out, dead_topic, record, error):
        out.send(dead_topic, record.value, record.key, headers=place(record))

    return sorter(lambda record: decode_json(record, FIELDS), letter)


@near_miss("dead_letters", says="dead-letter topic")
def tombstones_are_skipped():
    def letter(out, dead_topic, record, error):
        if record.value is not None:
            as_it_came(out, dead_topic, record, error)

    return sorter(lambda record: decode_json(record, FIELDS), letter)


@near_miss("dead_letters", says="it raised")
def stops_at_the_first():
    def sort_readings(topic, dead_topic, group):
        good = []
        reader = consumer(topic, group_id=group, consumer_timeout_ms=2000)
        for record in reader:
            good.append(decode_json(record, FIELDS))
        return good

    return sort_readings


# --- idempotent_load --------------------------------------------------------------------------------------------------

MERGE = """insert into staging.lab02_load values (%(order_id)s, %(status)s, %(total_eur)s)
           on conflict (order_id) do update set status = excluded.status, total_eur = excluded.total_eur"""


@right("idempotent_load", solved=True)
def copy_and_merge():
    def load_orders(path):
        with postgres() as db, db.cursor() as cursor:
            cursor.execute("create temp table incoming (like staging.lab02_load) on commit drop")
            with cursor.copy("copy incoming from stdin (format csv, header)") as copy:
                copy.write(path.read_bytes())
            cursor.execute("""
                insert into staging.lab02_load select * from incoming
                on conflict (order_id) do update set status = excluded.status, total_eur = excluded.total_eur
            """)

    return load_orders


@right("idempotent_load")
def row_by_row_in_one_transaction():
    def load_orders(path):
        with postgres() as db, path.open() as file:
            db.cursor().executemany(MERGE, list(csv.DictReader(file)))

    return load_orders


@right("idempotent_load")
def delete_and_copy():
    """The orders of the file go first, and come back with it."""

    def load_orders(path):
        with path.open(newline="") as file:
            numbers = [int(row["order_id"]) for row in csv.DictReader(file)]
        with postgres() as db, db.cursor() as cursor:
            cursor.execute("delete from staging.lab02_load where order_id = any(%s)", [numbers])
            with cursor.copy("copy staging.lab02_load from stdin (format csv, header)") as copy:
                copy.write(path.read_bytes())

    return load_orders


@near_miss("idempotent_load", says="total_eur")
def only_the_status_is_corrected():
    def load_orders(path):
        statement = MERGE.rpartition(",")[0]
        with postgres() as db, path.open() as file:
            db.cursor().executemany(statement, list(csv.DictReader(file)))

    return load_orders


@near_miss("idempotent_load", says="total_eur")
def totals_by_way_of_a_small_float():
    def load_orders(path):
        with postgres() as db, path.open() as file:
            db.cursor().executemany(MERGE.replace("%(total_eur)s", "%(total_eur)s::real"), list(csv.DictReader(file)))

    return load_orders


@near_miss("idempotent_load", says="UniqueViolation")
def plain_copy():
    def load_orders(path):
        with postgres() as db, db.cursor().copy("copy staging.lab02_load from stdin (format csv, header)") as copy:
            copy.write(path.read_bytes())

    return load_orders


@near_miss("idempotent_load", says="last file that named it")
def corrections_are_ignored():
    def load_orders(path):
        statement = MERGE.split("on conflict")[0] + "on conflict do nothing"
        with postgres() as db, path.open() as file:
            db.cursor().executemany(statement, list(csv.DictReader(file)))

    return load_orders


@near_miss("idempotent_load", says="are missing")
def empties_the_table_first():
    def load_orders(path):
        with postgres() as db, db.cursor() as cursor:
            cursor.execute("truncate staging.lab02_load")
            with cursor.copy("copy staging.lab02_load from stdin (format csv, header)") as copy:
                copy.write(path.read_bytes())

    return load_orders


@near_miss("idempotent_load", says="all or nothing")
def every_row_is_its_own_transaction():
    def load_orders(path):
        with postgres(autocommit=True) as db, path.open() as file:
            for row in csv.DictReader(file):
                db.execute(MERGE, row)

    return load_orders


@near_miss("idempotent_load", says="Who commits?")
def leaves_its_transaction_open():
    db = postgres()

    def load_orders(path):
        with path.open() as file:
            db.cursor().executemany(MERGE, list(csv.DictReader(file)))

    return load_orders


@near_miss("idempotent_load", says="UniqueViolation")
def commits_the_first_file_only():
    left = []

    def load_orders(path):
        left.append(postgres())  # and after an error nobody takes it back
        left[-1].cursor().executemany(MERGE.split("on conflict")[0], list(csv.DictReader(path.open())))
        left[-1].commit()

    return load_orders


@near_miss("idempotent_load", says="after the corrections")
def a_file_of_that_name_was_loaded_before():
    load, loaded = row_by_row_in_one_transaction(), set()

    def load_orders(path):
        if path not in loaded:
            load(path)
            loaded.add(path)

    return load_orders


@near_miss("idempotent_load", says="after the first file")
def tidies_the_status():
    def load_orders(path):
        with postgres() as db, path.open() as file:
            rows = [{**row, "status": row["status"].strip()} for row in csv.DictReader(file)]
            db.cursor().executemany(MERGE, rows)

    return load_orders


@near_miss("idempotent_load", says="columns or constraints")
def lets_what_is_missing_in():
    load = row_by_row_in_one_transaction()

    def load_orders(path):
        lesson.sql("alter table staging.lab02_load alter status drop not null")
        load(path)

    return load_orders


@near_miss("idempotent_load", says="without an error")
def bad_lines_end_the_load_in_silence():
    def load_orders(path):
        rows = pd.read_csv(path)
        if rows.isna().any().any():
            return
        with postgres() as db:
            db.cursor().executemany(MERGE, rows.to_dict("records"))

    return load_orders


# --- lag_by_hand ------------------------------------------------------------------------------------------------------


def committed(group, topic):
    with kafka_admin() as admin:
        return {p.partition: at.offset for p, at in admin.list_group_offsets(group)[group].items() if p.topic == topic}


@right("lag_by_hand", solved=True)
def end_less_committed():
    def lag_of(group, topic):
        done = committed(group, topic)
        return {number: end - done.get(number, first) for number, (first, end) in ends(topic).items()}

    return lag_of


@right("lag_by_hand")
def by_the_last_hint():
    def lag_of(group, topic):
        given = {"ends": ends, "topic": topic, "committed": committed(group, topic)}
        return eval(last_hint("02", "lag_by_hand")[0], given)

    return lag_of


@right("lag_by_hand")
def with_a_consumer():
    def lag_of(group, topic):
        from kafka import TopicPartition

        reader = consumer(group_id=group)
        parts = [TopicPartition(topic, number) for number in sorted(reader.partitions_for_topic(topic))]
        first, last = reader.beginning_offsets(parts), reader.end_offsets(parts)
        found = {}
        for part in parts:
            at = reader.committed(part)
            found[part.partition] = last[part] - (first[part] if at is None else at)
        reader.close()
        return found

    return lag_of


@right("lag_by_hand")
def with_librdkafka_and_numpy():
    def lag_of(group, topic):
        import numpy as np
        from confluent_kafka import Consumer, TopicPartition

        from flow360.clients import confluent

        reader = Consumer(confluent() | {"group.id": group, "enable.auto.commit": False})
        parts = [TopicPartition(topic, n) for n in reader.list_topics(topic, timeout=10).topics[topic].partitions]
        found = {}
        for part in reader.committed(parts, timeout=10):
            first, end = reader.get_watermark_offsets(part, timeout=10)
            found[part.partition] = np.int64(end - (part.offset if part.offset >= 0 else first))
        reader.close()
        return found

    return lag_of


@near_miss("lag_by_hand", says="kafka-consumer-groups")
def trimmed_records_do_not_count():
    """What was dropped cannot be read any more; but the tool counts it."""

    def lag_of(group, topic):
        done = committed(group, topic)
        return {n: end - max(done.get(n, first), first) for n, (first, end) in ends(topic).items()}

    return lag_of


@near_miss("lag_by_hand", says="expected")
def any_topic_of_the_group():
    def lag_of(group, topic):
        with kafka_admin() as admin:
            done = {part.partition: at.offset for part, at in admin.list_group_offsets(group)[group].items()}
        return {number: end - done.get(number, first) for number, (first, end) in ends(topic).items()}

    return lag_of


@near_miss("lag_by_hand", says="expected")
def the_numbers_seen_once():
    def lag_of(group, topic):
        return {0: 7, 1: 0, 2: 18, 3: 38, 4: 20, 5: 0}

    return lag_of


@near_miss("lag_by_hand", says="what the group has committed changed")
def read_on_by_asking():
    """A reader of the same group that commits by itself as it leaves: the next one finds less to read."""

    def lag_of(group, topic):
        from kafka import TopicPartition
        from kafka.structs import OffsetAndMetadata

        done = committed(group, topic)
        found = {number: end - done.get(number, first) for number, (first, end) in ends(topic).items()}
        reader = consumer(group_id=group, enable_auto_commit=False)
        part = TopicPartition(topic, 0)
        reader.assign([part])
        reader.commit({part: OffsetAndMetadata(ends(topic)[0][1], "", -1)})
        reader.close()
        return found

    return lag_of


@near_miss("lag_by_hand", says="never committed")
def never_committed_counts_from_zero():
    def lag_of(group, topic):
        done = committed(group, topic)
        return {number: end - done.get(number, 0) for number, (_, end) in ends(topic).items()}

    return lag_of


@near_miss("lag_by_hand", says="kafka-consumer-groups")
def a_commit_at_0_is_taken_for_none():
    def lag_of(group, topic):
        done = committed(group, topic)
        return {number: end - (done.get(number) or first) for number, (first, end) in ends(topic).items()}

    return lag_of


@near_miss("lag_by_hand", says="expected the partitions [0, 1, 2, 3, 4, 5")
def only_what_was_committed():
    def lag_of(group, topic):
        last = ends(topic)
        return {number: last[number][1] - at for number, at in committed(group, topic).items()}

    return lag_of


@near_miss("lag_by_hand", says="dict")
def the_sum():
    def lag_of(group, topic):
        done = committed(group, topic)
        return sum(end - done.get(number, first) for number, (first, end) in ends(topic).items())

    return lag_of


@near_miss("dead_letters", says="list")
def forgets_to_return():
    def sort_readings(topic, dead_topic, group):
        sorter(lambda record: decode_json(record, FIELDS), as_it_came)(topic, dead_topic, group)

    return sort_readings


@near_miss("dead_letters", says="there is no bad record at")
def the_offset_of_the_letter():
    def letter(out, dead_topic, record, error):
        where = [("topic", record.topic.encode()), ("partition", b"0"), ("offset", b"0")]
        cause = error.cause if isinstance(error, BadRecord) else "bad"
        out.send(dead_topic, record.value, record.key, headers=[("cause", cause.encode()), *where])

    return sorter(lambda record: decode_json(record, FIELDS), letter)
