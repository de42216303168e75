#!/usr/bin/env bash
# Tries the containers from nothing: builds, starts, submits a study from this machine, kills each container in turn, compares the tables,
# removes everything. `docker/try.sh --help`. Needs .venv (make setup) for the `retort` command.
set -euo pipefail
cd "$(dirname "$0")/.."
fail() { echo "try: $*" >&2; exit 1; }
[ -x .venv/bin/python ] || fail "there is no .venv; run make setup first"
docker info >/dev/null 2>&1 || fail "Docker does not answer; is its daemon up, and may you use it?"
PYTHONPATH=$PWD exec .venv/bin/python -m benchmarks.containers "$@"
