"""The vans of a day: readings over MQTT, and their replay."""
