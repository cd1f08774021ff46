"""The vans of a day: readings over MQTT, and their replay.

Here stands how they are named; it costs nothing to import.
"""

TOPIC = "primeur/vans/{van_id}/temperature"
"""Where a van's readings are published."""
READINGS = "vans.readings"
"""Kafka's topic of the readings; the key is the van."""
DEPARTURES = "primeur/vans/{van_id}/tour"
"""Where a van says which tour it sets out on."""
ROUTES = "vans.routes"
"""Kafka's topic of the tours; the key is the van."""
IDLE = "idle-"
"""So begins the run of what trickles by while nobody asks; no replay may be called so."""
EXERCISE = "lesson-"
"""So begins the run of a van that exists in a lesson only: its alarm is raised, and no concern of the warehouse."""
