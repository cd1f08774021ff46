"""The checks of 04a: topologies are asked with drawn records (TopologyTestDriver), the last one live, over Kafka."""

from __future__ import annotations

from flow360.checks.c04a_stream_processing.converting import clean_celsius
from flow360.checks.c04a_stream_processing.door import door_alarm
from flow360.checks.c04a_stream_processing.tours import on_tour
from flow360.checks.c04a_stream_processing.windows import average_per_van, final_count

__all__ = ["average_per_van", "clean_celsius", "door_alarm", "final_count", "on_tour"]
