"""The terms of Localization Distillation on one level against the released GFL and RetinaNet heads."""

import torch
from torch import nn

from studies.spec import MethodUse
from tests.golden.cases import Case, check, each_case
from workers.distillation.captures import Assignment
from workers.distillation.step import NetworkInfo, Outputs, Step, Targets
from workers.distillation.student import build_distiller
from workers.distillers.ld import LD, box_divergence, confidence
from workers.geometry.levels import rows


def step_of(case: Case, dtype: torch.dtype) -> Step:
    """The case as the training step that an LD distiller sees."""
    student = Outputs(
        neck=(case.tensor("reg", dtype),), logits=(case.tensor("cls", dtype, grad=True),), boxes=(case.tensor("reg", dtype, grad=True),)
    )
    teacher = Outputs(neck=student.neck, logits=(case.tensor("tcls", dtype),), boxes=(case.tensor("treg", dtype),))
    images = len(student.logits[0])
    labels = case.tensor("labels", dtype).view(images, -1)
    student.captured[Assignment] = Targets((labels,), (torch.ones_like(labels, dtype=dtype),))
    anchors = case.tensor("anchors", dtype).view(images, -1, 4)[0]
    stride = case.params["stride"]
    return Step(
        student,
        teacher,
        gt_boxes=[anchors.new_zeros(0, 4)] * images,
        gt_labels=[labels.new_zeros(0)] * images,
        image_shape=(case.params["H"] * stride, case.params["W"] * stride),
        iteration=0,
        anchors=lambda: [anchors],
    )


def distiller(case: Case, **options: object) -> LD:
    bins = case.arrays_in["reg"].shape[1] // 4
    info = NetworkInfo("gfl", "", "one", (4 * bins,), (), (case.params["stride"],), case.params["K"], 1, bins, nn.Identity())
    made = build_distiller(MethodUse(id="ld", options=options), info, info)
    assert isinstance(made, LD)
    return made


@each_case("ld_head")
def test_terms_of_the_gfl_head(case: Case, dtype: torch.dtype) -> None:
    step = step_of(case, dtype)
    inputs = [*step.student.logits, *step.student.boxes]
    method = distiller(case, main_ld=True, main_kd=True)
    losses = method(step)
    check(case.outputs["loss_ld"], losses["loss_ld"], dtype, inputs)
    check(case.outputs["loss_kd"], losses["loss_ld_kd"], dtype, inputs)

    vlr = case.tensor("vlr", dtype).view(len(inputs[0]), -1)
    where = (vlr > 0).nonzero(as_tuple=True)
    value = method.options.vlr_weight * method.box_loss(step, (where, vlr[where]))
    check(case.outputs["loss_ld_vlr"], value, dtype, inputs)


@each_case("ld_head")
def test_weight_sum_divides_the_summed_loss(case: Case, dtype: torch.dtype) -> None:
    step = step_of(case, dtype)
    summed, divided = (distiller(case, average=average)(step)["loss_ld"] for average in ("none", "weight_sum"))
    check(case.outputs["avg_factor_weight_sum"], summed / divided, dtype)
    positives = (step.student.of(Assignment).labels[0] < case.params["K"]).flatten()
    scores = step.student.logits[0].permute(0, 2, 3, 1).flatten(0, 2)
    check(case.outputs["avg_factor_weight_sum"], confidence(scores)[positives].sum(), dtype)


@each_case("ld_head")
def test_joint_and_separate_sides_of_the_retinanet_head(case: Case, dtype: torch.dtype) -> None:
    step = step_of(case, dtype)
    positives = step.student.of(Assignment).labels[0] < case.params["K"]
    where = positives.view(len(positives), -1).nonzero(as_tuple=True)
    ours, theirs = (rows(outputs.boxes[0], outputs.boxes[0].shape[1])[where] for outputs in (step.student, step.teacher))
    for name, joint in (("retina_code_joint68", True), ("retina_per_side17", False)):
        value = 5 * (0.5 * box_divergence(ours, theirs, 10.0, joint)).sum()
        check(case.outputs[name], value, dtype, list(step.student.boxes))
