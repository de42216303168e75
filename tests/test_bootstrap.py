"""The set-up on machines with and without a GPU: what it has pip build, told by a python that only writes down what it is asked."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PYTHON = """#!/bin/bash
case "$*" in
  "-m venv .venv") mkdir -p .venv/bin; cp "$0" .venv/bin/python ;;
  *torch.version.cuda*) echo "$TORCH_CUDA" ;;
  *get_compiling_cuda_version*) cat operators 2>/dev/null ;;
  *"-m pip"*onedl-mmcv==*)
    echo "FORCE_CUDA=${FORCE_CUDA:-} CUDA_HOME=${CUDA_HOME:-} CFLAGS=${CFLAGS:-} $*" >>asked
    if [ -n "${FORCE_CUDA:-}" ]; then echo cuda; else echo cpu; fi >operators ;;
esac
"""
NVCC = "#!/bin/bash\necho 'Cuda compilation tools, release 12.8, V12.8.93'\n"


def program(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A machine with a GPU and the project on it."""
    for name in ("bootstrap.sh", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path / name)
    program(tmp_path / "bin" / "python3.11", PYTHON)
    program(tmp_path / "bin" / "nvidia-smi", "#!/bin/bash\necho 'GPU 0'\n")
    return tmp_path


def set_up(machine: Path, **variables: str) -> str:
    """Runs the set-up; gives what it said."""
    path = f"{machine / 'bin'}:/usr/bin:/bin"
    kept = {name: value for name, value in os.environ.items() if name not in {"CUDA_HOME", "RETORT_CUDA"}}
    environment = kept | {"PATH": path, "PYTHON": "python3.11", "TORCH_CUDA": "12.8"} | variables
    ran = subprocess.run(["bash", "bootstrap.sh"], cwd=machine, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def asked(machine: Path) -> list[str]:
    return (machine / "asked").read_text().splitlines() if (machine / "asked").exists() else []


def test_a_gpu_and_nvcc_give_cuda_operators_and_no_cached_wheel(machine: Path) -> None:
    toolkit = machine / "toolkit"
    program(toolkit / "bin" / "nvcc", NVCC)
    said = set_up(machine, CUDA_HOME=str(toolkit))
    (built,) = asked(machine)
    assert built.startswith(f"FORCE_CUDA=1 CUDA_HOME={toolkit} ")
    assert "--no-cache-dir --no-binary onedl-mmcv" in built
    assert "nvcc" not in said
    assert set_up(machine, CUDA_HOME=str(toolkit)) == ""  # nothing is left to do


def test_a_gpu_without_nvcc_goes_on_for_the_cpu_and_says_in_one_sentence_what_is_missing(machine: Path) -> None:
    said = set_up(machine, TORCH_CUDA="1.0")  # should this machine have an nvcc after all, it is of another version
    (built,) = asked(machine)
    assert built.startswith("FORCE_CUDA= ")
    assert "--no-cache-dir" not in built
    assert said.count("trials on a GPU need mmcv's CUDA operators, which the CUDA toolkit's nvcc compiles") == 1


def test_operators_of_the_cpu_are_replaced_once_nvcc_is_there(machine: Path) -> None:
    set_up(machine, RETORT_CUDA="0")
    toolkit = machine / "toolkit"
    program(toolkit / "bin" / "nvcc", NVCC)
    set_up(machine, CUDA_HOME=str(toolkit))
    first, second = asked(machine)
    assert first.startswith("FORCE_CUDA= ")
    assert "--force-reinstall --no-deps" not in first
    assert second.startswith("FORCE_CUDA=1 ")
    assert "--force-reinstall --no-deps" in second


@pytest.mark.parametrize("torch_cuda", ["13.0", ""])
def test_an_nvcc_that_is_not_of_torchs_cuda_builds_nothing_for_it(machine: Path, torch_cuda: str) -> None:
    toolkit = machine / "toolkit"
    program(toolkit / "bin" / "nvcc", NVCC)
    said = set_up(machine, CUDA_HOME=str(toolkit), TORCH_CUDA=torch_cuda)
    (built,) = asked(machine)
    assert built.startswith("FORCE_CUDA= ")
    assert f"torch here is of CUDA {torch_cuda or 'none'} and {toolkit}/bin/nvcc of 12.8" in said
    assert set_up(machine, CUDA_HOME=str(toolkit), TORCH_CUDA=torch_cuda) == ""


def test_a_machine_that_wants_no_cuda_hears_nothing_of_it(machine: Path) -> None:
    said = set_up(machine, RETORT_CUDA="0")
    assert "GPU" not in said
    assert asked(machine)[0].startswith("FORCE_CUDA= ")


def test_mmcvs_sources_share_torchs_headers_and_write_no_debug_information(machine: Path) -> None:
    set_up(machine, RETORT_CUDA="0", CFLAGS="-O3")
    (built,) = asked(machine)
    flags = built.partition("CFLAGS=")[2].split(" -m pip")[0].split()
    assert flags[:3] == ["-O3", "-g0", "-include"]
    assert flags[3].endswith("torch.hpp")
    assert not Path(flags[3]).exists()  # half a gigabyte, of no use afterwards
