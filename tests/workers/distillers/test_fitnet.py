"""FitNet: the value by hand, the region, the switch, and what backward reaches."""

import pytest
import torch

from studies.catalog import DETECTORS, Detector
from studies.methods.fitnet import METHOD, FitNetOptions
from tests.workers.synthetic import Scene, scene
from workers.distillation.imitation import hint_loss
from workers.distillers.fitnet import FitNet, gt_mask


def fitnet(scene: Scene, **options: object) -> FitNet:
    torch.manual_seed(1)
    return FitNet(FitNetOptions.model_validate(options), scene.student, scene.teacher)


def test_it_sums_the_levels_mean_squares_behind_their_own_adapters() -> None:
    s = scene()
    method = fitnet(s)
    expected = sum((t - a(f)).square().mean() for t, f, a in zip(s.step.teacher.neck, s.step.student.neck, method.adapters, strict=True))
    assert method(s.step)["loss_fitnet"].item() == pytest.approx(expected.item(), rel=1e-6)
    assert len({id(a) for a in method.adapters}) == 3


@pytest.mark.parametrize("region", ["whole", "gt_boxes"])
def test_averaging_over_cells_weighs_each_level_by_its_cells(region: str) -> None:
    s = scene()
    method = fitnet(s, region=region, average="cells")
    total, count = 0.0, 0.0
    for t, f, a, stride in zip(s.step.teacher.neck, s.step.student.neck, method.adapters, s.student.strides, strict=True):
        mask = gt_mask(s.step.gt_boxes, f, stride) if region == "gt_boxes" else torch.ones_like(f[:, 0])
        total += ((t - a(f)).square().mean(1) * mask).sum().item()
        count += mask.sum().item()
    assert method(s.step)["loss_fitnet"].item() == pytest.approx(total / count, rel=1e-5)


def test_equal_channels_keep_the_adapter() -> None:
    assert all(isinstance(a, torch.nn.Conv2d) for a in fitnet(scene(teacher_channels=6)).adapters)


def test_the_gt_region_ignores_what_lies_outside_the_boxes() -> None:
    s = scene()
    method = fitnet(s, region="gt_boxes")
    before = method(s.step)["loss_fitnet"]
    with torch.no_grad():
        s.step.teacher.neck[0][0, :, 0, 7] += 100  # cell centre (60, 4): in no box
        s.step.teacher.neck[0][1] += 100  # the second image has no box
    assert method(s.step)["loss_fitnet"].item() == pytest.approx(before.item())
    with torch.no_grad():
        s.step.teacher.neck[0][0, :, 1, 1] += 100  # cell centre (12, 12): in the first box
    assert method(s.step)["loss_fitnet"].item() > before.item() + 100


def test_the_masked_mean_is_over_the_chosen_cells_and_all_channels() -> None:
    teacher, student, mask = torch.zeros(1, 3, 2, 2), torch.ones(1, 3, 2, 2), torch.zeros(1, 2, 2)
    student[0, :, 1, 1] = 5.0
    mask[0, 1, 1] = mask[0, 0, 0] = 1.0
    assert hint_loss(teacher, student, mask).item() == 13.0
    assert hint_loss(teacher, student).item() == 7.0


@pytest.mark.parametrize("region", ["whole", "gt_boxes"])
def test_backward_reaches_the_neck_and_every_adapter(region: str) -> None:
    s = scene()
    method = fitnet(s, region=region)
    losses = method(s.step)
    assert s.reached(losses) == {"neck"}
    losses["loss_fitnet"].backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in method.parameters())


def test_no_objects_give_zero_in_the_gt_region() -> None:
    s = scene(objects=False)
    losses = fitnet(s, region="gt_boxes")(s.step)
    assert losses["loss_fitnet"].item() == 0
    assert s.reached(losses) == set()


def test_one_stage_and_two_stage_pyramids_do_not_match() -> None:
    one = DETECTORS["gfl"]
    two = Detector("two", "Two-stage", "", frozenset({"neck", "roi_head"}), strides=(4, 8, 16, 32, 64))
    assert METHOD.misfit(one, DETECTORS["retinanet"], FitNetOptions()) is None
    assert "strides" in (METHOD.misfit(one, two, FitNetOptions()) or "")
