"""Deformable convolution (Dai et al. 2017) off the GPU, by torch's own sampling.

mmcv's CPU operator visits every value in one thread's loop; forward and backward by `grid_sample` take a tenth of its time, and run
on the meta device, where mmcv has no operator. On a GPU mmcv's operator stays.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

Pair = tuple[int, int]


def use_sampling() -> None:
    """Makes mmcv's deformable layers call `deform_conv2d`, which they look up by this name."""
    from mmcv.ops import deform_conv

    deform_conv.deform_conv2d = deform_conv2d


def deform_conv2d(
    x: Tensor, offset: Tensor, weight: Tensor, stride: Pair, padding: Pair, dilation: Pair, groups: int, deform_groups: int, *rest: object
) -> Tensor:
    """x (B, C, H, W), offset (B, deform_groups * K * 2, H', W') in pixels, y before x, weight (D, C / groups, k, k') -> (B, D, H', W').

    K = k * k' kernel positions. Zero outside the image. Arguments as mmcv's operator has them; `rest` is about its CUDA kernel.
    """
    if x.is_cuda:
        from mmcv.ops.deform_conv import DeformConv2dFunction

        # In 32 bits: it knows no bfloat16, and offsets in float16 would miss.
        tensors = (each.float() for each in (x, offset, weight))
        result: Tensor = DeformConv2dFunction.apply(*tensors, stride, padding, dilation, groups, deform_groups, *rest)
        return result
    batch, channels, height, width = x.shape
    rows, columns = offset.shape[2:]
    places = weight.shape[2] * weight.shape[3]
    exact = torch.promote_types(x.dtype, torch.float32)  # half-precision coordinates would miss by pixels

    def positions(kernel: int, side: int, axis: int) -> Tensor:
        first = torch.arange(side, device=x.device, dtype=exact) * stride[axis] - padding[axis]
        return first + torch.arange(kernel, device=x.device, dtype=exact)[:, None] * dilation[axis]

    y = positions(weight.shape[2], rows, 0)[:, None, :, None]  # (k, 1, H', 1)
    along = positions(weight.shape[3], columns, 1)[None, :, None, :]  # (1, k', 1, W')
    moved = offset.to(exact).view(batch * deform_groups, places, 2, rows, columns)
    y = moved[:, :, 0] + y.expand(-1, weight.shape[3], -1, -1).reshape(places, rows, 1)
    along = moved[:, :, 1] + along.expand(weight.shape[2], -1, -1, -1).reshape(places, 1, columns)
    grid = torch.stack([(2 * along + 1) / width - 1, (2 * y + 1) / height - 1], dim=-1).view(-1, places * rows, columns, 2)
    maps = x.to(exact).view(batch * deform_groups, -1, height, width)
    sampled = F.grid_sample(maps, grid, padding_mode="zeros", align_corners=False)
    patches = sampled.view(batch, channels * places, rows, columns).to(weight.dtype)
    return F.conv2d(patches, weight.view(len(weight), -1, 1, 1), groups=groups)
