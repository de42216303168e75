#!/usr/bin/env bash
# Builds the images of docker-compose.yml: `docker/build.sh [cpu|cuda]` (of the nodes; default cpu). The same as `docker compose build`, and
# in addition: where docker/wheels holds wheels (docker/wheels.sh), nothing is asked of an index. DOCKER_BUILD_OPTIONS are handed on.
set -euo pipefail
cd "$(dirname "$0")/.."
variant=${1:-cpu}
version=${RETORT_VERSION:-$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)}
read -ra options <<<"${DOCKER_BUILD_OPTIONS:-}"
if compgen -G 'docker/wheels/*.whl' >/dev/null; then options+=(--build-arg PIP_NO_INDEX=1); fi
build() { # build NAME TAG OPTION...
  local name=$1 tag=$2 started=$SECONDS
  shift 2
  DOCKER_BUILDKIT=1 docker build --file "docker/$name.Dockerfile" --tag "$tag" "${options[@]}" "$@" .
  echo "build: $tag in $((SECONDS - started)) s, $(docker image inspect --format '{{.Size}}' "$tag" | numfmt --to=si)B"
}
build service "retort-service:$version"
build mlflow "retort-mlflow:$version"
build node "retort-node:$version-$variant" --build-arg "VARIANT=$variant"
