#!/usr/bin/env bash
# Makes .venv with everything pinned in constraints.txt, or does nothing where that is done.
# torch comes first and mmcv's operators are compiled against it, which takes minutes once; pip keeps the result. Where there is a GPU
# and nvcc they are built for CUDA too; RETORT_CUDA=0 leaves that out.
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

has_gpu() { [ -e /dev/nvidia0 ] || nvidia-smi -L >/dev/null 2>&1; }
find_nvcc() { # the nvcc that CUDA_HOME, the PATH or the usual folders have, the newest of the latter
  local candidate
  for candidate in "${CUDA_HOME:+$CUDA_HOME/bin/nvcc}" "$(command -v nvcc || true)" /usr/local/cuda/bin/nvcc \
    $(ls -d /usr/local/cuda-*/bin/nvcc 2>/dev/null | sort -rV); do
    [ -n "$candidate" ] && [ -x "$candidate" ] && { echo "$candidate"; return; }
  done
}
operators=cpu nvcc=
if [ "${RETORT_CUDA:-1}" != 0 ] && has_gpu; then
  nvcc=$(find_nvcc || true)
  if [ -n "$nvcc" ]; then operators=cuda; fi
fi
release() { "$nvcc" --version 2>/dev/null | sed -n 's/.*release \([0-9.]*\).*/\1/p'; }
gpu_needs="trials on a GPU need mmcv's CUDA operators, which the CUDA toolkit's nvcc compiles: install the toolkit in the version of \
torch.version.cuda, set CUDA_HOME to it, and run make setup again"

stamp=.venv/.complete
wanted="$(cat pyproject.toml constraints.txt bootstrap.sh | sha256sum | cut -d' ' -f1) $operators${nvcc:+ $nvcc $(release)}"
[ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ] && exit 0

compiler=${CXX:-g++}
command -v "$compiler" >/dev/null 2>&1 || fail "a C++ compiler is needed to build mmcv's operators; '$compiler' is not here. Install gcc and g++ (Debian: apt install build-essential)"
"$found" -c 'import os, sysconfig, sys; sys.exit(not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")))' ||
  fail "the headers of $found are needed to build mmcv's operators (Debian: apt install python3-dev)"
"$found" -c 'import venv, ensurepip' 2>/dev/null || fail "$found lacks the venv module (Debian: apt install python3-venv)"

log=$(mktemp) scratch=$(mktemp -d)
trap 'rm -rf "$log" "$scratch"' EXIT
quietly() { # quietly WHAT COMMAND...: runs the command, tells the time every half minute, shows its output if it fails
  local what=$1 started=$SECONDS told=0
  shift
  say "$what"
  "$@" >"$log" 2>&1 &
  local job=$!
  while kill -0 $job 2>/dev/null; do
    sleep 0.2
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
headers_compiled() { # headers_compiled FILE: torch's headers once for all of mmcv's sources, which take the compiler most of their time
  echo '#include <torch/types.h>' >"$1"
  .venv/bin/python - "$1" <<'PYTHON'
import os, subprocess, sys
from torch.utils.cpp_extension import include_paths
from setuptools._distutils.ccompiler import new_compiler
from setuptools._distutils.sysconfig import customize_compiler, get_python_inc
compiler = new_compiler()
customize_compiler(compiler)  # as mmcv's set-up is given it: what is compiled with other flags is not taken
folders = [f"-I{folder}" for folder in [*include_paths(), get_python_inc()]]
flags = [*compiler.compiler_so[1:], *folders, "-std=c++17", "-x", "c++-header"]
sys.exit(subprocess.run([os.environ.get("CXX", "c++"), *flags, sys.argv[1], "-o", f"{sys.argv[1]}.gch"]).returncode)
PYTHON
}

quietly "build tools" "${pip[@]}" pip setuptools wheel ninja psutil
quietly "torch" "${pip[@]}" torch
if [ $operators = cuda ]; then
  cuda=$(.venv/bin/python -c 'import torch; print(torch.version.cuda or "")')
  if [ -z "$cuda" ] || [ "$(release | cut -d. -f1)" != "${cuda%%.*}" ]; then
    say "torch here is of CUDA ${cuda:-none} and $nvcc of $(release)"
    operators=cpu
  fi
fi
built=$(.venv/bin/python -c 'from mmcv.ops import get_compiling_cuda_version as v; print("cpu" if v() == "not available" else "cuda")' 2>/dev/null || true)
if [ "$built" = cuda ]; then operators=cuda; fi # they have those of the CPU too
if [ "$built" != $operators ]; then
  export MMCV_WITH_OPS=1 MAX_JOBS=${MAX_JOBS:-$(env -u OMP_NUM_THREADS nproc)}
  again=()
  if [ -n "$built" ]; then again=(--force-reinstall --no-deps); fi
  if [ $operators = cuda ]; then
    # A wheel that pip kept from a build without CUDA looks the same: it is neither taken nor left behind.
    what="mmcv (compiles its C++ and CUDA operators: half an hour on 4 cores)"
    FORCE_CUDA=1 CUDA_HOME=$(dirname "$(dirname "$nvcc")") quietly "$what" \
      "${pip[@]}" --no-build-isolation --no-cache-dir --no-binary onedl-mmcv "${again[@]}" "$(pinned onedl-mmcv)"
  else
    # Python's own flags, but for debug information, which takes the compiler half of its time.
    flags="${CFLAGS:-$(.venv/bin/python -c 'import sysconfig; print(sysconfig.get_config_var("CFLAGS"))')} -g0"
    if [ -z "$(.venv/bin/python -m pip cache list --format=abspath onedl_mmcv 2>/dev/null)" ]; then
      CFLAGS=$flags quietly "torch's headers, once for all of mmcv's sources" headers_compiled "$scratch/torch.hpp"
      flags+=" -include $scratch/torch.hpp"
    fi
    CFLAGS=$flags quietly "mmcv (compiles its C++ operators: 6 minutes of one core's time, seconds where pip has it cached)" \
      "${pip[@]}" --no-build-isolation "${again[@]}" "$(pinned onedl-mmcv)"
  fi
fi
quietly "everything else" "${pip[@]}" --no-build-isolation -e '.[all,test]'
.venv/bin/python -m pip check >"$log" || { cat "$log" >&2; fail "the installed versions do not agree (above)"; }
echo "$wanted" >"$stamp"
if [ $operators = cpu ] && [ "${RETORT_CUDA:-1}" != 0 ] && has_gpu; then say "$gpu_needs (trials on the CPU go on without)"; fi
say "done in $((SECONDS / 60)) min $((SECONDS % 60)) s"
