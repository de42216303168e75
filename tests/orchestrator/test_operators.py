"""Whether this machine's operators are for its GPU: told from the file that mmcv has, without importing it."""

import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator import operators


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An embedded stack on a machine with a GPU; the folder is where its mmcv lies."""
    folder = tmp_path / "pretended_mmcv"
    folder.mkdir()
    (folder / "__init__.py").write_text("raise ImportError('it is not to be imported')")
    (tmp_path / "nvidia0").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("RETORT_STACK", "a stack")
    monkeypatch.setattr(operators, "GPU", tmp_path / "nvidia0")
    found = operators.built_for_cuda.__wrapped__
    monkeypatch.setattr(operators, "built_for_cuda", lambda: found("pretended_mmcv"))
    return folder


@pytest.mark.parametrize(("needs", "missing"), [(b"libtorch.so\0libc10.so\0", True), (b"libtorch.so\0libc10_cuda.so\0", False)])
def test_what_the_operators_were_linked_with_decides(machine: Path, needs: bytes, missing: bool) -> None:
    (machine / "_ext.cpython-311-x86_64-linux-gnu.so").write_bytes(b"\x7fELF" + needs)
    told = operators.missing_operators()
    assert (told is not None) == missing
    if told:
        assert told.startswith("trials on a GPU need mmcv's CUDA operators, and this installation has them for the CPU alone: install")


def test_where_it_cannot_be_told_nothing_is(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert operators.missing_operators() is None  # a service without mmcv, as in a cluster
    (machine / "_ext.so").write_bytes(b"\x7fELF")
    assert operators.missing_operators()
    monkeypatch.setattr(operators, "GPU", machine / "no-such-device")
    assert operators.missing_operators() is None  # whose study waits for a node that has one
    monkeypatch.setattr(operators, "GPU", machine)
    monkeypatch.delenv("RETORT_STACK")
    assert operators.missing_operators() is None  # its nodes are other machines


def test_the_operators_of_this_installation_are_told_as_mmcv_tells_them() -> None:
    ask = "from mmcv.ops import get_compiling_cuda_version as version; print(version() != 'not available')"
    told = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True).stdout.splitlines()[-1]
    assert str(operators.built_for_cuda()) == told
