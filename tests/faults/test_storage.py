"""A cluster whose nodes share no folder: two raylets of one machine, each with a disk of its own, and S3 on loopback between them."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.outputs import TRIAL_OUTPUT
from orchestrator.storage.cache import Cache
from orchestrator.storage.files import StoredFiles
from orchestrator.storage.storage import Storage
from tests.faults.conftest import Bench, first_epoch, running
from tests.faults.test_nodes import end_at_once, node

STORE = "s3://retort/cluster"


@pytest.fixture(scope="module")
def cluster(data: Path, s3: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """A stack with a store, whose one node has one CPU and trains nothing that takes two."""
    with running(tmp_path_factory.mktemp("storage") / "home", data, 1, {"RETORT_STORE": STORE}) as bench:
        yield bench


def test_a_study_outlives_the_node_it_trains_on_where_nodes_share_a_store_alone(cluster: Bench, tmp_path: Path) -> None:
    wide = {"resources": {"cpus": 2}, "arms": [{"id": "fitnet", "distiller": "fitnet"}]}  # a teacher and its student
    files = StoredFiles(Cache(Storage(STORE), tmp_path / "here"))
    study = cluster.submit("nodes of their own", **wide)
    with node(cluster, RETORT_CACHE=str(tmp_path / "first")) as first:
        epoch = cluster.await_event(study, first_epoch)
        broken_off = next(trial for trial in cluster.store.trials(study) if trial.name == epoch.data["trial"])
        assert broken_off.folder
        cluster.await_that(study, lambda: files.size(str(broken_off.folder), "last.pt") > 0)
        end_at_once(first)
        cluster.await_event(study, lambda event: event.kind == "trial" and event.data["losses"] == 1)
    with node(cluster, RETORT_CACHE=str(tmp_path / "second")):
        assert cluster.await_end(study).state.value == "finished"
        undisturbed = cluster.submit("on one node", force=True, **wide)
        assert cluster.await_end(undisturbed).state.value == "finished"
    cluster.hold_against(study, undisturbed, trials=2)
    home = Path(cluster.stack.home)
    assert not (home / "trials").exists()
    assert not list((home / "cache").glob("trials/*"))
    trials = cluster.store.trials(study)
    assert {trial.checkpoint for trial in trials} == {f"{trial.folder}/model.pth" for trial in trials}
    assert files.present(str(trial.checkpoint) for trial in trials) == {trial.checkpoint for trial in trials}
    assert [json.loads(path.read_text())["dataset"] for path in tmp_path.glob("*/data/*/digits/manifest.json")] == ["digits"] * 2
    assert b"epoch 3/3" in files.read(str(broken_off.folder), TRIAL_OUTPUT, 0, 10**6)
