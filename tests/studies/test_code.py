"""The code version: what counts, what does not, and that it is found without loading torch."""

import subprocess
import sys
from pathlib import Path

import pytest

from studies import code
from studies.code import code_version


def test_a_method_that_is_not_used_does_not_count() -> None:
    plain, frs, both = code_version(), code_version(["frs"]), code_version(["frs", "fgd"])
    assert len({plain, frs, both}) == 3
    assert code_version(["fgd", "frs"]) == both
    assert code_version() == plain


def test_what_a_source_imports_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    files = {"workers.training.trial": "from workers import data", "workers.data": "x = 1", "workers.other": "y = 1"}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(code, "_source", lambda module: tmp_path / module if module in files else None)
    first = code_version()
    (tmp_path / "workers.other").write_text("y = 2")
    assert code_version() == first
    (tmp_path / "workers.data").write_text("x = 2")
    assert code_version() != first


def test_it_is_found_without_loading_torch() -> None:
    told = "import sys; from studies.code import code_version; code_version(['ld']); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", told], check=True)
