"""D_pred: the mean absolute difference of teacher's and student's class probabilities, the last column of PDF-Distil's Tables 2 and 3.

Of any pair of one-stage detectors whose heads give class logits of one shape, distilled or not.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from studies.trial import TrialFailure
from workers.detectors import head_outputs
from workers.evaluation.differences import prediction_difference
from workers.measuring.setting import Measured, Setting, levels_of


def measure(setting: Setting) -> Measured:
    """`D_pred` over the validation split, and the value of every image by its id."""
    images: dict[str, float] = {}
    for batch in setting.batches():
        ready = setting.preprocessor(batch, False)
        student = logits(setting.detector, ready["inputs"])
        teacher = logits(setting.teacher, ready.get("teacher_inputs", ready["inputs"]))
        ours, theirs = ([tuple(level.shape[1:]) for level in levels] for levels in (student, teacher))
        if ours != theirs:
            raise TrialFailure("user", f"D_pred compares class logits cell by cell; the student's are {ours}, the teacher's {theirs}")
        values = prediction_difference(teacher, student).tolist()
        images |= {str(sample.img_id): value for sample, value in zip(ready["data_samples"], values, strict=True)}
    return Measured({"D_pred": float(torch.tensor(list(images.values())).mean())}, {"images": images})


def logits(model: Any, inputs: Tensor) -> tuple[Tensor, ...]:
    """Class logits per level, float32 (N, A*K, H_l, W_l), of a one-stage detector."""
    if not hasattr(model, "bbox_head"):
        raise TrialFailure("user", "D_pred compares one-stage detectors; a two-stage one gives no class logits per cell")
    with torch.no_grad():
        found = head_outputs(model.bbox_head, model.bbox_head(levels_of(model, inputs)))["logits"]
    assert found is not None
    return tuple(level.float() for level in found)
