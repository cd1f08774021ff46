"""Where the lake is for Spark, whose executors may reach it by another address than this process does."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def root(spark: SparkSession) -> str:
    """Name HDFS as Spark's executors reach it: hdfs://host:port."""
    scheme, _, rest = spark.conf.get("spark.sql.warehouse.dir").partition("://")
    return f"{scheme}://{rest.partition('/')[0]}"
