"""A server on loopback that speaks S3, one for all tests."""

from collections.abc import Iterator

import pytest

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
