"""Records what a two-stage student's RoI head does in its loss, and evaluates the teacher's on the same proposals.

Nothing runs twice: the student's proposals, targets and outputs are taken from the one call that its loss makes.
"""

from __future__ import annotations

from types import TracebackType
from typing import Any

import torch
from torch import Tensor

from workers.distillers.base import RoIOutputs


def first_stage(detector: Any) -> tuple[Any, Any]:
    """RoI extractor and box head of an mmdet two-stage detector; of a cascade those of its first stage."""
    head = detector.roi_head
    cascade = hasattr(head, "num_stages")
    return (head.bbox_roi_extractor[0], head.bbox_head[0]) if cascade else (head.bbox_roi_extractor, head.bbox_head)


class RoIRecorder:
    """Keeps the RoI outputs of `detector.loss(...)` calls made inside its `with` block; see `take`.

    It listens to the RoI extractor and wraps `loss` of the box head on this instance, which mmdet calls once per stage with
    predictions, proposals and targets. Both are undone when the block ends.
    """

    def __init__(self, detector: Any) -> None:
        self.extractor, self.head = first_stage(detector)
        self.pooled: Tensor | None = None
        self.outputs: RoIOutputs | None = None

    def __enter__(self) -> RoIRecorder:
        self.hook = self.extractor.register_forward_hook(self._keep_pooled)
        self.loss = self.head.loss
        self.head.loss = self._recorded_loss
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.hook.remove()
        del self.head.loss  # the class's own shows again
        self.pooled = None

    def _keep_pooled(self, module: Any, inputs: Any, output: Tensor) -> None:
        self.pooled = output

    def _recorded_loss(
        self,
        cls_score: Tensor,
        bbox_pred: Tensor | None,
        rois: Tensor,
        labels: Tensor,
        label_weights: Tensor,
        bbox_targets: Tensor,
        bbox_weights: Tensor,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        assert self.pooled is not None
        deltas = None if bbox_pred is None else bbox_pred.float()
        self.outputs = RoIOutputs(rois, labels, bbox_targets, bbox_weights, cls_score.float(), deltas, self.pooled.float())
        return self.loss(cls_score, bbox_pred, rois, labels, label_weights, bbox_targets, bbox_weights, *args, **kwargs)

    def take(self) -> RoIOutputs:
        """The outputs since the last call, predictions and features in float32; forgets them."""
        assert self.outputs is not None, "the detector's loss has not run inside the recorder's block"
        outputs, self.outputs = self.outputs, None
        return outputs


@torch.no_grad()
def on_same_rois(teacher: Any, levels: tuple[Tensor, ...], student: RoIOutputs) -> RoIOutputs:
    """The teacher's RoI head on the student's proposals, pooled from the teacher's pyramid `levels`, in float32."""
    extractor, head = first_stage(teacher)
    features = extractor(levels[: extractor.num_inputs], student.rois)
    logits, deltas = head(features)
    return RoIOutputs(
        rois=student.rois,
        labels=student.labels,
        bbox_targets=student.bbox_targets,
        bbox_weights=student.bbox_weights,
        logits=logits.float(),
        deltas=None if deltas is None else deltas.float(),
        features=features.float(),
    )
