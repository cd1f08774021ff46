"""Checks of 05a_data_lake: each asks HDFS, the metastore or HiveServer2, and compares what lies there row by row."""

from __future__ import annotations

from flow360.checks.c05a_data_lake.compaction import compact_files
from flow360.checks.c05a_data_lake.copies import land_day, repair_file
from flow360.checks.c05a_data_lake.pruning import pruned_query
from flow360.checks.c05a_data_lake.tables import external_table

__all__ = ["compact_files", "external_table", "land_day", "pruned_query", "repair_file"]
