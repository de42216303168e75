"""MLflow's server in one process keeps the guards and the artifacts of `mlflow server`."""

from collections.abc import Iterator

import httpx
import psutil
import pytest

from tests.mlflow_server import serving


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(tmp_path_factory.mktemp("mlflow")) as address:
        yield address


def test_it_is_one_process(address: str) -> None:
    (server,) = (each for each in psutil.Process().children() if "orchestrator.mlflow_server" in each.cmdline())
    assert server.children() == []


def test_foreign_hosts_and_origins_are_refused(address: str) -> None:
    path = f"{address}/api/2.0/mlflow/experiments/create"
    assert httpx.post(path, json={"name": "x"}, headers={"Host": "evil.example"}).status_code == 403
    assert httpx.post(path, json={"name": "x"}, headers={"Origin": "http://evil.example"}).status_code == 403
    assert httpx.post(path, json={"name": "x"}).status_code == 200


def test_artifacts_go_through_it(address: str) -> None:
    url = f"{address}/api/2.0/mlflow-artifacts/artifacts/folder/file.txt"
    assert httpx.put(url, content=b"table").status_code == 200
    assert httpx.get(url).content == b"table"
