"""The order in which the numbers of a network's maps lie in memory."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import convert_conv2d_weight_memory_format as convert


def channels_last(network: nn.Module) -> None:
    """Lets a network's convolutions, and so its maps, have the channels of a cell side by side: torch computes them fastest like that.

    mmcv's own layers (RoI pooling, deformable convolutions) read memory as it lies, a channel after the other, and are given it so.
    """
    convert(network, torch.channels_last)
    for module in network.modules():
        if type(module) is nn.Conv2d and module.kernel_size == (1, 1) and module.stride != (1, 1) and module.padding == (0, 0):
            module.__class__ = StridedPoints
        if any(kind.__module__.startswith("mmcv.ops") for kind in type(module).__mro__):
            convert(module, torch.contiguous_format)
            module.register_forward_pre_hook(_contiguous)


class StridedPoints(nn.Conv2d):
    """A convolution of 1 x 1 with a stride, as one without of every so many cells.

    With its stride and channels last, oneDNN 3 writes beyond its memory on CPUs with AVX-512 (8 channels of 64 x 64 cells do).
    """

    def forward(self, input: Tensor) -> Tensor:
        rows, columns = self.stride
        return F.conv2d(input[:, :, ::rows, ::columns], self.weight, self.bias, groups=self.groups)


def _contiguous(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(value.contiguous() if isinstance(value, Tensor) else value for value in inputs)
