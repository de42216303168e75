"""Mutual Guidance of a batch against the released rule, image by image and box by box, on random scenes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from workers.detectors.mutual_guidance import IGNORED, NEAREST, POSITIVE, SIGMA, Form, Match, centerness, corners, decode, mutual_match
from workers.detectors.pdf import Priors
from workers.geometry.boxes import box_iou
from workers.geometry.padded import objects

IMAGES, CLASSES = 4, 5


def best_only(overlap: Tensor) -> Tensor:
    return torch.where(overlap == overlap.amax(0), overlap, 0)


def one_image(gt: Tensor, labels: Tensor, priors: Tensor, deltas: Tensor, logits: Tensor, form: Form, anchors: bool) -> Match:
    """As released: loops over the boxes of an image."""
    if len(gt) == 0:
        nothing, nobody = torch.zeros(len(priors)), torch.zeros(len(priors), dtype=torch.long)
        return Match(nothing, nobody, nothing, nobody)
    overlap = box_iou(gt, corners(priors)) if anchors else centerness(gt, priors)
    predicted, score = box_iou(gt, decode(deltas, priors)), logits.sigmoid().t()[labels]
    guided = (overlap * (score / SIGMA).exp()).clamp(max=1) if form == "capped" else overlap ** ((SIGMA - score) / SIGMA)
    if form == "accv":
        overlap, predicted, guided = (best_only(o.scatter(1, o.argmax(1, keepdim=True), 1.0)) for o in (overlap, predicted, guided))
        for box in range(len(gt)):
            ignored, positive = int((overlap[box] >= 0.4).sum()), int((overlap[box] >= 0.5).sum())
            chosen = predicted[box].topk(positive).indices
            predicted[box, predicted[box].topk(ignored).indices] = IGNORED
            predicted[box, chosen] = POSITIVE
            guided[box, guided[box].topk(positive).indices] = POSITIVE
    else:
        predicted, guided = best_only(predicted), best_only(guided)
        for quality in (predicted, guided):
            wanted = quality.topk(NEAREST[anchors], 1).values.sum(1).int().clamp(min=1).tolist()
            for row, count in zip(quality, wanted, strict=True):
                row[row.topk(min(count, int((row > 0).sum())) if form == "capped" else count).indices] += POSITIVE
    return Match(*predicted.max(0), *guided.max(0))


def check(form: Form, anchors: bool, seeds: range) -> None:
    priors, _ = Priors(anchors).relative([(12, 16), (6, 8), (3, 4), (2, 2)], "cpu")
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed)
        boxes, labels = [], []
        for _ in range(IMAGES):
            count = int(torch.randint(0, 9, (1,), generator=generator))
            corner = torch.rand(count, 2, generator=generator) * 0.8
            sides = 0.02 + 0.5 * torch.rand(count, 2, generator=generator).square()
            boxes.append(torch.cat([corner, (corner + sides).clamp(max=1)], 1))
            labels.append(torch.randint(0, CLASSES, (count,), generator=generator))
        deltas = torch.randn(IMAGES, len(priors), 4, generator=generator)
        logits = torch.randn(IMAGES, len(priors), CLASSES, generator=generator)
        batched = mutual_match(objects(boxes, labels), priors, deltas, logits, form, anchors)
        for image, (gt, of) in enumerate(zip(boxes, labels, strict=True)):
            alone = one_image(gt, of, priors, deltas[image], logits[image], form, anchors)
            for name, value in vars(alone).items():
                assert torch.equal(getattr(batched, name)[image], value), f"seed {seed}, image {image}: {name}"


FORMS: list[tuple[Form, bool]] = [("accv", True), ("dynamic", True), ("dynamic", False), ("capped", True)]
every_form = pytest.mark.parametrize(("form", "anchors"), FORMS)


@every_form
def test_a_batch_is_assigned_as_its_images(form: Form, anchors: bool) -> None:
    check(form, anchors, range(10))


@pytest.mark.slow
@every_form
def test_a_thousand_scenes_are_assigned_as_their_images(form: Form, anchors: bool) -> None:
    check(form, anchors, range(1000, 1000 + 1000 // IMAGES))
