"""Sampling gives what mmcv's deformable operator gives, in value and in every gradient."""

from typing import Any

import pytest
import torch
from mmcv.ops.deform_conv import DeformConv2dFunction
from torch import Tensor

from studies.spec import Network
from workers.detectors.configs import build
from workers.detectors.deformable import deform_conv2d


def run(operator: Any, tensors: list[Tensor], settings: tuple[Any, ...]) -> tuple[Tensor, list[Tensor]]:
    """Output, and the gradients of its weighted sum by x, offset and weight."""
    leaves = [tensor.clone().requires_grad_() for tensor in tensors]
    output = operator(*leaves, *settings)
    (output * torch.linspace(-1, 1, output.numel()).view_as(output)).sum().backward()
    return output.detach(), [leaf.grad for leaf in leaves]


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "dilation", "groups", "deform_groups"),
    [(3, 1, 1, 1, 1, 1), (3, 2, 1, 1, 4, 1), (3, 1, 2, 2, 2, 1), (1, 1, 0, 1, 1, 1), (5, 2, 2, 1, 1, 2)],
)
def test_equals_the_operator_of_mmcv(kernel: int, stride: int, padding: int, dilation: int, groups: int, deform_groups: int) -> None:
    torch.manual_seed(0)
    height, width, channels, out = 9, 14, 8, 12
    rows, columns = ((side + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1 for side in (height, width))
    x = torch.randn(2, channels, height, width)
    offset = 3 * torch.randn(2, 2 * deform_groups * kernel**2, rows, columns)  # many leave the image
    weight = torch.randn(out, channels // groups, kernel, kernel) / kernel
    settings = ((stride, stride), (padding, padding), (dilation, dilation), groups, deform_groups, False, 32)
    ours, gradients = run(deform_conv2d, [x, offset, weight], settings)
    theirs, expected = run(DeformConv2dFunction.apply, [x, offset, weight], settings)
    assert ours.shape == (2, out, rows, columns)
    torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=1e-4)
    for gradient, other in zip(gradients, expected, strict=True):
        torch.testing.assert_close(gradient, other, atol=5e-4, rtol=1e-3)


def test_shapes_come_out_on_the_meta_device() -> None:
    x, offset, weight = (torch.empty(size, device="meta") for size in ((1, 8, 10, 12), (1, 18, 5, 6), (4, 8, 3, 3)))
    assert deform_conv2d(x, offset, weight, (2, 2), (1, 1), (1, 1), 1, 1).shape == (1, 4, 5, 6)


def test_a_network_of_deformable_convolutions_starts_as_one_of_plain_ones() -> None:
    """mmdet draws a whole backbone anew, offsets too: of pixels, and gradients grew to 1e15 on their way to the first layer."""
    torch.manual_seed(0)
    network = build(Network(detector="cascade_mask_rcnn", backbone="resnext101_32x4d_dcn", width=16), classes=3)
    offsets = [module.conv_offset for module in network.modules() if hasattr(module, "conv_offset")]
    assert len(offsets) == 30
    assert all(not layer.weight.any() and not layer.bias.any() for layer in offsets)
    backbone: Any = network.backbone
    backbone.train()
    sum(level.mean() for level in backbone(torch.randn(2, 3, 64, 64))).backward()
    norms = {name: float(p.grad.norm()) for name, p in backbone.named_parameters() if p.grad is not None}
    assert norms["conv1.weight"] < 1e4 * norms["layer4.2.conv3.weight"]
