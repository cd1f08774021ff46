#!/bin/bash
# What our compose file needs of the official entry point, written by us: the data folder is made once, as user 999, with
# MYSQL_ROOT_PASSWORD, MYSQL_DATABASE, MYSQL_USER and MYSQL_PASSWORD, while nobody can connect.
set -Eeo pipefail

if [ "$1" != mysqld ]; then exec "$@"; fi
if [ "$(id -u)" = 0 ]; then
  find /var/lib/mysql \! -user mysql -exec chown mysql '{}' +
  exec setpriv --reuid mysql --regid mysql --init-groups "$0" "$@"
fi
if [ ! -d /var/lib/mysql/mysql ]; then
  : "${MYSQL_ROOT_PASSWORD:?Database is uninitialized and password option is not specified}"
  sql=$(</usr/lib/mariadb/make.sql)
  sql=${sql//\{root\}/"'$MYSQL_ROOT_PASSWORD'"}
  sql=${sql//\{password\}/"'$MYSQL_PASSWORD'"}
  sql=${sql//\{user\}/"'$MYSQL_USER'"}
  sql=${sql//\{database\}/"$MYSQL_DATABASE"}
  mysqld --bootstrap --skip-log-bin <<<"$sql"
fi
exec "$@"
