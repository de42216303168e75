"""Stores of each kind: a folder, fsspec's memory, and a server on loopback that speaks S3."""

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.storage.storage import Storage

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}


@pytest.fixture(scope="session")
def s3() -> Iterator[str]:
    """Address of a server that speaks S3, with a bucket `retort`; this process and its children find it by their environment."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        for name, value in CREDENTIALS.items():
            environment.setenv(name, value)
        import s3fs

        s3fs.S3FileSystem().mkdir("retort")
        yield f"http://{host}:{port}"
    server.stop()


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
