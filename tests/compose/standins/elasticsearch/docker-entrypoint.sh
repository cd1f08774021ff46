#!/bin/bash
# OpenSearch with Elasticsearch's variables that our compose file sets: ELASTIC_PASSWORD, ES_JAVA_OPTS. The shipper's user is
# made by Elasticsearch's own API, which is not here: it gets a password that nobody knows.
set -eu
: "${ELASTIC_PASSWORD:?}"
SHIPPER_PASSWORD=$(openssl rand -hex 16)
export SHIPPER_PASSWORD
cd config
[ -e node.pem ] || openssl req -x509 -newkey rsa:2048 -nodes -days 3650 -subj /CN=elasticsearch -keyout node.key -out node.pem 2>/dev/null
cd ..
read -ra plugins <arguments
# shellcheck disable=SC2086
exec java ${ES_JAVA_OPTS:-} -Dlog4j2.configurationFile=log4j2.properties -Dsecurity.default_init.dir=security \
  -cp "$(printf '%s:' lib/*.jar)" flow360.Search "$PWD/config" "${plugins[@]}"
