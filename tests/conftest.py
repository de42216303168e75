"""Shared by all tests: single-threaded torch, and the embedded dataset made once per run."""

import os
from pathlib import Path

import pytest

from tests.s3_server import s3

__all__ = ["s3"]  # a fixture
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with the digits dataset prepared."""
    from workers.datasets import prepare

    folder = tmp_path_factory.mktemp("data")
    prepare("digits", folder)
    return folder
