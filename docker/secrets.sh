#!/usr/bin/env bash
# Makes the secrets that docker-compose.yml asks for, each once, and the .env that tells where they are. Run it again at any time: what is
# there is kept. The folder is closed to others; the files in it are readable, because the containers' users read them.
set -euo pipefail
cd "$(dirname "$0")/.."
mkdir -p docker/secrets
chmod 700 docker/secrets
for name in postgres_password ray_token api_token; do
  file=docker/secrets/$name
  [ -s $file ] || { od -An -N32 -tx1 /dev/urandom | tr -d ' \n' >$file; echo "secrets: made $file"; }
  chmod 644 $file
done
touch .env
grep -q '^RETORT_SECRETS=' .env || { echo 'RETORT_SECRETS=./docker/secrets' >>.env; echo "secrets: .env says where they are"; }
