#!/bin/sh
# What the secrets' server is to hold, out of the files beside this one, whatever it held before; what people put into it
# stays. Secrets come from the environment and go through pipes. VAULT_ADDR and VAULT_TOKEN are vault.sh's.
set -eu
program=$1
files=$(dirname -- "$0")
say() { "$program" "$@" >/dev/null; }
has() { "$program" "$1" list -format=json | grep -q "\"$2/\""; }
# The one node of a cluster needs a moment to elect itself, and a new engine one to be ready.
again() {
  for _ in $(seq 60); do
    if "$@" 2>/dev/null; then return 0; fi
    sleep 0.25
  done
  "$@"
}

again say token lookup
has audit file || say audit enable file file_path=audit.log
has auth approle || say auth enable approle
has secrets secret || say secrets enable -path=secret -version=2 kv
has secrets database || say secrets enable database

for file in "$files"/policies/*.hcl; do
  say policy write "$(basename "$file" .hcl)" "$file"
done

# A role is made again: with its secret of an older `.env`, nobody shall come in.
for file in "$files"/approles/*.json; do
  name=$(basename "$file" .json)
  say delete "auth/approle/role/$name"
  say write "auth/approle/role/$name" "@$file"
  say write "auth/approle/role/$name/role-id" "role_id=$name"
  printenv "VAULT_$(echo "$name" | tr '[:lower:]' '[:upper:]')_SECRET" | tr -d '\n' |
    say write "auth/approle/role/$name/custom-secret-id" secret_id=-
done

# Not tried now: the warehouse may be down, or come later.
printf %s "$VAULT_DB_PASSWORD" | say write database/config/warehouse "@$files/database/warehouse.json" \
  "connection_url=postgresql://{{username}}:{{password}}@$WAREHOUSE/datawarehouse?sslmode=disable" password=-
say write database/roles/pipeline "@$files/database/pipeline.json"

# Airflow's connections, as its own backend looks them up.
connection() { printenv "$1" | tr -d '\n' | say kv put -mount=secret "$2" conn_uri=-; }
for name in $(env | sed -n 's/^AIRFLOW_CONN_\([A-Z]*\)=..*/\1/p'); do
  again connection "AIRFLOW_CONN_$name" "airflow/connections/$(echo "$name" | tr '[:upper:]' '[:lower:]')"
done
