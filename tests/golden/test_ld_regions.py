"""Main region and valuable localization region against the released assigner, exactly."""

import numpy as np
import torch

from tests.golden.cases import Case, each_case
from workers.geometry.boxes import box_iou, diou
from workers.geometry.regions import atss_thresholds, vlr_mask, vlr_weights


def levels_and_boxes(case: Case, dtype: torch.dtype) -> tuple[list[torch.Tensor], torch.Tensor]:
    return list(case.tensor("anchors", dtype).split(case.params["num_per_level"])), case.tensor("gt", dtype)


def settings(case: Case) -> tuple[float, int]:
    """gamma and topk of a case; RetinaNet's does not state them."""
    return case.params.get("gamma", 0.25), case.params.get("topk", 9)


@each_case("ld_regions")
def test_overlaps(case: Case, dtype: torch.dtype) -> None:
    levels, gt = levels_and_boxes(case, dtype)
    anchors = torch.cat(levels)
    values = {
        "iou": box_iou(anchors, gt),
        "diou_true": diou(anchors, gt),
        "diou_code": diou(anchors, gt, released=True),
        "thr": atss_thresholds(levels, gt, box_iou(anchors, gt), settings(case)[1]),
    }
    for name, value in values.items():
        if name in case.arrays_out:
            np.testing.assert_allclose(value.numpy(), case.arrays_out[name], rtol=1e-4, atol=1e-6)
    if "n_iou05" in case.outputs:
        assert int((values["iou"].amax(1) >= 0.5).sum()) == case.outputs["n_iou05"]


@each_case("ld_regions")
def test_valuable_region(case: Case, dtype: torch.dtype) -> None:
    levels, gt = levels_and_boxes(case, dtype)
    weights = vlr_weights(levels, gt, True, *settings(case)).amax(1).numpy()
    np.testing.assert_array_equal(weights > 0, case.arrays_out["vlr_code"] > 0)
    np.testing.assert_allclose(weights, case.arrays_out["vlr_code"], rtol=1e-4, atol=1e-6)
    assert int((weights > 0).sum()) == case.outputs["n_vlr_code"]
    np.testing.assert_allclose(weights.sum(), case.outputs["vlr_weight_sum"], rtol=1e-4)
    if "vlr_paper_mask" in case.arrays_out:
        mask = vlr_mask(levels, gt, box_iou(torch.cat(levels), gt), False, *settings(case)).numpy()
        np.testing.assert_array_equal(mask, case.arrays_out["vlr_paper_mask"])
        assert int(mask.any(1).sum()) == case.outputs["n_vlr_paper"]


@each_case("ld_regions")
def test_main_region_is_what_the_students_assigner_gives(case: Case, dtype: torch.dtype) -> None:
    from mmdet.models.task_modules.assigners import ATSSAssigner
    from mmengine.structures import InstanceData

    levels, gt = levels_and_boxes(case, dtype)
    if "main_gt_inds" not in case.arrays_out:
        assert "n_main" not in case.outputs
        return
    predictions, truth = InstanceData(priors=torch.cat(levels)), InstanceData(bboxes=gt, labels=torch.zeros(len(gt), dtype=torch.long))
    assigned = ATSSAssigner(topk=case.params["topk"]).assign(predictions, [len(level) for level in levels], truth).gt_inds.numpy()
    np.testing.assert_array_equal(assigned, case.arrays_out["main_gt_inds"])
    main = assigned > 0
    assert int(main.sum()) == case.outputs["n_main"]
    code = vlr_weights(levels, gt, True, *settings(case)).amax(1).numpy() > 0
    paper = vlr_weights(levels, gt, False, *settings(case)).amax(1).numpy() > 0
    assert int((main & code).sum()) == case.outputs["n_main_and_vlr_code"]
    assert int((main & paper).sum()) == case.outputs["n_main_and_vlr_paper"]
