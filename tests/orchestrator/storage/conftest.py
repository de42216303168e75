"""Stores of each kind: a folder, fsspec's memory, and a server on loopback that speaks S3."""

import secrets
from pathlib import Path

import pytest

from orchestrator.storage.storage import Storage


@pytest.fixture(params=["folder", "memory", "s3"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty store of each kind."""
    if request.param == "folder":
        return str(tmp_path / "store")
    if request.param == "s3":
        request.getfixturevalue("s3")
        return f"s3://retort/{secrets.token_hex(4)}"
    return f"memory://{secrets.token_hex(4)}"


@pytest.fixture
def storage(url: str) -> Storage:
    return Storage(url)
