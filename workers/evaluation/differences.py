"""Metrics that compare two networks' raw outputs, beside the AP of their detections.

Pure functions of what the networks gave; averaging over a test set is the evaluation's.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


def prediction_difference(teacher: Sequence[Tensor], student: Sequence[Tensor]) -> Tensor:
    """D_pred of each image: mean |sigmoid(z^t) - sigmoid(z^s)| over all anchors and classes of all levels, (N,).

    teacher, student: dense class logits per level, (N, ...) of equal shapes, before any suppression. The mean over the
    test images is the last column of PDF-Distil's Tables 2 and 3 (Zhang et al., BMVC 2021).
    """
    totals = [(t.sigmoid() - s.sigmoid()).abs().flatten(1).sum(1) for t, s in zip(teacher, student, strict=True)]
    return torch.stack(totals).sum(0) / sum(t[0].numel() for t in teacher)
