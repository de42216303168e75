#!/usr/bin/env bash
# Optional: fills docker/wheels with every wheel that the images install, by this machine's pip with all its settings and its cache, so
# that no build asks an index (build.sh then says so by itself) and mmcv is not compiled again. Needs .venv (make setup) on Python 3.11,
# the images' version. Remove what is in docker/wheels to build from the index again.
set -euo pipefail
cd "$(dirname "$0")/.."
[ -x .venv/bin/python ] || { echo "wheels: there is no .venv; run make setup first" >&2; exit 1; }
.venv/bin/python -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || { echo "wheels: .venv is not of Python 3.11" >&2; exit 1; }
wanted=$(.venv/bin/python - <<'PYTHON'
import tomllib

project = tomllib.load(open("pyproject.toml", "rb"))["project"]
extras = project["optional-dependencies"]
names = [*project["dependencies"], *(name for extra in ("api", "workers", "orchestrator", "driver", "postgres", "s3") for name in extras[extra])]
print("\n".join(name for name in [*names, "mlflow", "setuptools", "wheel", "ninja"] if not name.startswith("retort")))
PYTHON
)
mapfile -t names <<<"$wanted"
.venv/bin/python -m pip wheel --no-build-isolation --constraint constraints.txt --wheel-dir docker/wheels "${names[@]}"
du -sh docker/wheels
