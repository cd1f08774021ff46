#!/usr/bin/env bash
# Airflow's page and API. It reads the password of its one user from a file, which nobody else may read; without the
# file it would invent a password and print it into the log.
set -euo pipefail
umask 077

rm -f "$AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE"
printf '{"primeur": "%s"}\n' "$AIRFLOW_PASSWORD" >"$AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE"
unset AIRFLOW_PASSWORD

exec "${PYTHON:-python}" -m airflow api-server
