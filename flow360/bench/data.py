"""The figures about data: generating it, loading it, sending it."""

from __future__ import annotations

import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from flow360.bench.measure import Round, output, run, timer
from flow360.bench.sandbox import engine_of_its_own
from flow360.errors import FlowError
from flow360.stack.facade import silent

ROWS_OURS, ROWS_FAKER = 2_000_000, 8_000
RECORDS, RECORD_BYTES = 200_000, 200


@contextmanager
def generator_over_faker() -> Iterator[Round]:
    """Compare rows a second of the 12-column customer, written as CSV, with Faker row by row."""
    from faker import Faker

    from flow360.primeur.generate import customers_csv

    def one() -> tuple[float, float]:
        with tempfile.TemporaryDirectory() as folder:
            with timer() as ours:
                rows, _ = customers_csv(Path(folder) / "customers.csv", rows=ROWS_OURS)
            fake = Faker("fr_FR")
            with timer() as theirs, (Path(folder) / "faker.csv").open("w") as file:
                for number in range(ROWS_FAKER):
                    row = (
                        number, fake.first_name(), fake.last_name(), fake.email(), fake.phone_number(),
                        fake.street_address(), fake.postcode(), fake.city(), fake.date_of_birth(),
                        fake.date_this_decade(), fake.random_element(("none", "basil", "mint")), fake.boolean(),
                    )  # fmt: skip
                    file.write(",".join(map(str, row)) + "\n")
        return rows / ours[0], ROWS_FAKER / theirs[0]

    yield one


@contextmanager
def generator_over_tpchgen() -> Iterator[Round]:
    """Compare MB of CSV a second with tpchgen-cli, both to a file, on the same cores."""
    from flow360.primeur.generate import customers_csv

    program = Path(sys.executable).parent / "tpchgen-cli"

    def one() -> tuple[float, float]:
        with tempfile.TemporaryDirectory() as folder:
            with timer() as ours:
                _, size = customers_csv(Path(folder) / "customers.csv", rows=2 * ROWS_OURS)
            command = [program, "csv", "-s", "0.5", "--output-dir", folder + "/tpch"]
            theirs = run("tpchgen-cli", command, 300)
            written = sum(file.stat().st_size for file in Path(folder, "tpch").rglob("*.csv"))
        return size / ours[0] / 1e6, written / theirs / 1e6

    yield one


@contextmanager
def load_over_copy() -> Iterator[Round]:
    """Compare rows a second from Arrow into PostgreSQL with COPY from a file on the server."""
    import pyarrow as pa

    from flow360.clients import postgres
    from flow360.primeur import ddl, generate, load
    from flow360.primeur.snapshot import seed_table

    rows = pa.concat_tables([seed_table("order_lines")] * 50)
    name = "bench.order_lines"
    with engine_of_its_own() as engine, tempfile.NamedTemporaryFile("wb", suffix=".csv") as file:
        file.write(generate.csv_bytes(rows, header=False))
        file.flush()
        Path(file.name).chmod(0o644)
        engine.up(["postgres-dwh"], silent)
        with postgres() as db:
            db.execute("create schema bench")
            db.execute(ddl.create("bench", load.TABLES["order_lines"], False))
            db.commit()

            def one() -> tuple[float, float]:
                db.execute(f"truncate {name}")
                with timer() as ours:
                    load.copy_table(db, name, rows)
                    db.commit()
                db.execute(f"truncate {name}")
                with timer() as theirs:
                    db.execute(f"copy {name} from '{file.name}' (format csv)")
                    db.commit()
                return rows.num_rows / ours[0], rows.num_rows / theirs[0]

            yield one


def _send_with_librdkafka(topic: str, body: bytes) -> None:
    from confluent_kafka import Producer

    from flow360 import clients

    producer = Producer(clients.confluent(acks=1, **{"enable.idempotence": False, "linger.ms": 5}))
    for number in range(RECORDS):
        while True:
            try:
                producer.produce(topic, body)
                break
            except BufferError:
                producer.poll(0.1)
        if number % 1000 == 0:
            producer.poll(0)
    if left := producer.flush(60):
        raise FlowError(f"kafka: {left} records were not acknowledged in 60 s")


def _send_with_kafka_python(topic: str, body: bytes) -> None:
    from flow360 import clients

    producer = clients.producer(acks=1, enable_idempotence=False, linger_ms=5)
    for _ in range(RECORDS):
        producer.send(topic, body)
    producer.flush(120)
    producer.close(30)


@contextmanager
def _over_perf_test(send: Callable[[str, bytes], None]) -> Iterator[Round]:
    """Compare records a second with Kafka's own kafka-producer-perf-test, acks=1."""
    from kafka.admin import NewTopic

    from flow360 import clients
    from flow360.settings import settings
    from flow360.stack.native import jars, java

    topic = "bench"
    with engine_of_its_own() as engine:
        engine.up(["kafka"], silent)
        with clients.kafka_admin() as admin:
            admin.create_topics([NewTopic(topic, num_partitions=3, replication_factor=1)])
        classpath = ":".join(map(str, jars.paths("kafka")))
        perf = [
            str(java.jdk().java), "-Xmx256m", "-cp", classpath, "org.apache.kafka.tools.ProducerPerformance",
            "--topic", topic, "--num-records", str(RECORDS), "--record-size", str(RECORD_BYTES), "--throughput", "-1",
            "--producer-props", f"bootstrap.servers={settings().kafka_bootstrap}", "acks=1",
        ]  # fmt: skip

        def one() -> tuple[float, float]:
            with timer() as ours:
                send(topic, b"x" * RECORD_BYTES)
            last = output("kafka-producer-perf-test", perf, 180).strip().splitlines()[-1]
            return RECORDS / ours[0], float(re.search(r"([\d.]+) records/sec", last).group(1))

        yield one


kafka_over_perf_test = partial(_over_perf_test, _send_with_librdkafka)
kafka_python_over_perf_test = partial(_over_perf_test, _send_with_kafka_python)
