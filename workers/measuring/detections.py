"""What a detector finds on single images, to be drawn beside others (PDF-Distil's Fig. 5, Zhang & Ma's Fig. 6, LD's Figs. 1 and 2)."""

from __future__ import annotations

import torch

from workers.measuring.found import set_suppression
from workers.measuring.pictures import save_image
from workers.measuring.setting import Measured, Setting


def measure(setting: Setting) -> Measured:
    """`boxes`: how many there are per image from the least score on. The document holds them, best first, beside the objects.

    A box: {"box": [x0, y0, x1, y1] in pixels of the original, "label": index of `classes`, "score"}.
    """
    options = setting.options
    if options.threshold is not None:
        set_suppression(setting.detector, options.threshold)
    images = []
    for view in setting.views():
        with torch.no_grad():
            found = setting.detector.predict(view.inputs, [view.sample])[0].pred_instances
        drawn = save_image(setting, view)
        rows = zip(found.bboxes.tolist(), found.labels.tolist(), found.scores.tolist(), strict=True)
        kept = [{"box": box, "label": label, "score": score} for box, label, score in rows if score >= options.score]
        drawn["detections"] = sorted(kept, key=lambda each: -each["score"])
        images.append(drawn)
    boxes = sum(len(image["detections"]) for image in images) / len(images)
    document = {"classes": setting.classes, "score": options.score, "threshold": options.threshold, "images": images}
    return Measured({"boxes": boxes}, document, tuple(image["file"] for image in images))
