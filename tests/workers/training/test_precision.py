"""What a training computes in: 16 bits give the losses of 32, mmcv's kernels never see them, and scaled gradients make the same step."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
import torch

from studies.spec import Network
from studies.trial import TrialFailure
from tests.workers.synthetic import batch
from workers.detectors import build
from workers.training.precision import Precision

CPU = torch.device("cpu")
FAMILIES = ("gfl", "retinanet", "fcos", "atss", "faster_rcnn", "cascade_rcnn")


def losses(model: Any, precision: Any) -> dict[str, float]:
    torch.manual_seed(1)  # random samples
    with precision:
        found = model(**batch(), mode="loss")
    levels = {name: value if isinstance(value, (list, tuple)) else [value] for name, value in found.items() if "loss" in name}
    return {name: sum(each.item() for each in values) for name, values in levels.items()}


@pytest.mark.parametrize("detector", FAMILIES)
def test_bfloat16_gives_the_losses_of_32_bits_within_two_percent(detector: str) -> None:
    torch.manual_seed(0)
    model: Any = build(Network(detector=detector, backbone="resnet18", width=8), 10).train()
    exact = losses(model, nullcontext())
    rounded = losses(model, Precision("bf16", [model], CPU).autocast())
    assert sum(rounded.values()) == pytest.approx(sum(exact.values()), rel=0.02)


def test_without_autocast_the_losses_in_floats_are_the_heads_own() -> None:
    torch.manual_seed(0)
    model: Any = build(Network(detector="faster_rcnn", backbone="resnet18", width=8), 10).train()
    exact = losses(model, nullcontext())
    Precision("bf16", [model], CPU)
    assert losses(model, nullcontext()) == exact


@pytest.mark.parametrize("name", ["tf32", "fp16"])
def test_what_a_cpu_does_not_compute_is_refused(name: Any) -> None:
    with pytest.raises(TrialFailure, match=f"precision: {name} needs a GPU; on CPUs choose fp32 or bf16"):
        Precision(name, [], CPU)


def test_scaled_gradients_make_the_same_step_and_an_overflow_none() -> None:
    def stepped(scale: float | None, factor: float = 1.0) -> torch.Tensor:
        weight = torch.nn.Parameter(torch.tensor([3.0, 4.0]))
        optimizer, precision = torch.optim.SGD([weight], lr=0.5), Precision("fp32", [], CPU)
        if scale:
            precision.scaler = torch.amp.GradScaler("cpu", init_scale=scale)
        precision.backward(weight.square().sum() * factor)
        precision.unscaled(optimizer)
        torch.nn.utils.clip_grad_norm_([weight], 1.0)
        precision.step(optimizer)
        return weight.detach()

    assert torch.equal(stepped(None), stepped(1024.0))
    assert not torch.equal(stepped(None), torch.tensor([3.0, 4.0]))
    assert torch.equal(stepped(1024.0, factor=torch.inf), torch.tensor([3.0, 4.0]))
