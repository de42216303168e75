"""A training that is asked to make room writes its checkpoint, ends, and goes on later as if undisturbed."""

from pathlib import Path

import pytest
import torch

from studies.trial import LEAVE_NOW
from tests.workers.training.test_trial import SHORT, numbers, run, trial
from workers.training.loop import Intervals
from workers.training.progress import EpochReport, Left, StepReport
from workers.training.trial import run_trial


@pytest.mark.parametrize("asked", [(1, 1), (2, 2)])
def test_a_training_that_makes_room_goes_on_later_with_the_same_numbers(tmp_path: Path, data: Path, asked: tuple[int, int]) -> None:
    spec = trial(schedule=SHORT | {"epochs": 2})
    undisturbed: list[EpochReport] = []
    expected = run(spec, tmp_path / "undisturbed", data, undisturbed.append)
    folder = tmp_path / "asked"

    def ask(done: StepReport) -> None:
        if (done.epoch, done.step) == asked:
            (folder / LEAVE_NOW).touch()

    with pytest.raises(Left):
        run_trial(spec, folder, data, lambda done: None, ask, Intervals(look_steps=1))
    assert not (folder / LEAVE_NOW).exists()
    assert torch.load(folder / "last.pt", weights_only=True)["epoch"] == asked[0] - 1
    resumed: list[EpochReport] = []
    assert run(spec, folder, data, resumed.append).checkpoint_sha256 == expected.checkpoint_sha256
    assert numbers(resumed) == numbers(undisturbed)


def test_a_wish_to_an_earlier_process_is_no_wish_to_this_one(tmp_path: Path, data: Path) -> None:
    folder = tmp_path / "asked before"
    folder.mkdir()
    (folder / LEAVE_NOW).touch()
    assert run(trial(schedule=SHORT | {"epochs": 1}), folder, data).checkpoint.is_file()
