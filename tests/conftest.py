"""Shared by all tests: single-threaded torch, the embedded dataset, made once on this machine, and a database without a row."""

import fcntl
import hashlib
import os
import shutil
import tempfile
from pathlib import Path

import pytest

from tests.s3_server import s3

__all__ = ["s3"]  # a fixture
os.environ.setdefault("OMP_NUM_THREADS", "1")


ROOT = Path(__file__).parents[1]
MAKES_DIGITS = ("constraints.txt", "workers/datasets/__init__.py", "workers/datasets/digits.py")


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with the digits dataset prepared: a copy, as making it takes 20 seconds of every test process. Backbones that tests
    pretrain, minutes each, stay beside the original; their files are named by all that decides their content."""
    from workers.datasets import prepare

    made_by = hashlib.sha256(b"".join((ROOT / name).read_bytes() for name in MAKES_DIGITS)).hexdigest()[:12]
    kept = Path(tempfile.gettempdir()) / f"retort-tests-{os.getuid()}" / made_by
    (kept / "pretrained").mkdir(mode=0o700, parents=True, exist_ok=True)
    with (kept / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        prepare("digits", kept)
    folder = tmp_path_factory.mktemp("data")
    shutil.copytree(kept / "digits", folder / "digits")
    (folder / "pretrained").symlink_to(kept / "pretrained")
    return folder


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SQLite file as the migrations leave it, to be copied: they take as long as many a test."""
    from orchestrator.records.store import Store

    file = tmp_path_factory.mktemp("migrated") / "retort.db"
    Store(f"sqlite:///{file}").close()
    return file
