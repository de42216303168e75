#!/usr/bin/env bash
# Makes .venv with everything pinned in constraints.txt, or does nothing where that is done.
# torch comes first and mmcv's C++ operators are compiled against it, which takes minutes once; pip keeps the result.
set -euo pipefail
cd "$(dirname "$0")"

fail() { echo "set-up: $*" >&2; exit 1; }
say() { echo "set-up: $*"; }

python=${PYTHON:-}
for candidate in $python python3.12 python3.11 python3; do
  if command -v "$candidate" >/dev/null 2>&1 &&
    "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null; then
    found=$candidate
    break
  fi
done
[ -n "${found:-}" ] || fail "Python 3.11 or 3.12 is needed; found $(python3 --version 2>&1 || echo none). Install one, or name it: make PYTHON=/path/to/python3.11"

stamp=.venv/.complete
wanted=$(cat pyproject.toml constraints.txt bootstrap.sh | sha256sum | cut -d' ' -f1)
[ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ] && exit 0

compiler=${CXX:-g++}
command -v "$compiler" >/dev/null 2>&1 || fail "a C++ compiler is needed to build mmcv's operators; '$compiler' is not here. Install gcc and g++ (Debian: apt install build-essential)"
"$found" -c 'import os, sysconfig, sys; sys.exit(not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")))' ||
  fail "the headers of $found are needed to build mmcv's operators (Debian: apt install python3-dev)"
"$found" -c 'import venv, ensurepip' 2>/dev/null || fail "$found lacks the venv module (Debian: apt install python3-venv)"

log=$(mktemp)
trap 'rm -f "$log"' EXIT
quietly() { # quietly WHAT COMMAND...: runs the command, tells the time every half minute, shows its output if it fails
  local what=$1 started=$SECONDS told=0
  shift
  say "$what"
  "$@" >"$log" 2>&1 &
  local job=$!
  while kill -0 $job 2>/dev/null; do
    sleep 1
    if ((SECONDS - started - told >= 30)); then
      told=$((SECONDS - started))
      say "  ... $((told / 60)) min $((told % 60)) s"
    fi
  done
  if ! wait $job; then
    tail -n 40 "$log" >&2
    fail "$what: failed (the last lines are above)"
  fi
}

rm -f "$stamp"
[ -x .venv/bin/python ] || "$found" -m venv .venv
pip=(.venv/bin/python -m pip --disable-pip-version-check install --constraint constraints.txt)
pinned() { grep -iE "^$1==" constraints.txt; }

quietly "build tools" "${pip[@]}" pip setuptools wheel ninja psutil
quietly "torch" "${pip[@]}" torch
if ! .venv/bin/python -m pip show -q onedl-mmcv 2>/dev/null; then
  export MMCV_WITH_OPS=1 MAX_JOBS=${MAX_JOBS:-$(nproc)}
  quietly "mmcv (compiles its C++ operators: about 8 minutes on 2 cores, seconds where pip has it cached)" \
    "${pip[@]}" --no-build-isolation "$(pinned onedl-mmcv)"
fi
quietly "everything else" "${pip[@]}" --no-build-isolation -e '.[all,test]'
.venv/bin/python -m pip check >"$log" || { cat "$log" >&2; fail "the installed versions do not agree (above)"; }
echo "$wanted" >"$stamp"
say "done in $((SECONDS / 60)) min $((SECONDS % 60)) s"
