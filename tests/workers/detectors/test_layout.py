"""Where a map's channels lie changes nothing that a network computes: every family's losses and gradients, and mmcv's own layers."""

from copy import deepcopy
from typing import Any

import pytest
import torch
from mmcv.ops import ModulatedDeformConv2dPack, RoIAlign
from torch import Tensor, nn

from studies.spec import Network
from tests.workers.detectors.test_detectors import NETWORKS, batch, made, title, values
from workers.detectors.layout import StridedPoints, channels_last


def first_convolution(model: Any) -> nn.Conv2d:
    return next(module for module in model.backbone.modules() if isinstance(module, nn.Conv2d))


def trained(model: Any) -> tuple[float, Tensor]:
    """The sum of a network's losses, and the gradient of its first convolution."""
    model.train()
    torch.manual_seed(1)  # random samples
    total = torch.stack([value.sum() for value in values(model.loss(*batch()))]).sum()
    total.backward()
    gradient = first_convolution(model).weight.grad
    assert gradient is not None
    return float(total.detach()), gradient


@pytest.mark.parametrize("network", NETWORKS, ids=title)
def test_a_family_learns_the_same(network: Network) -> None:
    plain = made(network)
    laid = deepcopy(plain)
    channels_last(laid)
    (expected, gradient), (found, other) = trained(plain), trained(laid)
    assert found == pytest.approx(expected, rel=1e-3)
    # A proposal at the edge of being sampled may be in one and not in the other: the gradient is held in its direction.
    assert float(torch.cosine_similarity(gradient.flatten(), other.flatten(), dim=0)) > 0.99
    assert first_convolution(laid).weight.is_contiguous(memory_format=torch.channels_last)


def test_deformable_convolutions_learn_the_same() -> None:
    """In 64 bits: they begin between whole pixels' cells, where the last digit decides which neighbour a gradient comes from."""
    plain: Any = made(Network(detector="cascade_mask_rcnn", backbone="resnext101_32x4d_dcn", width=8)).double().train()
    laid = deepcopy(plain)
    channels_last(laid)
    gradients = []
    for model in (plain, laid):
        sum(level.square().mean() for level in model.backbone(batch()[0].double())).backward()
        gradients.append(first_convolution(model).weight.grad)
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(("channels", "side"), [(8, 64), (8, 32), (24, 33), (64, 64)])
def test_a_convolution_of_one_cell_with_a_stride_is_its_own(channels: int, side: int) -> None:
    """By a kernel of oneDNN that writes beyond its memory it ended the process, or changed what lay there."""
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(channels, 16, 1, stride=2))
    laid = deepcopy(plain)
    channels_last(laid)
    assert type(laid[0]) is StridedPoints
    x = torch.randn(2, channels, side, side)
    found, expected = laid(x.to(memory_format=torch.channels_last)), plain(x)
    torch.testing.assert_close(found, expected)
    for result in (found, expected):
        result.square().sum().backward()
    torch.testing.assert_close(laid[0].weight.grad, plain[0].weight.grad, rtol=1e-4, atol=1e-3)
    assert laid.state_dict().keys() == plain.state_dict().keys()


@pytest.mark.parametrize("layer", [RoIAlign(3, 0.5), ModulatedDeformConv2dPack(8, 4, 3, padding=1)], ids=lambda layer: type(layer).__name__)
def test_layers_of_mmcv_are_given_maps_as_they_read_them(layer: nn.Module) -> None:
    """They read memory as it lies, and say nothing where it lies otherwise."""
    torch.manual_seed(0)
    maps = torch.randn(2, 8, 12, 16)
    more = [torch.tensor([[0, 1.0, 2, 20, 15], [1, 3, 3, 9, 22]])] if isinstance(layer, RoIAlign) else []
    if not more:
        nn.init.normal_(layer.conv_offset.weight, std=0.1)
    expected = layer(maps, *more)
    channels_last(layer)
    assert torch.equal(layer(maps.to(memory_format=torch.channels_last), *more), expected)
