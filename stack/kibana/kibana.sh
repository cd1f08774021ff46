#!/bin/bash
# Kibana, and once it answers, the data view, the saved search and the dashboards of primeur.ndjson (as Kibana itself exports
# them). Each start puts them as the file has them.
set -eu
status() { curl -fsS http://127.0.0.1:5601/api/status 2>/dev/null | grep -q '"level":"available"'; }
import() {
  for _ in $(seq 150); do
    if status; then
      # Through a pipe: what stands in a command line, every user of the machine can read.
      echo "user = elastic:$ELASTIC_PASSWORD" |
        curl -fsS -K - -o /dev/null -H 'kbn-xsrf: true' -F file=@/etc/flow360/primeur.ndjson \
          'http://127.0.0.1:5601/api/saved_objects/_import?overwrite=true' && echo "saved objects: imported" && return
    fi
    sleep 2
  done
  echo "ERROR the saved objects could not be imported" >&2
}
import &
exec /usr/local/bin/kibana-docker
