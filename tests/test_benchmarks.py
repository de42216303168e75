"""Every benchmark runs, in small: it is not to be broken on the day somebody wants its figures."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
SMALL = {
    "annotations": "--images 300 --boxes 2000 --loaders 1",
    "broker": "",
    "catalogue_steps": "--only GFL",
    "count_costs": "--out /dev/null",
    "distill_step": "--rounds 1 --methods fitnet",
    "error_analysis": "--images 50",
    "export_families": "--epochs 1 --only gfl",
    "group": "--members 2 --steps 2 --rounds 1",
    "large_bodies": "",
    "launches": "--heads gfl --methods fitnet",
    "nano_noise": "--help",  # hours
    "orchestration": "--trials 2",
    "orchestration_size": "--trials 200 --whole 20 --queued 20",
    "pages": "--help",  # minutes
    "paper_recipes": "",
    "startup": "--studies 1 --trials 2",
    "table": "--rows 30",
}
WITH_MORE = {
    "containers": "needs Docker: `make containers`",
    "older": "needs an older checkout",
    "peers": "fetches MMRazor",
    "search": "needs a stack that is up, and an hour",
}


def test_every_benchmark_is_known_here() -> None:
    assert {path.stem for path in BENCHMARKS.glob("*.py")} == SMALL.keys() | WITH_MORE.keys()


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", SMALL)
def test_it_runs(name: str) -> None:
    command = [sys.executable, str(BENCHMARKS / f"{name}.py"), *SMALL[name].split()]
    environment = {**os.environ, "PYTHONPATH": str(BENCHMARKS.parent)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout
