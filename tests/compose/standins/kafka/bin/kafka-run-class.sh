#!/bin/bash
# Runs a class of Kafka as the official script does: heap, options and log settings come from the same variables.
home=$(cd "$(dirname "$0")/.." && pwd)
# Options are words, so they must be split.
# shellcheck disable=SC2086
exec java ${KAFKA_HEAP_OPTS:--Xmx256M} ${KAFKA_JVM_PERFORMANCE_OPTS:--server -XX:+UseG1GC} -Djava.awt.headless=true \
  ${KAFKA_LOG4J_OPTS:--Dlog4j.configuration=file:$home/config/log4j.properties} ${KAFKA_OPTS:-} \
  -cp "$home/libs/*" "$@"
