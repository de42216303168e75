"""The objects of several images as one tensor each, so that a batch is compared with its anchors at once.

Images have as many rows as the one with most objects, and one at least; rows without an object are zero boxes, which overlap nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


def side_by_side(images: Sequence[Tensor], fill: float = 0) -> Tensor:
    """Tensors (G_i, ..) of N images as (N, G, ..), G being the most rows, at least 1; `fill` where an image has no more.

    The lengths are known to the host, so nothing is waited for, and two kernels do it whatever the number of images.
    """
    most = max(1, *(len(rows) for rows in images))
    rest = images[0].new_full((most, *images[0].shape[1:]), fill)
    return torch.cat([part for rows in images for part in (rows, rest[len(rows) :])]).view(len(images), most, *rest.shape[1:])


@dataclass(frozen=True)
class Objects:
    """The objects of N images. boxes: (N, G, 4) xyxy. labels: (N, G) long. there: bool (N, G), whether a row is an object."""

    boxes: Tensor
    labels: Tensor
    there: Tensor

    def __len__(self) -> int:
        return len(self.boxes)

    def split(self, images: int) -> list[Objects]:
        """The objects of so many images at a time: views."""
        parts = zip(self.boxes.split(images), self.labels.split(images), self.there.split(images), strict=True)
        return [Objects(*part) for part in parts]

    def box_of(self, rows: Tensor) -> Tensor:
        """The boxes in the rows (N, P) of their images: (N, P, 4)."""
        return self.boxes.gather(1, rows[..., None].expand(-1, -1, 4))


def objects(boxes: Sequence[Tensor], labels: Sequence[Tensor]) -> Objects:
    """The objects of images: boxes (G_i, 4) and labels (G_i,) of each."""
    rows = side_by_side(boxes)
    some = torch.ones(rows.shape[1], dtype=torch.bool, device=rows.device)
    return Objects(rows, side_by_side(labels), side_by_side([some[: len(each)] for each in boxes]))
