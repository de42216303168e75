"""A trial that moves from node to node: each has a folder of its own, and nothing but the store between them."""

import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orchestrator.storage import working
from orchestrator.storage.cache import Cache
from orchestrator.storage.files import StoredFiles, beside
from orchestrator.storage.storage import Storage, StorageError
from orchestrator.storage.working import Working
from studies.trial import CHECKPOINT_NOW, TrialFailure

KEY = "abc123"


class Died(BaseException):
    """The node is gone in the middle of it."""


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(working, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(working, "OUTPUT_SECONDS", 0.0)


class Machine:
    """A node with a disk of its own."""

    def __init__(self, url: str, disk: Path) -> None:
        self.cache = Cache(Storage(url), disk / "objects")
        self.folder = disk / "trials" / KEY
        self.folder.mkdir(parents=True)

    def working(self, fence: int) -> Working:
        return Working(self.cache, self.folder, fence, patience=0.0)

    def write(self, name: str, content: str) -> None:
        """As training does: beside it, then in its place."""
        beside = self.folder / f".{name}-{os.getpid()}"
        beside.write_text(content)
        beside.replace(self.folder / name)


@pytest.fixture
def nodes(url: str, tmp_path: Path) -> tuple[Machine, Machine]:
    return Machine(url, tmp_path / "a"), Machine(url, tmp_path / "b")


def sees(there: Callable[[], bool]) -> None:
    """Waits until it is so."""
    for _ in range(2000):
        if there():
            return
        threading.Event().wait(0.01)
    pytest.fail("it never came to be")


def dies_after(machine: Machine, fence: int, epoch: int) -> None:
    """Trains to the end of an epoch, which is stored, writes some more, and is gone without a word."""

    def life(gone: pytest.MonkeyPatch) -> None:
        working_there = machine.working(fence)
        with working_there.kept():
            machine.write("best.pth", f"best of {epoch}")
            machine.write("last.pt", f"state of {epoch}")
            sees(lambda: StoredFiles(machine.cache).read(KEY, "last.pt", 0, 100) == f"state of {epoch}".encode())
            gone.setattr(working_there, "_send", lambda: None)
            machine.write("last.pt", "of the epoch that nobody saw")
            raise Died

    with pytest.MonkeyPatch.context() as gone, pytest.raises(Died):
        life(gone)


def test_another_node_goes_on_from_what_the_one_that_died_had_stored(nodes: tuple[Machine, Machine]) -> None:
    first, second = nodes
    dies_after(first, fence=1, epoch=3)
    with second.working(fence=2).kept():
        assert (second.folder / "last.pt").read_text() == "state of 3"
        assert (second.folder / "best.pth").read_text() == "best of 3"
        second.write("model.pth", "weights")
    manifest = second.cache.storage.manifest(f"trials/{KEY}")
    assert manifest
    assert manifest.finished
    assert set(manifest.files) == {"last.pt", "best.pth", "model.pth"}
    assert manifest.files["model.pth"].key == f"objects/{manifest.files['model.pth'].sha256}"


def test_the_same_node_goes_on_from_what_it_had_not_sent_yet(nodes: tuple[Machine, Machine]) -> None:
    first, _ = nodes
    dies_after(first, fence=1, epoch=3)
    with first.working(fence=2).kept():
        assert (first.folder / "last.pt").read_text() == "of the epoch that nobody saw"


def test_a_node_that_comes_back_takes_over_what_another_did_meanwhile(nodes: tuple[Machine, Machine]) -> None:
    first, second = nodes
    dies_after(first, fence=1, epoch=3)
    dies_after(second, fence=2, epoch=4)
    first.write("strange", "left over")
    os.link(first.folder / "strange", first.folder / ".last.pt-stored-0a1b2c3d-17")
    with first.working(fence=3).kept():
        assert (first.folder / "last.pt").read_text() == "state of 4"
        assert {path.name for path in first.folder.iterdir()} == {"last.pt", "best.pth", "lease"}


def test_a_process_whose_lease_is_over_is_refused_at_its_start_and_at_its_end(nodes: tuple[Machine, Machine]) -> None:
    first, second = nodes

    def overtaken() -> None:
        with first.working(fence=1).kept():
            first.write("model.pth", "late")
            with second.working(fence=2).kept():
                second.write("model.pth", "weights")

    with pytest.raises(TrialFailure, match=r"infra: the lease 1 of trials/abc123 is over, another has written since \(lease 2\)"):
        overtaken()
    with pytest.raises(TrialFailure, match=r"infra: the lease 1 is over, another has trained since \(lease 2\)"):
        overtaken()
    files = StoredFiles(second.cache)
    path = files.local(f"{KEY}/model.pth")
    assert path
    assert path.read_text() == "weights"


def test_results_are_found_by_all_and_leave_the_nodes_folder(nodes: tuple[Machine, Machine]) -> None:
    first, second = nodes
    with first.working(fence=1).kept():
        first.write("last.pt", "state")
        first.write("model.pth", "weights")
        first.write("error_curves.json", "{}")
        (first.folder / "output.log").write_text("epoch 1\nepoch 2\n")
    assert {path.name for path in first.folder.iterdir()} <= {"lock", "fence"}
    files = StoredFiles(second.cache)
    reference = f"{KEY}/model.pth"
    assert files.present([reference, f"{KEY}/nothing", "unknown/model.pth"]) == {reference}
    curves = files.local(beside(reference, "error_curves.json"))
    assert curves
    assert (curves.name, curves.read_text()) == ("error_curves.json", "{}")
    assert (files.size(KEY, "output.log"), files.read(KEY, "output.log", 8, 100)) == (16, b"epoch 2\n")
    assert files.local("unknown/model.pth") is None
    assert files.read("unknown", "output.log", 0, 100) == b""


def test_results_of_many_trials_are_looked_up_together(url: str, tmp_path: Path) -> None:
    cache = Cache(Storage(url), tmp_path / "objects")
    for number in range(StoredFiles.FEW + 1):
        folder = tmp_path / "trials" / f"t{number}"
        folder.mkdir(parents=True)
        with Working(cache, folder, 1, patience=0.0).kept():
            (folder / "model.pth").write_text(str(number))
    references = {f"t{number}/model.pth" for number in range(StoredFiles.FEW + 4)}
    assert StoredFiles(cache).present(references) == {f"t{number}/model.pth" for number in range(StoredFiles.FEW + 1)}


def test_a_trial_that_failed_has_no_results_but_its_output_can_be_read(nodes: tuple[Machine, Machine]) -> None:
    first, second = nodes

    def fails() -> None:
        with first.working(fence=1).kept():
            first.write("model.pth", "half")
            (first.folder / "output.log").write_text("loss is nan\n")
            raise TrialFailure("nan", "the loss became nan")

    with pytest.raises(TrialFailure, match="nan"):
        fails()
    files = StoredFiles(second.cache)
    assert files.present([f"{KEY}/model.pth"]) == set()
    assert files.read(KEY, "output.log", 0, 100) == b"loss is nan\n"


def test_what_a_trial_printed_is_read_also_where_it_was_trained_again_since(nodes: tuple[Machine, Machine]) -> None:
    first, second = nodes
    files = StoredFiles(second.cache)
    for fence, node, printed in ((1, first, "once\n"), (2, second, "again\n")):  # its first end was never told
        with node.working(fence).kept():
            node.write("model.pth", "weights")
            (node.folder / "output.log").write_text(printed)
        assert files.read(KEY, "output.log", 0, 100) == printed.encode()


def test_what_somebody_asks_of_the_training_reaches_it_and_is_answered_when_its_checkpoint_is_stored(
    nodes: tuple[Machine, Machine],
) -> None:
    first, second = nodes
    files = StoredFiles(second.cache)
    (first.folder / "process.json").write_text(json.dumps({"pid": 17}))
    with first.working(fence=1).kept():
        assert json.loads(files.note(KEY, "process.json")) == {"pid": 17}
        files.leave_note(KEY, CHECKPOINT_NOW)
        sees((first.folder / CHECKPOINT_NOW).exists)
        assert files.has_note(KEY, CHECKPOINT_NOW)
        first.write("last.pt", "asked for")
        (first.folder / CHECKPOINT_NOW).unlink()
        sees(lambda: not files.has_note(KEY, CHECKPOINT_NOW))
        path = files.local(f"{KEY}/last.pt")
        assert path
        assert path.read_text() == "asked for"


def test_a_question_to_an_earlier_process_is_forgotten(nodes: tuple[Machine, Machine]) -> None:
    first, second = nodes
    StoredFiles(second.cache).leave_note(KEY, CHECKPOINT_NOW)
    with first.working(fence=1).kept():
        assert not StoredFiles(second.cache).has_note(KEY, CHECKPOINT_NOW)


def test_a_store_that_is_away_at_the_end_costs_the_trial_its_node_and_not_its_results(
    nodes: tuple[Machine, Machine], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _ = nodes

    def away(*_: object) -> None:
        raise StorageError("the store is away")

    def trains() -> None:
        with first.working(fence=1).kept():
            first.write("model.pth", "weights")
            monkeypatch.setattr(first.cache.storage, "publish", away)

    with pytest.raises(TrialFailure, match="infra: the store is away"):
        trains()
    assert (first.folder / "model.pth").read_text() == "weights"


def test_a_store_that_is_away_for_a_moment_costs_nothing(nodes: tuple[Machine, Machine], monkeypatch: pytest.MonkeyPatch) -> None:
    first, _ = nodes
    storage, asked = first.cache.storage, 0
    publish = storage.publish

    def away_once(*arguments: Any) -> None:
        nonlocal asked
        asked += 1
        if asked == 1:
            raise StorageError("the store is away")
        publish(*arguments)

    with Working(first.cache, first.folder, 1, patience=10.0).kept():
        first.write("model.pth", "weights")
        monkeypatch.setattr(storage, "publish", away_once)
    assert asked == 2
    assert StoredFiles(first.cache).present([f"{KEY}/model.pth"]) == {f"{KEY}/model.pth"}


def test_files_that_nobody_asked_for_leave_the_cache(nodes: tuple[Machine, Machine], tmp_path: Path) -> None:
    first, second = nodes
    with first.working(fence=1).kept():
        first.write("model.pth", "weights")
    path = StoredFiles(second.cache).local(f"{KEY}/model.pth")
    assert path
    second.cache.tidy()
    assert path.exists()
    os.utime(path.parent, (0, 0))
    second.cache.tidy()
    assert not path.parent.exists()
    assert StoredFiles(second.cache).local(f"{KEY}/model.pth") == path


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "a/b", ".."])
def test_a_name_that_leads_elsewhere_is_no_file_of_a_trial(name: str) -> None:
    with pytest.raises(ValueError, match="is no file of a trial"):
        beside(f"{KEY}/model.pth", name)
