#!/usr/bin/env bash
# One daemon of HDFS in a container: the volume is given to the image's user, a new NameNode is formatted, and the daemon
# runs as that user.
set -euo pipefail

chown hadoop /data
as_hadoop=(setpriv --reuid hadoop --regid "$(id -g hadoop)" --init-groups)
# Formatted once; with a fixed name of the cluster, DataNodes that were there before join again after a reset.
if [ "$1" = namenode ] && [ ! -d /data/name/current ]; then
  "${as_hadoop[@]}" hdfs namenode -format -nonInteractive -clusterid flow360
fi
exec "${as_hadoop[@]}" hdfs "$@"
