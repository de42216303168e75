"""Attention of a feature map, as FBKD and FGD read it: where (over cells) and in which channels its absolute values are large.

A: features (N, C, H, W). G_s = mean_c |A|, G_c = mean_{h,w} |A|; a mask is a softmax of these, scaled to a mean of 1.
"""

from torch import Tensor


def attention(features: Tensor) -> tuple[Tensor, Tensor]:
    """(G_s, G_c) of features (N, C, H, W): spatial (N, H*W) and channel (N, C)."""
    magnitude = features.abs()
    return magnitude.mean(1).flatten(1), magnitude.mean((2, 3))


def mask(scores: Tensor, temperature: float) -> Tensor:
    """n softmax(scores / T) over the last dimension of length n: HW softmax_hw(G_s / T) or C softmax_c(G_c / T)."""
    return scores.shape[-1] * (scores / temperature).softmax(-1)
