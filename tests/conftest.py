"""Shared by all tests: single-threaded torch, and what is made once per run: the embedded dataset, a database without a row."""

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


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SQLite file as the migrations leave it, to be copied: they take as long as many a test."""
    from orchestrator.records.store import Store

    file = tmp_path_factory.mktemp("migrated") / "retort.db"
    Store(f"sqlite:///{file}").close()
    return file
