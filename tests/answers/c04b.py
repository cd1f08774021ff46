"""Answers of 04b_big_data."""

from __future__ import annotations

import shutil
import time
from typing import Any

from flow360.checks import c04b_big_data as check
from flow360.clients import spark
from tests.answers import near_miss, right


def functions() -> Any:
    from pyspark.sql import functions

    spark()  # pyspark's functions need a session
    return functions


# --- fewer_shuffles ---------------------------------------------------------------------------------------------------


def by_category(joined: Any) -> Any:
    F = functions()
    return joined.groupBy("category").agg(F.sum("line_total_eur").alias("euros"))


@right("fewer_shuffles", solved=True)
def broadcast():
    F = functions()
    return by_category(check.read("order_lines").join(F.broadcast(check.read("products")), "product_id"))


@right("fewer_shuffles")
def left_to_spark():
    return by_category(check.read("order_lines").join(check.read("products"), "product_id"))


@near_miss("fewer_shuffles", says="expected one shuffle in the plan, found 3")
def only_the_repartition_removed():
    return by_category(check.read("order_lines").join(check.read("products").hint("merge"), "product_id"))


@near_miss("fewer_shuffles", says="one task")
def through_one_task():
    joined = check.read("order_lines").join(check.read("products"), "product_id")
    return by_category(joined.coalesce(1))


@near_miss("fewer_shuffles", says="euros")
def summed_the_price():
    F = functions()
    joined = check.read("order_lines").join(check.read("products"), "product_id")
    return joined.groupBy("category").agg(F.sum("unit_price_eur").alias("euros"))


# --- cured_join -------------------------------------------------------------------------------------------------------


def sides() -> tuple[Any, Any]:
    return check.guest_orders(), check.read("customers").select("customer_id", "loyalty")


def salted(rows: Any, salts: int, key: int | None) -> Any:
    F = functions()
    salt = (F.col("order_id") / 10).cast("int") % salts
    return rows.withColumn("salt", salt if key is None else F.when(F.col("customer_id") == key, salt).otherwise(0))


def copies(rows: Any, salts: int) -> Any:
    F = functions()
    return rows.withColumn("salt", F.explode(F.sequence(F.lit(0), F.lit(salts - 1))))


@right("cured_join")
def one_key():
    F = functions()
    guests, loyalty = sides()
    rest = loyalty.where("customer_id <> 1001").withColumn("salt", F.lit(0))
    other = copies(loyalty.where("customer_id = 1001"), 16).union(rest)
    return salted(guests, 16, 1001).join(other, ["customer_id", "salt"])


@near_miss("cured_join", says="times")
def as_it_was():
    guests, loyalty = sides()
    return guests.join(loyalty, "customer_id")


@near_miss("cured_join", says="find its copy")
def salt_without_copies():
    F = functions()
    guests, loyalty = sides()
    return salted(guests, 8, 1001).join(loyalty.withColumn("salt", F.lit(0)), ["customer_id", "salt"])


@near_miss("cured_join", says="only one customer needs copies")
def copies_of_all():
    guests, loyalty = sides()
    return salted(guests, 8, None).join(copies(loyalty, 8), ["customer_id", "salt"])


@near_miss("cured_join", says="broadcast")
def broadcast_instead():
    F = functions()
    guests, loyalty = sides()
    return guests.join(F.broadcast(loyalty), "customer_id")


# --- exact_stream -----------------------------------------------------------------------------------------------------


def copying(first: str, own_checkpoint: bool) -> Any:
    def copy(session: Any, topic: str, target: str, checkpoint: str) -> Any:
        F = functions()
        kafka = session.conf.get("spark.flow360.kafka")
        source = session.readStream.format("kafka").option("kafka.bootstrap.servers", kafka)
        records = source.option("subscribe", topic).option("startingOffsets", first).load()
        rows = records.select(F.from_json(F.col("value").cast("string"), "id long").alias("r")).select("r.id")
        place = checkpoint if own_checkpoint else f"{checkpoint}-{time.time_ns()}"
        sink = rows.writeStream.format("parquet").option("path", target).option("checkpointLocation", place)
        return sink.trigger(availableNow=True).start()

    return copy


@right("exact_stream")
def earliest_with_the_checkpoint():
    return copying("earliest", own_checkpoint=True)


@near_miss("exact_stream", says="the first batch holds no row")
def from_the_end():
    return copying("latest", own_checkpoint=True)


@near_miss("exact_stream", says="does it use the checkpoint")
def a_checkpoint_of_its_own():
    return copying("earliest", own_checkpoint=False)


@near_miss("exact_stream", says="what .start() returns")
def never_started():
    def copy(session: Any, topic: str, target: str, checkpoint: str) -> Any:
        kafka = session.conf.get("spark.flow360.kafka")
        return session.readStream.format("kafka").option("kafka.bootstrap.servers", kafka).option("subscribe", topic)

    return copy


# --- late_model -------------------------------------------------------------------------------------------------------


def trained(columns: dict[str, Any], train_on: str = "day < '2026-05-09'", test_on: str = "day >= '2026-05-09'") -> Any:
    from pyspark.ml import Pipeline
    from pyspark.ml.classification import LogisticRegression
    from pyspark.ml.evaluation import BinaryClassificationEvaluator
    from pyspark.ml.feature import VectorAssembler
    from pyspark.ml.functions import vector_to_array

    F = functions()
    paris = F.from_utc_timestamp
    day = F.to_date(paris("observed_at", "Europe/Paris")).alias("day")
    rain = check.read("weather").groupBy("store_id", day).agg(F.sum("rain_mm").alias("rain"))
    rows = check.read("deliveries").join(check.read("orders").select("order_id", "store_id", "items"), "order_id")
    rows = rows.withColumn("day", F.to_date(paris("promised_from", "Europe/Paris"))).join(rain, ["store_id", "day"])
    late = (F.col("delivered_at") > F.col("promised_to")).cast("double").alias("late")
    rows = rows.select("delivery_id", "day", late, *(column.alias(name) for name, column in columns.items()))
    assembler = VectorAssembler(inputCols=list(columns), outputCol="features")
    model = Pipeline(stages=[assembler, LogisticRegression(labelCol="late", maxIter=10)]).fit(rows.where(train_on))
    scored = model.transform(rows.where(test_on))
    auc = BinaryClassificationEvaluator(labelCol="late").evaluate(scored)
    return scored.select("delivery_id", vector_to_array("probability")[1].alias("probability")), auc


def known() -> dict[str, Any]:
    F = functions()
    hour = F.hour(F.from_utc_timestamp("promised_from", "Europe/Paris"))
    return {
        "items": F.col("items").cast("double"),
        "wet": (F.col("rain") > 2).cast("double"),
        "last_slot": hour.isin(13, 19).cast("double"),
    }


@right("late_model", solved=True)
def rain_items_and_slot():
    return trained(known())


@near_miss("late_model", says="what else is known beforehand")
def items_only():
    return trained({"items": known()["items"]})


@near_miss("late_model", says="too good")
def the_minute_of_the_delivery():
    F = functions()
    return trained({**known(), "minutes": (F.unix_timestamp("delivered_at") - F.unix_timestamp("promised_from")) / 60})


@near_miss("late_model", says="expected the")
def predicted_what_it_was_trained_on():
    return trained(known(), test_on="day < '2026-05-09'")


@near_miss("late_model", says="auc: the predictions have")
def accuracy_instead():
    return trained(known())[0], 0.87


# --- right_files ------------------------------------------------------------------------------------------------------


def written(name: str, zone: str = "Europe/Paris", column: str = "day", by: str | None = "day", times: int = 1) -> str:
    F = functions()
    folder = check.lake() / name
    shutil.rmtree(folder, ignore_errors=True)
    rows = check.read("orders").repartition(4).withColumn(column, F.to_date(F.from_utc_timestamp("ordered_at", zone)))
    rows = rows.withColumn("copy", F.explode(F.sequence(F.lit(1), F.lit(times)))).drop("copy")
    rows = rows.repartition(by) if by else rows
    rows.write.partitionBy(column).parquet(str(folder))
    return str(folder)


@right("right_files")
def one_task_a_day():
    return written("answer-right")


@near_miss("right_files", says="how many tasks wrote there")
def each_task_into_each_day():
    return written("answer-many", by=None)


@near_miss("right_files", says="each once")
def every_order_twice():
    return written("answer-twice", times=2)


@near_miss("right_files", says="a day is a day in Paris")
def days_in_utc():
    return written("answer-utc", zone="UTC")


@near_miss("right_files", says="folders called day=")
def another_name():
    return written("answer-name", column="date", by="date")
