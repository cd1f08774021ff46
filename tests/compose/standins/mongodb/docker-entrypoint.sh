#!/bin/bash
# What our compose file needs of the official entry point, written by us: on an empty folder a server that only this container
# reaches, without logins, in which root and what /docker-entrypoint-initdb.d says are made by the shell; then the server.
set -Eeuo pipefail

if [ "$1" != mongod ]; then exec "$@"; fi
if [ "$(id -u)" = 0 ]; then
  find /data/configdb /data/db \! -user mongodb -exec chown mongodb '{}' +
  exec setpriv --reuid mongodb --regid mongodb --init-groups "$0" "$@"
fi
if [ ! -e /data/db/WiredTiger ]; then
  mongod &
  server=$!
  for _ in $(seq 60); do
    mongosh --quiet admin --eval 'quit(0)' >/dev/null 2>&1 && break
    sleep 1
  done
  mongosh --quiet admin --eval '
    db.createUser({user: process.env.MONGO_INITDB_ROOT_USERNAME, pwd: process.env.MONGO_INITDB_ROOT_PASSWORD,
                   roles: [{role: "root", db: "admin"}]})'
  for file in /docker-entrypoint-initdb.d/*.js; do
    mongosh --quiet test "$file"
  done
  kill "$server"
  wait "$server" || true
fi
for variable in "${!MONGO_INITDB_@}"; do unset "$variable"; done
# Root's name and password mean that logins are asked for.
exec "$@" --auth
