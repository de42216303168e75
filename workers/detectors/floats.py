"""Under autocast: a detector's losses, proposals and pooled features in 32-bit numbers, where its layers compute in 16.

Overlaps and distances of hundreds of pixels need more than bfloat16's 8 bits, and mmcv's kernels (NMS, RoI pooling, focal loss) know no
bfloat16 at all. Deformable convolutions are in `deformable`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from workers.detectors.mixing import put_before

HALF = {torch.bfloat16, torch.float16}


def in_floats(detector: Any) -> None:
    """Makes an mmdet detector compute so; without autocast that changes nothing."""
    roi_head = getattr(detector, "roi_head", None)
    for head in _modules(detector, "rpn_head", "bbox_head"):
        put_before(head, _Dense)
    for head in _modules(roi_head, "bbox_head", "mask_head"):
        put_before(head, _OfRoIs)
    for extractor in _modules(roi_head, "bbox_roi_extractor", "mask_roi_extractor"):
        put_before(extractor, _Extractor)


def floats(value: Any) -> Any:
    """Tensors in 32 bits, also inside lists and tuples; all else as it is."""
    if isinstance(value, Tensor):
        return value.float() if value.dtype in HALF else value
    if isinstance(value, (list, tuple)):
        return type(value)(map(floats, value))
    return value


def _modules(owner: Any, *names: str) -> list[nn.Module]:
    """The owner's modules of these names; a cascade has several of one."""
    found = [getattr(owner, name, None) for name in names]
    return [each for module in found for each in (module if isinstance(module, nn.ModuleList) else [module]) if isinstance(each, nn.Module)]


def _exactly(device: torch.device, function: Any, *args: Any, **kwargs: Any) -> Any:
    with torch.autocast(device.type, enabled=False):
        return function(*map(floats, args), **{name: floats(value) for name, value in kwargs.items()})


class _Dense(nn.Module):
    """Put before the class of a dense head."""

    def loss_by_feat(self, cls_scores: Any, *args: Any, **kwargs: Any) -> Any:
        """The head's."""
        return _exactly(cls_scores[0].device, super().loss_by_feat, cls_scores, *args, **kwargs)  # type: ignore[misc]

    def predict_by_feat(self, cls_scores: Any, *args: Any, **kwargs: Any) -> Any:
        """The head's; an RPN's proposals."""
        return _exactly(cls_scores[0].device, super().predict_by_feat, cls_scores, *args, **kwargs)  # type: ignore[misc]


class _OfRoIs(nn.Module):
    """Put before the class of a box or mask head."""

    def loss_and_target(self, *args: Any, **kwargs: Any) -> Any:
        """The head's."""
        return _exactly(next(self.parameters()).device, super().loss_and_target, *args, **kwargs)  # type: ignore[misc]


class _Extractor(nn.Module):
    """Put before the class of a RoI extractor."""

    def forward(self, feats: Any, rois: Tensor, *args: Any, **kwargs: Any) -> Any:
        """The extractor's."""
        return _exactly(rois.device, super().forward, feats, rois, *args, **kwargs)
