#!/bin/sh
# A Ray node until it is stopped or loses its head: `node head` (the cluster's address book; it drives studies and trains nothing) or
# `node worker` (joins RAY_HEAD, and trains on CPUS cores or, where that is unset, all, and on all GPUs it sees).
set -eu
[ -s "$RAY_AUTH_TOKEN_PATH" ] || { echo "node: the secret $RAY_AUTH_TOKEN_PATH is missing; make it with docker/secrets.sh" >&2; exit 1; }
options="--disable-usage-stats --log-color=false --object-store-memory=${OBJECT_STORE_BYTES:-536870912}"
case ${1:-} in
  head) exec python -P -m orchestrator.cluster.ray_head $options --port=6379 --num-cpus=0 --num-gpus=0 --include-dashboard=true --dashboard-host=0.0.0.0 --dashboard-port=8265 ;;
  worker) exec ray start --block $options --address="$RAY_HEAD" ${CPUS:+--num-cpus="$CPUS"} ;;
  *) echo "node: say head or worker" >&2; exit 2 ;;
esac
