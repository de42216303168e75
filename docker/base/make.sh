#!/usr/bin/env bash
# Makes the base images that the files here name, where none can be pulled: from Debian's own packages, with the mirror that this
# machine's apt uses. Needs root, docker and debootstrap (apt install docker.io debootstrap). An image that is there already is left alone.
# What they are: Debian's Python 3.11 and Debian's PostgreSQL (15) under the tags of the official images, so enough to build, try and test.
set -euo pipefail
cd "$(dirname "$0")"

fail() { echo "base images: $*" >&2; exit 1; }
for needed in docker debootstrap; do
  command -v $needed >/dev/null || fail "$needed is not here (Debian: apt install docker.io debootstrap)"
done
[ "$(id -u)" = 0 ] || fail "debootstrap needs root"

suite=bookworm
python=$(sed -n 's/^ARG PYTHON=//p' ../service.Dockerfile)
postgres=$(sed -n 's/^ *image: \(postgres:.*\)/\1/p' ../../docker-compose.yml)
mirror=${MIRROR:-$(apt-get indextargets --format '$(REPO_URI) $(RELEASE)' 'Created-By: Packages' | awk -v suite=$suite '$2 == suite {print $1; exit}')}
[ -n "$mirror" ] || fail "apt here knows no mirror of $suite; name one: MIRROR=http://... $0"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
there() { docker image inspect "$1" >/dev/null 2>&1; }
inside() { chroot "$work/root" env DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 "$@"; }
fresh() { # a minimal Debian in $work/root, fetched once
  if [ ! -e "$work/minimal.tar" ]; then
    debootstrap --variant=minbase --include=ca-certificates,netbase $suite "$work/root" "$mirror" >"$work/log" 2>&1 || { tail -n 20 "$work/log" >&2; fail "debootstrap failed"; }
    tar -C "$work/root" -cf "$work/minimal.tar" .
  fi
  rm -rf "$work/root"
  mkdir "$work/root"
  tar -C "$work/root" -xf "$work/minimal.tar"
}
add() {
  inside apt-get install -y --no-install-recommends "$@" >"$work/log" 2>&1 || { tail -n 20 "$work/log" >&2; fail "apt-get install $* failed"; }
}
take_in() { # take_in TAG CHANGE...: the folder as an image
  local tag=$1 changes=()
  shift
  inside apt-get clean
  rm -rf "$work"/root/var/lib/apt/lists/* "$work"/root/usr/share/{doc,man,info}/* "$work"/root/usr/share/locale/*
  for change in "$@"; do changes+=(--change "$change"); done
  tar -C "$work/root" -c . | docker import "${changes[@]}" - "$tag" >/dev/null
  echo "base images: $tag ($(docker image inspect --format '{{.Size}}' "$tag" | numfmt --to=si)B)"
}

if ! there "$python"; then
  fresh
  add python3 python3-venv libpython3-dev
  rm -f "$work"/root/usr/lib/x86_64-linux-gnu/libpython3*.a "$work"/root/usr/lib/python3*/config-*/*.a
  ln -s /usr/bin/python3 "$work/root/usr/local/bin/python"
  take_in "$python" 'CMD ["python"]'
fi
if ! there "$postgres"; then
  fresh
  mkdir -p "$work/root/etc/postgresql-common"
  echo 'create_main_cluster = false' >"$work/root/etc/postgresql-common/createcluster.conf"
  add postgresql
  install -m 755 postgres-entry.sh "$work/root/usr/local/bin/docker-entrypoint.sh"
  mkdir -p "$work/root/docker-entrypoint-initdb.d" "$work/root/var/lib/postgresql/data"
  inside chown postgres:postgres /var/lib/postgresql/data
  bin=$(cd "$work/root" && echo usr/lib/postgresql/*/bin)
  take_in "$postgres" "ENV PATH=/$bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" 'ENV PGDATA=/var/lib/postgresql/data' \
    'VOLUME /var/lib/postgresql/data' 'ENTRYPOINT ["docker-entrypoint.sh"]' 'CMD ["postgres"]' 'EXPOSE 5432'
fi
