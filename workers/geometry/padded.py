"""The objects of several images as one tensor each, so that a batch is compared with its anchors at once.

Images have as many rows as the one with most objects, and one at least; rows without an object are zero boxes, which overlap nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

PAIRS = 2**25  # boxes and anchors that are compared at once: 128 MiB for each number of theirs


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

    def of(self, images: slice) -> Objects:
        """The objects of some of the images: views."""
        return Objects(self.boxes[images], self.labels[images], self.there[images])

    def box_of(self, rows: Tensor) -> Tensor:
        """The boxes in the rows (N, P) of their images: (N, P, 4)."""
        return self.boxes.gather(1, rows[..., None].expand(-1, -1, 4))


def groups(boxes: Tensor, others: int) -> Iterator[slice]:
    """The images of boxes (N, G, 4), so many at a time that memory holds every pair of their boxes with `others` boxes."""
    images = max(1, PAIRS // (boxes.shape[1] * max(1, others)))
    return (slice(first, first + images) for first in range(0, len(boxes), images))


def objects(boxes: Sequence[Tensor], labels: Sequence[Tensor]) -> Objects:
    """The objects of images: boxes (G_i, 4) and labels (G_i,) of each."""
    rows = side_by_side(boxes)
    some = torch.ones(rows.shape[1], dtype=torch.bool, device=rows.device)
    return Objects(rows, side_by_side(labels), side_by_side([some[: len(each)] for each in boxes]))
