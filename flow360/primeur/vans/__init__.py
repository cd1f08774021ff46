"""The vans of a day: readings over MQTT, and their replay.

Here stands how they are named; it costs nothing to import.
"""

TOPIC = "primeur/vans/{van_id}/temperature"
"""Where a van's readings are published."""
READINGS = "vans.readings"
"""Kafka's topic of the readings; the key is the van."""
IDLE = "idle-"
"""So begins the run of what trickles by while nobody asks; no replay may be called so."""
