#!/bin/bash
# What our compose file needs of the official entry point, written by us: the data folder is made once, as user 999, with
# POSTGRES_USER, POSTGRES_PASSWORD (or _FILE) and POSTGRES_DB; meanwhile a server listens on the socket only, and
# /docker-entrypoint-initdb.d is run against it. A folder that holds data already is left as it is.
set -Eeo pipefail

if [ "$1" != postgres ]; then exec "$@"; fi
if [ "$(id -u)" = 0 ]; then
  mkdir -p "$PGDATA"
  chmod 700 "$PGDATA"
  find "$PGDATA" \! -user postgres -exec chown postgres '{}' +
  chown postgres "$(dirname "$PGDATA")"
  exec setpriv --reuid postgres --regid postgres --init-groups "$0" "$@"
fi
if [ -s "$PGDATA/PG_VERSION" ]; then
  echo "PostgreSQL Database directory appears to contain a database; Skipping initialization"
  exec "$@"
fi

if [ -n "${POSTGRES_PASSWORD_FILE:-}" ]; then POSTGRES_PASSWORD=$(<"$POSTGRES_PASSWORD_FILE"); fi
if [ -z "${POSTGRES_PASSWORD:-}" ]; then
  echo "Error: Database is uninitialized and superuser password is not specified." >&2
  exit 1
fi
user=${POSTGRES_USER:-postgres}
database=${POSTGRES_DB:-$user}
initdb -D "$PGDATA" --username="$user" --pwfile=<(printf '%s\n' "$POSTGRES_PASSWORD") --auth-host=scram-sha-256 --auth-local=trust
echo "host all all all scram-sha-256" >>"$PGDATA/pg_hba.conf"
# The options of the command hold here too, but the network stays shut.
pg_ctl -D "$PGDATA" -w -t 60 -o "$(printf '%q ' "${@:2}") -c listen_addresses='' -c unix_socket_directories=/var/run/postgresql" start
run=(psql -v ON_ERROR_STOP=1 --no-psqlrc --host /var/run/postgresql --username "$user")
if [ "$database" != postgres ]; then
  "${run[@]}" --dbname postgres --set db="$database" <<<'create database :"db";'
fi
for file in /docker-entrypoint-initdb.d/*; do
  # As the official one does: a script that may be run is run, another is read in.
  # shellcheck disable=SC1090
  case "$file" in
    *.sh) if [ -x "$file" ]; then "$file"; else . "$file"; fi ;;
    *.sql) "${run[@]}" --dbname "$database" --file "$file" ;;
  esac
done
pg_ctl -D "$PGDATA" -m fast -w stop
unset PGPASSWORD POSTGRES_PASSWORD
exec "$@"
