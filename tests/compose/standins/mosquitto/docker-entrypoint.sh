#!/bin/sh
# The data folder belongs to user 1883, whoever owned the volume; a config that is mounted read-only stays as it is.
set -e
if [ "$(id -u)" = 0 ]; then chown -R mosquitto:mosquitto /mosquitto 2>/dev/null || true; fi
exec "$@"
