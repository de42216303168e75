"""What an evaluation between epochs leaves out, and that it changes nothing else."""

import pytest
import torch

from studies.spec import Network
from tests.workers.synthetic import batch
from workers.detectors import build
from workers.training.evaluating import without_masks


@pytest.mark.parametrize("detector", ["mask_rcnn", "cascade_mask_rcnn"])
def test_without_masks_a_detector_finds_the_same_boxes_and_has_its_masks_again_afterwards(detector: str) -> None:
    torch.manual_seed(0)
    model = build(Network(detector=detector, backbone="resnet18", width=8), 3).eval()
    model.test_cfg.rcnn.score_thr = 0.0  # nothing is learnt: every score is low
    before = list(model.state_dict())
    images = batch()
    with torch.no_grad():
        whole = model.val_step(images)
        with without_masks(model):
            boxes = model.val_step(images)
    for one, other in zip(whole, boxes, strict=True):
        assert "masks" in one.pred_instances
        assert "masks" not in other.pred_instances
        assert len(one.pred_instances) == 100
        torch.testing.assert_close(one.pred_instances.bboxes, other.pred_instances.bboxes)
        torch.testing.assert_close(one.pred_instances.scores, other.pred_instances.scores)
    assert list(model.state_dict()) == before
