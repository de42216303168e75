"""Statistics of channels over the images and cells of a batch; PKD and CrossKD standardise features by them."""

import torch
from torch import Tensor


def scale_of(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and unbiased standard deviation of every channel of (.., N, C, H, W) over images and cells, each (.., 1, C, 1, 1)."""
    several = features.shape[-4] * features.shape[-2] * features.shape[-1] > 1  # a single value has no unbiased deviation
    std, mean = torch.std_mean(features, dim=(-4, -2, -1), correction=int(several), keepdim=True)
    return mean, std
