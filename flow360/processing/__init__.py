"""Layer 4: Kafka Streams, Spark, dbt, and the landing tables that dbt reads."""
