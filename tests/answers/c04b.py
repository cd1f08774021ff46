"""Answers of 04b_big_data."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from datetime import date
from pathlib import PurePosixPath
from typing import Any

from flow360.checks import c04b_big_data as check
from flow360.checks.c04b_big_data.tables import GUEST
from flow360.clients import spark
from tests.answers import last_hint, near_miss, right

SCRATCH = "answers"  # a folder below the lake


def functions() -> Any:
    from pyspark.sql import functions

    spark()  # pyspark's functions need a session
    return functions


def reset(exercise: str) -> None:
    """What an answer wrote beside the tables is gone before the next."""
    for folder in check.lake().glob(f"{SCRATCH}*"):
        shutil.rmtree(folder)


def scratch() -> str:
    return str(check.lake() / f"{SCRATCH}-{time.time_ns()}")


# --- fewer_shuffles ---------------------------------------------------------------------------------------------------


def by_category(joined: Any) -> Any:
    F = functions()
    return joined.groupBy("category").agg(F.sum("line_total_eur").alias("euros"))


def sides_of_report() -> tuple[Any, Any]:
    return check.read("order_lines"), check.read("products")


def slow() -> Any:
    lines, products = sides_of_report()
    return by_category(lines.repartition(8).join(products.hint("merge"), "product_id"))


@right("fewer_shuffles", solved=True)
def broadcast():
    F = functions()
    lines, products = sides_of_report()
    return by_category(lines.join(F.broadcast(products), "product_id"))


@right("fewer_shuffles")
def left_to_spark():
    lines, products = sides_of_report()
    return by_category(lines.join(products, "product_id"))


@right("fewer_shuffles")
def in_sql_as_a_double():
    lines, products = sides_of_report()
    return spark().sql(
        """
        select /*+ broadcast(p) */ category, cast(sum(line_total_eur) as double) as euros
        from {lines} l join {products} p on l.product_id = p.product_id group by category
        """,
        lines=lines,
        products=products,
    )


@right("fewer_shuffles")
def cached_and_one_file_at_the_end():
    return broadcast().coalesce(1).cache()


@near_miss("fewer_shuffles", says="expected one shuffle in the plan, found 3")
def only_the_repartition_removed():
    lines, products = sides_of_report()
    return by_category(lines.join(products.hint("merge"), "product_id"))


@near_miss("fewer_shuffles", says="one task")
def through_one_task():
    lines, products = sides_of_report()
    return by_category(lines.join(products, "product_id").coalesce(1))


@near_miss("fewer_shuffles", says="euros expected")
def summed_the_price():
    F = functions()
    lines, products = sides_of_report()
    return lines.join(products, "product_id").groupBy("category").agg(F.sum("unit_price_eur").alias("euros"))


@near_miss("fewer_shuffles", says="put here as rows")
def computed_and_put_back():
    return spark().createDataFrame(slow().toPandas().astype({"euros": float}))


@near_miss("fewer_shuffles", says="put here as rows")
def a_checkpoint_of_the_slow_one():
    return slow().localCheckpoint()


@near_miss("fewer_shuffles", says="does it ask both tables")
def written_and_read_again():
    F = functions()
    folder = scratch()
    slow().write.parquet(folder)
    return spark().read.parquet(folder).groupBy("category").agg(F.sum("euros").alias("euros"))


@near_miss("fewer_shuffles", says="not expected")
def lines_of_unknown_articles_too():
    lines, products = sides_of_report()
    return by_category(lines.join(products, "product_id", "left"))


@near_miss("fewer_shuffles", says="euros expected")
def equal_amounts_once():
    F = functions()
    lines, products = sides_of_report()
    joined = lines.join(products, "product_id")
    return joined.groupBy("category").agg(F.sum("line_total_eur").cast("decimal(20,0)").cast("double").alias("euros"))


@near_miss("fewer_shuffles", says="found one of pandas")
def a_pandas_frame():
    return slow().toPandas()


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
    other = copies(loyalty.where("customer_id = 1001"), 8).union(rest)
    salt = eval(last_hint("04b", "cured_join")[0].removeprefix("salt = "), {"F": F})
    return guests.withColumn("salt", salt).join(other, ["customer_id", "salt"]).drop("salt")


@right("cured_join")
def the_hot_customer_apart():
    F = functions()
    guests, loyalty = sides()
    hot = F.col("customer_id") == GUEST
    apart = guests.where(hot).join(F.broadcast(loyalty.where(hot)), "customer_id")
    return apart.unionByName(guests.where(~hot).join(loyalty.where(~hot), "customer_id"))


@right("cured_join")
def by_chance():
    F = functions()
    guests, loyalty = sides()
    salt = F.when(F.col("customer_id") == GUEST, F.floor(F.rand(7) * 32).cast("int")).otherwise(0)
    number = F.when(F.col("customer_id") == GUEST, F.sequence(F.lit(0), F.lit(31))).otherwise(F.array(F.lit(0)))
    other = loyalty.withColumn("salt", F.explode(number))
    return (
        guests.withColumn("salt", salt)
        .join(other, ["customer_id", "salt"])
        .select("order_id", "customer_id", "loyalty")
    )


@near_miss("cured_join", says="times")
def as_it_was():
    guests, loyalty = sides()
    return guests.join(loyalty, "customer_id")


@near_miss("cured_join", says="find its customer")
def salt_without_copies():
    F = functions()
    guests, loyalty = sides()
    return salted(guests, 8, 1001).join(loyalty.withColumn("salt", F.lit(0)), ["customer_id", "salt"])


@near_miss("cured_join", says="only one customer needs copies")
def copies_of_all():
    guests, loyalty = sides()
    return salted(guests, 8, None).join(copies(loyalty, 8), ["customer_id", "salt"])


@near_miss("cured_join", says="a broadcast carries")
def broadcast_instead():
    F = functions()
    guests, loyalty = sides()
    return guests.join(F.broadcast(loyalty), "customer_id")


@near_miss("cured_join", says="find its customer")
def joined_before_and_kept():
    guests, loyalty = sides()
    return guests.join(loyalty, "customer_id").localCheckpoint()


@near_miss("cured_join", says="find its customer")
def loyalty_of_another():
    F = functions()
    return one_key().withColumn("loyalty", F.when(F.col("order_id") % 7 == 0, "none").otherwise(F.col("loyalty")))


@near_miss("cured_join", says="find its customer")
def unknown_customers_too():
    F = functions()
    guests, loyalty = sides()
    rest = loyalty.where("customer_id <> 1001").withColumn("salt", F.lit(0))
    other = copies(loyalty.where("customer_id = 1001"), 16).union(rest)
    return salted(guests, 16, 1001).join(other, ["customer_id", "salt"], "left")


@near_miss("cured_join", says="times")
def two_salts():
    F = functions()
    guests, loyalty = sides()
    rest = loyalty.where("customer_id <> 1001").withColumn("salt", F.lit(0))
    other = copies(loyalty.where("customer_id = 1001"), 2).union(rest)
    return salted(guests, 2, 1001).join(other, ["customer_id", "salt"])


# --- exact_stream -----------------------------------------------------------------------------------------------------


def records(session: Any, topic: str, first: str = "earliest", kind: str = "long") -> Any:
    F = functions()
    kafka = session.conf.get("spark.flow360.kafka")
    source = session.readStream.format("kafka").option("kafka.bootstrap.servers", kafka)
    found = source.option("subscribe", topic).option("startingOffsets", first).load()
    return found.select(F.from_json(F.col("value").cast("string"), f"id {kind}").alias("r")).select("r.id")


def copying(
    first: str = "earliest", own_checkpoint: bool = True, kind: str = "long", **trigger: Any
) -> Callable[..., Any]:
    def copy(session: Any, topic: str, target: str, checkpoint: str) -> Any:
        place = checkpoint if own_checkpoint else f"{checkpoint}-{time.time_ns()}"
        rows = records(session, topic, first, kind).writeStream.format("parquet")
        sink = rows.option("path", target).option("checkpointLocation", place)
        return (sink.trigger(**trigger) if trigger else sink).start()

    return copy


def by_batch(place: str) -> Callable[..., Any]:
    """foreachBatch: `place` names the folder of a batch, "" appends to the target itself."""

    def copy(session: Any, topic: str, target: str, checkpoint: str) -> Any:
        def write(rows: Any, number: int) -> None:
            mode = "overwrite" if place else "append"
            rows.write.mode(mode).parquet(f"{target}/{place}{number}" if place else target)

        sink = records(session, topic).writeStream.foreachBatch(write)
        return sink.option("checkpointLocation", checkpoint).trigger(availableNow=True).start()

    return copy


@right("exact_stream")
def earliest_with_the_checkpoint():
    return copying(availableNow=True)


@right("exact_stream", solved=True)
def one_that_goes_on():
    return copying()


@near_miss("exact_stream", says="where does a query that never ran begin")
def from_the_end_and_going_on():
    return copying("latest")


@near_miss("exact_stream", says="does it use the checkpoint")
def a_checkpoint_of_its_own():
    return copying(own_checkpoint=False, availableNow=True)


@near_miss("exact_stream", says="what .start() returns")
def never_started():
    def copy(session: Any, topic: str, target: str, checkpoint: str) -> Any:
        kafka = session.conf.get("spark.flow360.kafka")
        return session.readStream.format("kafka").option("kafka.bootstrap.servers", kafka).option("subscribe", topic)

    return copy


@near_miss("exact_stream", says="written twice")
def appended_batch_by_batch():
    return by_batch("")


@right("exact_stream")
def a_folder_for_each_batch():
    """The one before, repaired: judged as if nothing had been refused."""
    return by_batch("batch=")


@near_miss("exact_stream", says="found id int")
def numbers_that_do_not_fit():
    return copying(kind="int", availableNow=True)


@near_miss("exact_stream", says="two records are two rows")
def each_number_once():
    def copy(session: Any, topic: str, target: str, checkpoint: str) -> Any:
        rows = records(session, topic).dropDuplicates(["id"]).writeStream.format("parquet")
        sink = rows.option("path", target).option("checkpointLocation", checkpoint)
        return sink.trigger(availableNow=True).start()

    return copy


# --- late_model -------------------------------------------------------------------------------------------------------


def predicting(
    features: Callable[[], dict[str, Any]] = lambda: known(),
    zone: str = "Europe/Paris",
    learn: str = "day < first",
    predict: str = "day >= first",
    model: Callable[[], Any] | None = None,
    said: Callable[[], Any] = lambda: chance_of_late(),
) -> Callable[..., Any]:
    """The function that the lab asks for, with one thing in it another way."""

    def answer(deliveries: Any, orders: Any, weather: Any, first: date) -> Any:
        from pyspark.ml import Pipeline
        from pyspark.ml.classification import LogisticRegression
        from pyspark.ml.feature import VectorAssembler

        F = functions()
        day = F.to_date(F.from_utc_timestamp("observed_at", zone)).alias("day")
        rain = weather.groupBy("store_id", day).agg(F.sum("rain_mm").alias("rain"))
        orders = orders.select("order_id", "store_id", "items", F.col("status").alias("outcome"))
        rows = deliveries.join(orders, "order_id")
        rows = rows.withColumn("day", F.to_date(F.from_utc_timestamp("promised_from", zone)))
        rows = rows.join(rain, ["store_id", "day"])
        late = (F.col("delivered_at") > F.col("promised_to")).cast("double").alias("late")
        named = features()
        rows = rows.select("delivery_id", "day", late, *(one.cast("double").alias(name) for name, one in named.items()))
        assembler = VectorAssembler(inputCols=list(named), outputCol="features")
        learner = model() if model else LogisticRegression(labelCol="late", maxIter=10)
        where = {"learn": learn, "predict": predict}
        learned, asked = (rows.where(one.replace("first", f"date '{first}'")) for one in where.values())
        scored = Pipeline(stages=[assembler, learner]).fit(learned).transform(asked)
        return scored.select("delivery_id", said().alias("probability"))

    return answer


def chance_of_late(place: int = 1) -> Any:
    from pyspark.ml.functions import vector_to_array

    return vector_to_array("probability")[place]


def known(zone: str = "Europe/Paris") -> dict[str, Any]:
    F = functions()
    hour = F.hour(F.from_utc_timestamp("promised_from", zone))
    return {"items": F.col("items"), "wet": F.col("rain") > 2, "last_slot": hour.isin(13, 19)}


FIRST = date(2026, 5, 9)


def worth(predict: Callable[..., Any]) -> float:
    """The AUC of what it says of our week."""
    from pyspark.ml.evaluation import BinaryClassificationEvaluator

    F = functions()
    tables = [check.read(name) for name in ("deliveries", "orders", "weather")]
    late = (F.col("delivered_at") > F.col("promised_to")).cast("double").alias("late")
    said = predict(*tables, FIRST).withColumn("probability", F.col("probability").cast("double"))
    judged = said.join(tables[0].select("delivery_id", late), "delivery_id")
    return BinaryClassificationEvaluator(labelCol="late", rawPredictionCol="probability").evaluate(judged)


@right("late_model", solved=True)
def rain_items_and_slot():
    predict = predicting()
    return predict, worth(predict)


@right("late_model")
def each_hour_by_itself_as_a_decimal():
    def features() -> dict[str, Any]:
        F = functions()
        hour = F.hour(F.from_utc_timestamp("promised_from", "Europe/Paris"))
        return {"wet": F.col("rain") > 2, "items": F.col("items"), **{f"at_{n}": hour == n for n in range(10, 20)}}

    predict = predicting(features, said=lambda: chance_of_late().cast("decimal(9,8)"))
    return predict, worth(predict)


@right("late_model")
def a_tree_of_shares():
    def tree() -> Any:
        from pyspark.ml.regression import DecisionTreeRegressor

        return DecisionTreeRegressor(labelCol="late", maxDepth=5)

    predict = predicting(model=tree, said=lambda: functions().col("prediction"))
    return predict, worth(predict)


@near_miss("late_model", says="the same probability")
def a_tree_of_classes():
    """Spark joins leaves of the same class, and in our week most of every kind are punctual."""

    def tree() -> Any:
        from pyspark.ml.classification import DecisionTreeClassifier

        return DecisionTreeClassifier(labelCol="late", maxDepth=5)

    return predicting(model=tree), 0.5


@near_miss("late_model", says="both in Paris")
def items_only():
    return predicting(lambda: {"items": known()["items"]}), 0.6


@near_miss("late_model", says="knew it")
def the_minute_of_the_delivery():
    def features() -> dict[str, Any]:
        F = functions()
        return {**known(), "minutes": F.unix_timestamp("delivered_at") - F.unix_timestamp("promised_from")}

    return predicting(features), 0.99


@near_miss("late_model", says="missing")
def predicted_what_it_was_trained_on():
    return predicting(predict="day < first"), 0.67


@near_miss("late_model", says="auc: the predictions have")
def accuracy_instead():
    return predicting(), 0.87


@near_miss("late_model", says="knew it")
def learned_from_all_days():
    return predicting(learn="true"), 0.67


@near_miss("late_model", says="missing")
def days_in_utc():
    return predicting(zone="UTC"), 0.67


@near_miss("late_model", says="both in Paris")
def hours_in_utc():
    def features() -> dict[str, Any]:
        return {**known("UTC"), "wet": known()["wet"]}

    return predicting(features), 0.65


@near_miss("late_model", says="coin turned over")
def probability_of_being_punctual():
    return predicting(said=lambda: chance_of_late(0)), 0.33


@near_miss("late_model", says="knew it")
def refunded_afterwards():
    def features() -> dict[str, Any]:
        F = functions()
        return {**known(), "refunded": F.col("outcome") == "refunded"}

    return predicting(features), 0.67


@near_miss("late_model", says="not expected")
def all_days_predicted():
    return predicting(predict="true"), 0.67


# --- right_files ------------------------------------------------------------------------------------------------------


def by_day(zone: str = "Europe/Paris", column: str = "day") -> Any:
    F = functions()
    return check.read("orders").withColumn(column, F.to_date(F.from_utc_timestamp("ordered_at", zone)))


def written(rows: Any, column: str = "day", by: str | None = "day") -> str:
    folder = scratch()
    rows = rows.repartition(4)
    rows = rows.repartition(by) if by else rows
    rows.write.partitionBy(column).parquet(folder)
    return folder


@right("right_files")
def one_task_a_day():
    day, write = last_hint("04b", "right_files")
    rows, folder = check.read("orders").withColumn("day", eval(day, {"F": functions()})), scratch()
    eval(f"rows{write}", {"rows": rows}).parquet(folder)
    return PurePosixPath(folder)


@right("right_files")
def by_duckdb():
    import duckdb

    folder = scratch()
    with duckdb.connect() as db:
        db.execute("set timezone = 'Europe/Paris'")
        db.execute(f"""
            copy (select *, strftime(ordered_at, '%Y-%m-%d') as day from '{check.lake()}/orders/*.parquet' order by day)
            to '{folder}' (format parquet, partition_by (day))
        """)
    return folder + "/"


@right("right_files")
def by_pyarrow():
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    folder = scratch()
    table = pq.read_table(check.lake() / "orders")
    local = pc.local_timestamp(table["ordered_at"].cast(pa.timestamp("us", "Europe/Paris")))
    pq.write_to_dataset(table.append_column("day", pc.strftime(local, "%Y-%m-%d")), folder, partition_cols=["day"])
    return folder


@near_miss("right_files", says="how many tasks wrote there")
def each_task_into_each_day():
    return written(by_day(), by=None)


@near_miss("right_files", says="more than once")
def every_order_twice():
    return written(by_day().union(by_day()))


@near_miss("right_files", says="a day is a day in Paris")
def orders_in_utc_days():
    return written(by_day(zone="UTC"))


@near_miss("right_files", says="folders called day=")
def another_name():
    return written(by_day(column="date"), column="date", by="date")


@near_miss("right_files", says="is missing: all columns")
def two_columns_only():
    return written(by_day().select("order_id", "total_eur", "day"))


@near_miss("right_files", says="are missing, such as")
def one_order_for_all_others():
    F = functions()
    first = F.min("order_id").over(window())
    return written(by_day().withColumn("order_id", first))


@near_miss("right_files", says="and decimal")
def euros_as_a_float():
    F = functions()
    return written(by_day().withColumn("total_eur", F.col("total_eur").cast("double")))


@near_miss("right_files", says="is a table that is given")
def over_the_table_itself():
    return str(check.lake() / "orders")


@near_miss("right_files", says="day expected")
def a_hundred_orders_in_another_day():
    F = functions()
    lost = F.col("order_id") % 400 == 0
    return written(by_day().withColumn("day", F.when(lost, F.lit("2026-05-07")).otherwise(F.col("day"))))


def window() -> Any:
    from pyspark.sql import Window

    return Window.partitionBy("day")
