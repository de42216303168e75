"""Convolutions that take the student's features to the teacher's channels, one per level, never shared.

They train with the student and stay out of the exported model.
"""

from torch import nn

NEAR_ZERO = 1e-4  # standard deviation of FGFI's and DeFeat's first adapter weights


def convolutions(student_channels: tuple[int, ...], teacher_channels: tuple[int, ...], size: int = 1) -> nn.ModuleList:
    """A `size` x `size` convolution with bias per level that keeps height and width, torch's default start."""
    pairs = zip(student_channels, teacher_channels, strict=True)
    return nn.ModuleList(nn.Conv2d(s, t, size, padding=size // 2) for s, t in pairs)


def near_zero(adapters: nn.ModuleList) -> nn.ModuleList:
    """Draws the weights anew from a normal truncated at two standard deviations of 1e-4; biases stay."""
    for adapter in adapters:
        assert isinstance(adapter, nn.Conv2d)
        nn.init.trunc_normal_(adapter.weight, std=NEAR_ZERO, a=-2 * NEAR_ZERO, b=2 * NEAR_ZERO)
    return adapters
