"""What a built mmdet model is, what its dense head's outputs mean, and what its label assignment says.

Heads differ in the order and number of what they return; distillers see one form.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from studies.spec import Network
from workers.distillation.step import NetworkInfo, Targets


def describe(network: Network, model: Any) -> NetworkInfo:
    """What distillers need to know of a built mmdet model."""
    two_stage = hasattr(model, "rpn_head")
    head = model.rpn_head if two_stage else model.bbox_head
    generator = getattr(head, "prior_generator", None)
    strides = tuple(int(stride[0]) for stride in generator.strides) if generator else network.family.strides
    channels = tuple(head.in_channels) if isinstance(head.in_channels, Sequence) else (head.in_channels,) * len(strides)
    reg_max = getattr(head, "reg_max", None)
    return NetworkInfo(
        detector=network.detector,
        backbone=network.backbone,
        stages="two" if two_stage else "one",
        neck_channels=channels,
        # SSD's neck does not say; its first levels are the backbone's outputs. YOLOv3's counts from the last stage.
        backbone_channels=tuple(sorted(getattr(model.neck, "in_channels", channels[:2]))),
        strides=strides,
        classes=head.num_classes,
        anchors_per_cell=getattr(generator, "num_base_priors", [1])[0],
        bins=reg_max + 1 if isinstance(reg_max, int) else None,
        model=model,
        form=network.form,
    )


def head_outputs(head: Any, outputs: tuple[Any, ...]) -> dict[str, tuple[Tensor, ...] | None]:
    """Names the parts of a dense head's output: logits, boxes, centerness, each a tuple over levels.

    YOLOv3: boxes are its four raw outputs per anchor, centerness its objectness. RepPoints: no boxes, its points have no
    form in common with other heads.
    """
    if len(outputs) == 1:
        kinds = [m.unflatten(1, (-1, 5 + head.num_classes)).split((4, 1, head.num_classes), 2) for m in outputs[0]]
        boxes, objectness, logits = (tuple(m.flatten(1, 2) for m in maps) for maps in zip(*kinds, strict=True))
        return {"logits": logits, "boxes": boxes, "centerness": objectness}
    logits, boxes, *rest = (tuple(part) for part in outputs)
    if hasattr(head, "num_points"):
        return {"logits": logits, "boxes": (), "centerness": None}
    return {"logits": logits, "boxes": boxes, "centerness": rest[0] if rest else None}


def assignment(result: Sequence[Any], images: int) -> Targets:
    """What a head's `get_targets` returned for `images` images, in one form.

    mmdet's heads return lists over levels: anchors (some heads), labels, label weights (not FCOS), boxes; FCOS's have the
    images of a level one after another instead of an axis of their own.
    """
    lists = [part for part in result if isinstance(part, (list, tuple))]
    if isinstance(lists[0][0], (list, tuple)) or lists[0][0].dim() == 3:
        lists = lists[1:]  # the anchors
    if lists[0][0].dim() == 1:
        lists = [[level.unflatten(0, (images, -1)) for level in part] for part in lists]
        lists.insert(1, [torch.ones_like(level, dtype=torch.float) for level in lists[0]])
    labels, weights, *boxes = lists
    weights = [level.amax(-1) if level.dim() > 2 else level for level in weights]  # FSAF weighs every class
    return Targets(tuple(labels), tuple(weights), tuple(boxes[0]) if boxes else None)
