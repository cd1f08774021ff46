"""Spark's services: who may use them, and what they answer after somebody's query has failed."""

from __future__ import annotations

import json
import os
import pwd
import socket
import struct
import subprocess
import sys
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import requests
from pyspark.errors import PySparkException
from pyspark.sql import functions as F

from flow360.processing.spark import rest
from flow360.settings import settings
from tests.live.listeners import listeners

SERVICES = ("spark-connect", "spark-worker")
PROGRAMS = ("spark-master", "spark-worker", "spark-connect")


# --- who may use them -------------------------------------------------------------------------------------------------

STRANGER = """
import json, os, sys
import grpc, grpc._channel  # before the user changes, who may not read this environment
port, uid, *token = sys.argv[1:]
if uid:
    os.setgroups([])
    os.setgid(int(uid))
    os.setuid(int(uid))
says = {}
with grpc.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.enable_http_proxy", 0)]) as channel:
    for method in ("Config", "AnalyzePlan", "ExecutePlan", "AddArtifacts", "Interrupt", "ReleaseSession"):
        try:
            ask = channel.unary_unary(f"/spark.connect.SparkConnectService/{method}")
            ask(b"", timeout=10, metadata=[("authorization", f"Bearer {one}") for one in token])
        except grpc.RpcError as error:
            says[method] = error.code().name
        else:
            says[method] = "answered"
print(json.dumps(says))
"""


def asked_by_a_stranger(*token: str) -> set[str]:
    """What the Connect server answers another user of this machine (for root; else this one), method by method."""
    uid = str(pwd.getpwnam("nobody").pw_uid) if os.geteuid() == 0 else ""
    command = [sys.executable, "-c", STRANGER, str(settings().spark_connect_port), uid, *token]
    done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=True)
    return set(json.loads(done.stdout).values())


@pytest.mark.timeout(300)
def test_whoever_does_not_have_the_token_is_refused_by_every_method(spark):
    assert asked_by_a_stranger() == {"UNAUTHENTICATED"}
    assert asked_by_a_stranger("guessed") == {"UNAUTHENTICATED"}
    assert "UNAUTHENTICATED" not in asked_by_a_stranger(settings().spark_connect_token), "the test asks as it should"


def test_the_masters_own_protocol_wants_the_secret(spark):
    """A request as any driver sends it (a frame of type 3), but without the handshake."""
    body = b"\xac\xed\x00\x05"
    with socket.create_connection(("127.0.0.1", settings().spark_master_port), 10) as sock:
        sock.settimeout(10)
        sock.sendall(struct.pack(">qbqi", 21 + len(body), 3, 1, len(body)) + body)
        answer = sock.recv(4096)
    assert b"Expected SaslMessage" in answer


def test_the_master_has_no_second_door(stack, spark):
    """Its REST server, on port 6066 by default, runs any file, and asks for no secret."""
    ports = {port for _, _, port in listeners([psutil.Process(stack.host.pids()["spark-master"])])}
    assert ports == set(stack.model["spark-master"].ports)


def test_nobody_ends_the_driver_or_the_worker_from_a_web_page(spark):
    application = spark.conf.get("spark.app.id")
    master = f"http://127.0.0.1:{settings().spark_master_web_port}"
    for address, form in {
        f"{master}/app/kill/": {"id": application, "terminate": "true"},
        f"{master}/workers/kill/": {"host": "127.0.0.1"},
        f"http://127.0.0.1:{settings().spark_ui_port}/jobs/job/kill/": {"id": "0"},
    }.items():
        requests.post(address, data=form, headers={"Origin": "http://elsewhere.example"}, timeout=10)
    found = requests.get(f"{master}/json/", timeout=10).json()
    assert [one["id"] for one in found["activeapps"]] == [application]
    assert [one["state"] for one in found["workers"]].count("ALIVE") == 1
    assert spark.range(10).agg(F.sum("id")).first()[0] == 45


@pytest.mark.timeout(300)
def test_the_secrets_are_in_no_command_line_no_log_and_on_no_page(stack, spark, folder):
    def each(rows, _number) -> None:
        rows.write.mode("append").parquet(f"{folder}/rows")

    stream = spark.readStream.format("rate").load().writeStream.foreachBatch(each)
    query = stream.option("checkpointLocation", f"{folder}/checkpoint").trigger(availableNow=True).start()
    assert query.awaitTermination(120)
    assert spark.range(4).select(F.udf(lambda number: number + 1, "long")("id")).count() == 4
    logs = {name: stack.logs(name, 100_000) for name in PROGRAMS}
    assert "ForeachBatch worker is starting with url" in logs["spark-connect"], "the line that would tell it"
    daemon = stack.host.supervisor.daemon()
    told = " ".join([word for process in daemon.children(recursive=True) for word in process.cmdline()])
    told += "".join(logs.values()) + json.dumps(rest(spark, "environment"))
    told += requests.get(f"http://127.0.0.1:{settings().spark_ui_port}/environment/", timeout=20).text
    for secret in (settings().spark_connect_token, settings().spark_auth_secret):
        assert len(secret) >= 24
        assert secret not in told


# --- after a failure --------------------------------------------------------------------------------------------------


@pytest.mark.timeout(400)
def test_after_a_query_that_failed_the_next_ones_are_right(spark, folder):
    """Each kind of failure inside a task, then queries with tasks of every kind: none may be wrong without a word."""
    rows = 1000
    pq.write_table(pa.table({"id": range(rows), "text": [f"n{n}" for n in range(rows)]}), folder / "good.parquet")
    (folder / "cut.parquet").write_bytes((folder / "good.parquet").read_bytes()[:2000])

    def raises(_number: int) -> int:
        raise ValueError("the learner's mistake")

    good = spark.read.parquet(f"{folder}/good.parquet")
    failures = {
        "text read as a number": lambda: spark.read.schema("id long, text double").parquet(f"{folder}/good.parquet"),
        "a file that was cut": lambda: spark.read.schema("id long, text string").parquet(f"{folder}/cut.parquet"),
        "a word cast to a number": lambda: good.select(F.col("text").cast("int")),
        "a division by zero": lambda: good.select(F.lit(1) / (F.col("id") - 500)),
        "a Python function that raises": lambda: good.select(F.udf(raises, "long")("id")),
        "an assertion of SQL": lambda: good.select(F.raise_error(F.concat(F.lit("no "), "text"))),
    }

    def answers() -> dict[str, object]:
        doubled = F.udf(lambda number: 2 * number, "long")
        return {
            "a sum": good.agg(F.sum("id")).first()[0],
            "groups": sorted(map(tuple, good.groupBy((F.col("id") % 3).alias("g")).count().collect())),
            "a join": good.join(spark.range(10), "id").count(),
            "a Python function": good.agg(F.sum(doubled("id"))).first()[0],
            "texts": good.where("text = 'n7'").select("id").first()[0],
            "written and read": _written(good, folder),
        }

    right = {
        "a sum": 499_500,
        "groups": [(0, 334), (1, 333), (2, 333)],
        "a join": 10,
        "a Python function": 999_000,
        "texts": 7,
        "written and read": rows,
    }
    assert answers() == right
    for what, failing in failures.items():
        with pytest.raises(PySparkException):
            failing().collect()
        with pytest.raises(PySparkException):
            failing().write.mode("overwrite").parquet(f"{folder}/never")
        assert answers() == right, f"after {what}"


def _written(rows, folder: Path) -> int:
    rows.write.mode("overwrite").parquet(f"{folder}/copy")
    return rows.sparkSession.read.parquet(f"{folder}/copy").count()
