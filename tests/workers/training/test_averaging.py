"""The moving average of weights is the one that is written down, and is what a trial evaluates and exports."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from studies.recipes import RECIPES
from studies.trial import TrialSpec
from workers.training.averaging import WeightAverage
from workers.training.progress import EpochReport
from workers.training.trial import run_trial

SHORT = {
    "dataset": "digits",
    "scale": "smoke",
    "network": {"detector": "gfl", "backbone": "resnet18", "width": 8},
    "schedule": {"epochs": 2, "batch_size": 4, "max_iterations": 2},
    "seed": 0,
}


def test_it_keeps_its_share_of_itself_at_every_step() -> None:
    layer = nn.Linear(1, 1, bias=False)
    layer.weight.data.fill_(0)
    average = WeightAverage(layer, 0.25)
    for value in (1.0, 2.0):
        layer.weight.data.fill_(value)
        average.update()
    # the first step keeps 2 / 11 of nothing, the second the stated quarter at most, here 3 / 12
    assert average.averages[0].item() == pytest.approx(0.25 * (9 / 11) + 0.75 * 2)


def test_it_may_come_to_its_share_as_pdf_distils_released_code_does() -> None:
    layer = nn.Linear(1, 1, bias=False)
    layer.weight.data.fill_(1)
    average = WeightAverage(layer, 0.9998, ramp=2000)
    layer.weight.data.fill_(0)
    average.update()
    average.update()
    expected = 0.9998**2 * (1 - math.exp(-1 / 2000)) * (1 - math.exp(-2 / 2000))
    assert average.averages[0].item() == pytest.approx(expected, rel=1e-4)


def test_swapping_twice_changes_nothing_and_statistics_are_averaged_too() -> None:
    norm = nn.BatchNorm1d(2)
    average = WeightAverage(norm, 0.5)
    norm(torch.randn(8, 2) + 5)
    before = {name: tensor.clone() for name, tensor in norm.state_dict().items()}
    average.swap()
    assert norm.running_mean is not None
    assert norm.running_mean.abs().max() == 0
    average.swap()
    assert all(torch.equal(tensor, before[name]) for name, tensor in norm.state_dict().items())


def test_it_goes_on_from_its_state() -> None:
    layer = nn.Linear(2, 2)
    first, second = WeightAverage(layer, 0.9), WeightAverage(layer, 0.9)
    for _ in range(3):
        layer.weight.data.add_(1)
        first.update()
    second.load_state_dict(first.state_dict())
    layer.weight.data.add_(1)
    first.update()
    second.update()
    assert all(torch.equal(a, b) for a, b in zip(first.averages, second.averages, strict=True))


def test_a_trial_exports_the_average_that_it_evaluated(tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = TrialSpec.model_validate(SHORT)
    states = {}
    for keep in (None, 0.5):
        monkeypatch.setitem(RECIPES, "smoke", replace(RECIPES["smoke"], average=keep))
        result = run_trial(spec, tmp_path / str(keep), data, lambda epoch: None)
        states[keep] = torch.load(result.checkpoint, weights_only=True)["state_dict"]
        trained = torch.load(tmp_path / str(keep) / "last.pt", weights_only=True)
        assert (trained["average"] is None) == (keep is None)
        states["trained", keep] = trained["model"]
    plain = states[None]
    assert all(torch.equal(plain[name], states["trained", 0.5][name]) for name in plain)  # averaging changes nothing of the training
    weight = "bbox_head.gfl_cls.weight"
    assert not torch.equal(plain[weight], states[0.5][weight])
    best = torch.load(result.best_checkpoint, weights_only=True)["state_dict"]
    assert best.keys() == states[0.5].keys()


class Killed(BaseException):
    """Stands for SIGKILL: no handler of the trial may catch it."""


@pytest.mark.parametrize("epoch", [1, 2])
def test_a_killed_trial_goes_on_with_its_average(tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch, epoch: int) -> None:
    monkeypatch.setitem(RECIPES, "smoke", replace(RECIPES["smoke"], average=0.5))
    spec = TrialSpec.model_validate(SHORT)
    expected = run_trial(spec, tmp_path / "undisturbed", data, lambda done: None)

    def killed_after(done: EpochReport) -> None:
        if done.epoch == epoch:
            raise Killed

    with pytest.raises(Killed):
        run_trial(spec, tmp_path / "killed", data, killed_after)
    result = run_trial(spec, tmp_path / "killed", data, lambda done: None)
    assert result.checkpoint_sha256 == expected.checkpoint_sha256
    assert result.metrics["AP"] == expected.metrics["AP"]
