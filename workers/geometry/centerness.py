"""How central points lie in boxes: 1 in the middle, 0 at an edge and outside."""

import torch
from torch import Tensor


def centrality(points: Tensor, boxes: Tensor) -> Tensor:
    """min(l,r)/max(l,r) and min(t,b)/max(t,b), the smaller of both, of points in boxes that broadcast: (.., 2), (.., 4) -> (..)."""
    low, high = points - boxes[..., :2], boxes[..., 2:] - points
    return (torch.minimum(low, high) / torch.maximum(low, high)).clamp(min=0).amin(-1)


def of_sides(sides: Tensor) -> Tensor:
    """FCOS's centerness of points inside boxes, from their distances left, top, right, bottom (.., 4): (..)."""
    across, down = sides[..., 0::2], sides[..., 1::2]
    return (across.amin(-1) / across.amax(-1) * (down.amin(-1) / down.amax(-1))).sqrt()


def scaled_centerness(priors: Tensor, boxes: Tensor) -> Tensor:
    """min(l,r)/max(l,r) and min(t,b)/max(t,b), the smaller of both, of every prior's centre in every box (.., G, 4): (.., G, A).

    0 outside the box, and where the box is not within half to twice the prior's size (no lower bound for the narrowest
    priors; the tallest take boxes up to the image's size, which is the unit of both arguments).
    Source: zhanghengdev/MutualGuide@85219f9 utils/box/box_utils.py.
    """
    ratio = centrality((priors[:, :2] + priors[:, 2:]) / 2, boxes[..., None, :])
    sides, gt_sides = priors[:, 2:] - priors[:, :2], boxes[..., 2:] - boxes[..., :2]
    size = (gt_sides[..., 0] * gt_sides[..., 1]).sqrt()[..., None]
    narrow, tall = sides[:, 0], sides[:, 1]
    least = torch.where(narrow <= narrow.min() * (1 + 1e-6), 0, narrow / 2)
    most = torch.where(tall >= tall.max() * (1 - 1e-6), 1, 2 * tall)
    return torch.where((size > least) & (size < most), ratio, 0)
