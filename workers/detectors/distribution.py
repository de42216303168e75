"""RetinaNet, FCOS and ATSS with box sides as distributions, so that Localization Distillation has what it compares.

    distance_e = stride * sum_i i p_i,  p = softmax of side e's 17 logits;   box = centre -/+ distances

The rest of each head (towers, assignment, class loss, centerness) is the family's; there is no exp on the distances and no
distribution focal loss. Source: Zheng et al., CVPR 2022, supplement section 2; released code HikariTJU/LD@4287990
mmdet/models/dense_heads/{ld_retina,ld_fcos_head,ld_atss}.py.
"""

from collections.abc import Sequence
from typing import Any

import torch
from mmdet.models.dense_heads import ATSSHead, FCOSHead, RetinaHead
from mmdet.models.task_modules.coders import DistancePointBBoxCoder
from mmdet.registry import MODELS, TASK_UTILS
from torch import Tensor, nn

REG_MAX = 16  # the last of the 17 bins


def expected_distances(logits: Tensor, stride: float) -> Tensor:
    """Side distances in pixels, (N, A*4, H, W), from logits (N, A*4*17, H, W)."""
    bins = torch.arange(REG_MAX + 1, device=logits.device, dtype=logits.dtype).view(-1, 1, 1)
    return (logits.unflatten(1, (-1, REG_MAX + 1)).softmax(2) * bins).sum(2) * stride


@TASK_UTILS.register_module()
class CentreDistanceCoder(DistancePointBBoxCoder):
    """Boxes as distances of their four sides from the centre of an anchor box."""

    def decode(self, bboxes: Any, bboxes_pred: Tensor, max_shape: Any = None) -> Any:
        """Boxes xyxy of anchors (.., 4) and distances left, top, right, bottom (.., 4) in pixels."""
        anchors = getattr(bboxes, "tensor", bboxes)
        return super().decode((anchors[..., :2] + anchors[..., 2:]) / 2, bboxes_pred, max_shape)


class Distributed:
    """What the heads below share: outputs are logits of bins; losses and predictions see the distances."""

    reg_max = REG_MAX

    def distances(self, logits: Sequence[Tensor]) -> list[Tensor]:
        """Per level, side distances in pixels."""
        strides = self.prior_generator.strides  # type: ignore[attr-defined]
        return [expected_distances(maps.float(), stride[0]) for maps, stride in zip(logits, strides, strict=True)]

    def loss_by_feat(self, cls_scores: Any, bbox_preds: Any, *args: Any, **kwargs: Any) -> Any:
        """The family's losses on the expected distances."""
        return super().loss_by_feat(cls_scores, self.distances(bbox_preds), *args, **kwargs)  # type: ignore[misc]

    def predict_by_feat(self, cls_scores: Any, bbox_preds: Any, *args: Any, **kwargs: Any) -> Any:
        """The family's predictions from the expected distances."""
        return super().predict_by_feat(cls_scores, self.distances(bbox_preds), *args, **kwargs)  # type: ignore[misc]


def widen(head: Any, name: str) -> None:
    """Replaces the head's box predictor, a convolution, by one that gives 17 logits for each of its outputs."""
    predictor = getattr(head, name)
    setattr(head, name, nn.Conv2d(predictor.in_channels, predictor.out_channels * (REG_MAX + 1), 3, padding=1))


@MODELS.register_module()
class DistributionRetinaHead(Distributed, RetinaHead):
    """RetinaNet's head; nine anchors with a distribution per side each."""

    def _init_layers(self) -> None:
        super()._init_layers()
        widen(self, "retina_reg")


@MODELS.register_module()
class DistributionFCOSHead(Distributed, FCOSHead):
    """FCOS's head; the scale of each level multiplies the logits."""

    def _init_predictor(self) -> None:
        super()._init_predictor()
        widen(self, "conv_reg")

    def forward_single(self, x: Tensor, scale: Any, stride: int) -> tuple[Tensor, Tensor, Tensor]:
        """Class logits, side logits and centerness of a level."""
        logits, sides, class_features, box_features = super(FCOSHead, self).forward_single(x)
        return logits, scale(sides).float(), self.conv_centerness(box_features if self.centerness_on_reg else class_features)


@MODELS.register_module()
class DistributionATSSHead(Distributed, ATSSHead):
    """ATSS's head."""

    def _init_layers(self) -> None:
        super()._init_layers()
        widen(self, "atss_reg")
