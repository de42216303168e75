"""Has mmdet's heads assign all images of a batch at once: GFL, ATSS, RetinaNet, FCOS, and heads that inherit their assignment.

What a rule here does not know (an assigner that samples or ignores regions, an image with a few anchors only) goes mmdet's own way.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from mmdet.models.dense_heads import ATSSHead, FCOSHead, GFLHead
from mmdet.models.dense_heads.anchor_head import AnchorHead
from mmdet.models.task_modules.assigners import ATSSAssigner, BboxOverlaps2D, MaxIoUAssigner
from mmdet.models.task_modules.samplers import PseudoSampler
from torch import Tensor

from workers.detectors.assigning.atss import atss_owners
from workers.detectors.assigning.max_iou import IGNORED, max_iou_owners
from workers.detectors.assigning.points import point_owners, sides_of
from workers.detectors.mixing import put_before
from workers.geometry.padded import Objects, groups, objects

Size = tuple[int, int]


def assign_in_batches(detector: Any) -> None:
    """Makes a detector's dense head assign by batches, where this module knows how; nothing else of it changes."""
    head = getattr(detector, "bbox_head", None)
    for assigns, batched in ((AnchorHead, _Anchors), (GFLHead, _AnchorsToo), (ATSSHead, _AnchorsToo), (FCOSHead, _Points)):
        if isinstance(head, assigns) and _inherits(head, assigns) and batched.knows(head):
            put_before(head, batched)
            return


def _inherits(head: Any, assigns: type) -> bool:
    """Whether a head assigns as mmdet's class does."""
    names = [name for name in ("get_anchors", "get_targets", "_get_targets_single") if hasattr(assigns, name)]
    return all(getattr(type(head), name) is getattr(assigns, name) for name in names)


def truth_of(instances: Sequence[Any]) -> Objects:
    """The objects of mmdet's instances of each image."""
    return objects([getattr(each.bboxes, "tensor", each.bboxes) for each in instances], [each.labels for each in instances])


class _Anchors(AnchorHead):
    """Put before the class of an anchor head, such as RetinaNet's, which `super()` then is."""

    @staticmethod
    def knows(head: Any) -> bool:
        """Whether the head's assigner, sampler and settings are among those that are assigned here."""
        assigner: Any = getattr(head, "assigner", None)
        if type(getattr(head, "sampler", None)) is not PseudoSampler or head.train_cfg["allowed_border"] >= 0:
            return False
        if type(assigner) not in {ATSSAssigner, MaxIoUAssigner} or assigner.ignore_iof_thr > 0:
            return False
        if type(assigner.iou_calculator) is not BboxOverlaps2D or assigner.iou_calculator.dtype is not None:
            return False
        if type(assigner) is ATSSAssigner:
            return assigner.alpha is None
        whole = assigner.gt_max_assign_all or not assigner.match_low_quality
        return whole and assigner.perm_repeat_gt_cfg is None and assigner.gpu_assign_thr <= 0 and assigner.pos_iou_thr > 0

    def get_anchors(self, featmap_sizes: list[Size], batch_img_metas: list[dict[str, Any]], device: Any = "cuda") -> tuple[Any, Any]:
        """The anchors of each image, and instead of flags of those inside it the levels' sizes, from which `get_targets` knows them."""
        levels = self.prior_generator.grid_priors(featmap_sizes, device=device)
        return [levels] * len(batch_img_metas), [featmap_sizes] * len(batch_img_metas)

    def get_targets(
        self,
        anchor_list: list[list[Tensor]],
        valid_flag_list: list[list[Size]],
        batch_gt_instances: list[Any],
        batch_img_metas: list[dict[str, Any]],
        batch_gt_instances_ignore: Any = None,
        unmap_outputs: bool = True,
        **settings: Any,
    ) -> tuple[Any, ...]:
        """mmdet's targets; the number of positives as a tensor, since the host need not know it."""
        levels, sizes = anchor_list[0], valid_flag_list[0]
        insides = [self._inside(sizes, meta["pad_shape"]) for meta in batch_img_metas]
        if settings or not unmap_outputs or not self._enough(sizes, insides):
            flags = [self.prior_generator.valid_flags(sizes, meta["pad_shape"], levels[0].device) for meta in batch_img_metas]
            arguments = (anchor_list, flags, batch_gt_instances, batch_img_metas, batch_gt_instances_ignore)
            return super().get_targets(*arguments, unmap_outputs=unmap_outputs, **settings)
        truth, anchors, counts = truth_of(batch_gt_instances), torch.cat(levels), [len(level) for level in levels]
        present = None if insides == [list(map(tuple, sizes))] * len(insides) else self._present(sizes, insides, anchors.device)
        some = groups(truth.boxes, len(anchors))
        owners = torch.cat(
            [self._owners(anchors, counts, truth.of(images), None if present is None else present[images]) for images in some]
        )
        return self._targets(anchors, counts, truth, owners, present)

    def _inside(self, sizes: Sequence[Size], shape: Sequence[int]) -> list[Size]:
        """Rows and columns of cells of each level inside an image of a padded shape."""
        return [
            (min(math.ceil(shape[0] / stride[1]), size[0]), min(math.ceil(shape[1] / stride[0]), size[1]))
            for size, stride in zip(sizes, self.prior_generator.strides, strict=True)
        ]

    def _enough(self, sizes: Sequence[Size], insides: Sequence[list[Size]]) -> bool:
        """Whether every level of every image has as many anchors as ATSS asks for, or the level has no more."""
        wanted = getattr(self.assigner, "topk", 0)
        return all(
            (rows, columns) == tuple(size) or rows * columns >= wanted
            for inside in insides
            for (rows, columns), size in zip(inside, sizes, strict=True)
        )

    def _present(self, sizes: Sequence[Size], insides: Sequence[list[Size]], device: torch.device) -> Tensor:
        """Whether an image has an anchor, which it has where its own padded shape reaches: bool (N, A)."""
        # Pinned, so that the copy is not waited for.
        inside = torch.tensor(insides, pin_memory=device.type == "cuda").to(device, non_blocking=True)  # (N, L, 2)
        flags = []
        for level, ((rows, columns), each) in enumerate(zip(sizes, self.prior_generator.num_base_priors, strict=True)):
            down = torch.arange(rows, device=device) < inside[:, level, :1]  # (N, rows)
            across = torch.arange(columns, device=device) < inside[:, level, 1:]
            cells = (down[:, :, None] & across[:, None, :]).flatten(1)
            flags.append(cells[..., None].expand(-1, -1, each).flatten(1))
        return torch.cat(flags, 1)

    def _owners(self, anchors: Tensor, counts: list[int], truth: Objects, present: Tensor | None) -> Tensor:
        """The object of every anchor: long (N, A), negative where it has none."""
        assigner = self.assigner
        if isinstance(assigner, ATSSAssigner):
            return atss_owners(anchors, counts, truth, assigner.topk, present)
        below = assigner.neg_iou_thr
        negative = below if isinstance(below, tuple) else (0.0, below)
        least = assigner.min_pos_iou if assigner.match_low_quality else None
        return max_iou_owners(anchors, truth, assigner.pos_iou_thr, negative, least, present)

    def _targets(self, anchors: Tensor, counts: list[int], truth: Objects, owners: Tensor, present: Tensor | None) -> tuple[Any, ...]:
        """What mmdet's get_targets returns, from the object of every anchor."""
        positive, row = owners >= 0, owners.clamp(min=0)
        labels = torch.where(positive, truth.labels.gather(1, row), self.num_classes)
        weights = (owners != IGNORED).to(anchors.dtype)
        if self.train_cfg["pos_weight"] > 0:
            weights = torch.where(positive, self.train_cfg["pos_weight"], weights)
        if present is not None:
            weights = weights * present
        chosen = positive[..., None]
        boxes = truth.box_of(row)
        if self._encodes():
            own = anchors.expand(len(truth), -1, -1)
            boxes = torch.where(chosen, boxes, own)  # an anchor without an object is its own, which has deltas
            boxes = self.bbox_coder.encode(own.reshape(-1, 4), boxes.view(-1, 4)).view_as(boxes)
        targets = torch.where(chosen, boxes, 0)
        sides = chosen.to(anchors.dtype).expand(-1, -1, 4)
        positives = positive.sum(1).clamp(min=1).sum()
        return (*(list(part.split(counts, 1)) for part in (labels, weights, targets, sides)), positives)

    def _encodes(self) -> bool:
        """Whether box targets are coded deltas, or the boxes themselves."""
        return not self.reg_decoded_bbox


class _AnchorsToo(_Anchors):
    """Likewise of GFL's and ATSS's heads, whose targets begin with the anchors."""

    def _targets(self, anchors: Tensor, counts: list[int], truth: Objects, owners: Tensor, present: Tensor | None) -> tuple[Any, ...]:
        own = anchors.expand(len(truth), -1, -1)
        if present is not None:
            own = torch.where(present[..., None], own, 0)
        return (list(own.split(counts, 1)), *super()._targets(anchors, counts, truth, owners, present))

    def _encodes(self) -> bool:
        return not (isinstance(self, GFLHead) or self.reg_decoded_bbox)


class _Points(FCOSHead):
    """Likewise of FCOS's head."""

    @staticmethod
    def knows(head: Any) -> bool:
        """Every head that inherits FCOS's assignment."""
        return True

    def get_targets(self, points: list[Tensor], batch_gt_instances: list[Any]) -> tuple[list[Tensor], list[Tensor]]:
        """mmdet's labels and box targets, the images of a level one after another."""
        truth, places, counts = truth_of(batch_gt_instances), torch.cat(points), [len(level) for level in points]

        def of_levels(values: Sequence[float]) -> Tensor:
            return torch.cat([level.new_full((len(level),), value) for level, value in zip(points, values, strict=True)])

        least, most = (of_levels(bounds) for bounds in zip(*self.regress_ranges, strict=True))
        radius = of_levels([stride * self.center_sample_radius for stride in self.strides]) if self.center_sampling else None
        found = [point_owners(places, (least, most), truth.of(images), radius) for images in groups(truth.boxes, len(places))]
        owner, positive = (torch.cat(each) for each in zip(*found, strict=True))
        labels = torch.where(positive, truth.labels.gather(1, owner), self.num_classes)
        sides = torch.stack(sides_of(places, truth.box_of(owner)), -1) * truth.there[:, :1, None]  # (N, P, 4)
        levels = [part.flatten(0, 1) for part in sides.split(counts, 1)]
        if self.norm_on_bbox:
            levels = [part / stride for part, stride in zip(levels, self.strides, strict=True)]
        return [part.flatten() for part in labels.split(counts, 1)], levels
