"""Every detector family, backbone and form at nano: builds, learns for a step, predicts, and is read by distillers as described."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor, nn

from studies.catalog import BACKBONES, DETECTORS, FORMS, ZOO, in_form, misfit_of, of_pdf_distil, start_of
from studies.methods import methods
from studies.parse import parse_study
from studies.problems import SpecError
from studies.spec import MethodUse, Network
from tests.workers import synthetic
from tests.workers.synthetic import SIDE
from workers.detectors import build, describe, model_config, zoo_config
from workers.detectors.distribution import REG_MAX, CentreDistanceCoder, expected_distances
from workers.detectors.pdf import Priors
from workers.distillation.captures import Assignment, Backbone, Recorder
from workers.distillation.student import DistilledDetector

CLASSES = 3


def nano(detector: str, form: str | None = None, backbone: str | None = None, width: int = 8) -> Network:
    """A network of the family on its first backbone."""
    return Network(detector=detector, form=form, width=width, backbone=backbone or in_form(detector, form).backbones[0])


NETWORKS = [nano(d) for d in DETECTORS] + [nano(d, f.id) for f in FORMS.values() for d in f.detectors]
# The families' own backbones are in the list above.
OTHER_BACKBONES = [nano("retinanet", backbone=b) for b in DETECTORS["retinanet"].backbones[1:]]
OTHER_BACKBONES += [nano("fcos", "pdf_fpn", b) for b in FORMS["pdf_fpn"].backbones or () if b != "resnet18"]


BOX_PREDICTORS = {"retinanet": "retina_reg", "fcos": "conv_reg", "atss": "atss_reg"}


def title(network: Network) -> str:
    return "-".join(filter(None, (network.detector, network.form, network.backbone)))


def batch(objects: bool = True) -> tuple[Tensor, list[Any]]:
    """Two random images with boxes and masks, or none, as mmdet's models take them."""
    inputs, samples = synthetic.batch(objects).values()
    return inputs, samples


def made(network: Network) -> Any:
    torch.manual_seed(0)
    return build(network, CLASSES)


def values(losses: dict[str, Any]) -> Iterator[Tensor]:
    """The losses one by one; mmdet gives some per level."""
    for name, value in losses.items():
        if "loss" in name:
            yield from value if isinstance(value, list) else [value]


def one_step(model: Any) -> Tensor:
    """The total loss before a step of gradient descent on it."""
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
    model.train()
    total = torch.stack([value.sum() for value in values(model.loss(*batch()))]).sum()
    total.backward()
    optimizer.step()
    return total.detach()


@pytest.mark.parametrize("network", [*NETWORKS, *OTHER_BACKBONES], ids=title)
def test_a_network_learns_for_a_step_and_predicts(network: Network) -> None:
    model = made(network)
    first = next(model.parameters()).detach().clone()
    assert torch.isfinite(one_step(model))
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())
    assert not torch.equal(first, next(model.parameters()))  # nothing is frozen at nano
    model.eval()
    with torch.no_grad():
        found = model.predict(*batch())
    assert len(found) == 2
    for image in found:
        instances = image.pred_instances
        assert instances.bboxes.shape == (len(instances), 4)
        assert torch.isfinite(instances.bboxes).all()
        clipped = network.detector not in {"grid_rcnn", "yolov3"}  # these predict beyond the image too
        assert not clipped or (instances.bboxes.clamp(0, SIDE) == instances.bboxes).all()
        assert (instances.labels < CLASSES).all()
        assert ("masks" in instances) == ("masks" in DETECTORS[network.detector].traits)


@pytest.mark.parametrize("network", NETWORKS, ids=title)
def test_a_network_without_objects_in_its_images_has_a_loss(network: Network) -> None:
    model = made(network).train()
    assert all(torch.isfinite(value).all() for value in values(model.loss(*batch(objects=False))))


@pytest.mark.parametrize("network", NETWORKS, ids=title)
def test_what_is_recorded_has_the_described_form(network: Network) -> None:
    model = made(network).train()
    offered = in_form(network.detector, network.form)
    info = describe(network, model)
    assert in_form(info.detector, info.form, info.backbone) == network.family
    assert info.strides == offered.strides[: len(info.strides)]
    assert len(info.strides) == len(offered.strides) - 2 * (network.detector == "ssd")  # its last two levels do not fit 128 pixels
    assert info.stages == ("two" if "roi_head" in offered.traits else "one")
    assert (info.bins == REG_MAX + 1) == ("distribution" in offered.traits)
    dense = "dense_logits" in offered.traits
    assigned = dense and not of_pdf_distil(network.form)  # Mutual Guidance assigns classes and boxes apart
    recorder = Recorder(model, frozenset({Backbone, Assignment}) if assigned else frozenset({Backbone}))
    model.loss(*batch())
    outputs = recorder.take()
    assert tuple(m.shape[1] for m in outputs.neck) == info.neck_channels
    assert tuple(m.shape[1] for m in outputs.of(Backbone)) == info.backbone_channels
    assert tuple(SIDE // m.shape[-1] for m in outputs.neck) == info.strides
    if not dense:
        return
    classes, count = info.classes, info.anchors_per_cell
    assert all(m.shape[1] == count * classes for m in outputs.logits)
    assert all(m.shape[1] == count * 4 * (info.bins or 1) for m in outputs.boxes)
    assert (outputs.centerness is not None) == (
        network.detector in {"fcos", "atss"} and network.form in {None, "distribution", "centre_sampling"}
    )
    if not assigned:
        return
    targets = outputs.of(Assignment)
    for labels, weights, logits in zip(targets.labels, targets.label_weights, outputs.logits, strict=True):
        assert labels.shape == weights.shape == (2, logits.shape[-2] * logits.shape[-1] * count)
        assert labels.min() >= 0
        assert labels.max() <= classes
    assert sum(int((labels < classes).sum()) for labels in targets.labels) > 0
    if network.detector != "reppoints":  # it assigns by the boxes it predicts first
        assert torch.equal(targets.labels[0][0], targets.labels[0][1])  # both images have the same boxes


def modules_of(network: Network) -> list[tuple[str, str]]:
    """Name and kind of every module, of the network built without memory; a resized class counts as what it resizes."""
    from workers.evaluation.costs import on_paper

    return [(name, type(module).__name__.removeprefix("Resized")) for name, module in on_paper(network, CLASSES).named_modules()]


@pytest.mark.parametrize("network", [n for n in NETWORKS if n.detector != "ssd"], ids=title)
def test_nano_has_the_graph_of_the_paper_size(network: Network) -> None:
    paper = network.model_copy(update={"width": None})
    assert modules_of(network) == modules_of(paper)


@pytest.mark.parametrize("backbone", [b for b in DETECTORS["gfl"].backbones if b not in {"resnet50", "resnet101"}])
def test_a_zoo_detector_stands_on_every_backbone_at_paper_size(backbone: str) -> None:
    from workers.evaluation.costs import on_paper, parameter_counts

    counts = parameter_counts(on_paper(Network(detector="gfl", backbone=backbone), CLASSES))
    assert counts["trainable_parameters"] < counts["parameters"]  # stem and first stage are frozen


def test_the_catalogue_names_zoo_models_as_their_metafiles_do() -> None:
    import mmdet

    zoo = Path(mmdet.__file__).parent / ".mim" / "configs"
    published: dict[str, dict[str, float]] = {}
    for folder in {model.config.split("/")[0] for model in ZOO.values()}:
        content = yaml.safe_load((zoo / folder / "metafile.yml").read_text())
        for model in content["Models"] if isinstance(content, dict) else content:
            results = {result["Task"]: next(iter(result["Metrics"].values())) for result in model["Results"]}
            published[model["Config"].removeprefix("configs/")] = results
    for pair, model in ZOO.items():
        assert pair[1] in DETECTORS[pair[0]].backbones
        found = published[model.config]
        assert found["Object Detection"] == model.ap, model.config
        assert found.get("Instance Segmentation") == model.mask_ap, model.config


def test_every_offered_name_is_in_the_catalogue() -> None:
    for detector in DETECTORS:
        for form in (None, *(f.id for f in FORMS.values() if detector in f.detectors)):
            for backbone in in_form(detector, form).backbones:
                assert backbone in BACKBONES
                assert misfit_of(detector, backbone, form) is None


@pytest.mark.parametrize(
    ("student", "field", "says"),
    [
        (
            {"detector": "yolov3", "backbone": "resnet50"},
            "student.backbone",
            "YOLOv3 is not offered on ResNet-50; its backbones: darknet53",
        ),
        ({"detector": "retinanet", "backbone": "vgg16"}, "student.backbone", "RetinaNet is not offered on VGG-16"),
        ({"detector": "fcos", "backbone": "resnet50", "form": "pdf_fpn"}, "student.backbone", "FCOS in the form 'pdf_fpn' is not offered"),
        (
            {"detector": "gfl", "backbone": "resnet50", "form": "distribution"},
            "student.form",
            "GFL has no form 'distribution'; its forms: ciou",
        ),
        ({"detector": "dynamic_rcnn", "backbone": "resnet50", "form": "ciou"}, "student.form", "has no form 'ciou'; leave `form` out"),
        ({"detector": "atss", "backbone": "resnet50", "form": "pdf_fpn"}, "student.form", "its forms: distribution"),
        ({"detector": "atss", "backbone": "resnet50", "form": "distributions"}, "student.form", "did you mean 'distribution'?"),
    ],
)
def test_a_network_of_parts_that_do_not_fit_is_refused(student: dict[str, str], field: str, says: str) -> None:
    with pytest.raises(SpecError) as refused:
        parse_study({"name": "n", "dataset": "digits", "student": student, "arms": [{"id": "plain"}]})
    assert [problem.field for problem in refused.value.problems] == [field]
    assert says in refused.value.problems[0].message


def test_a_teacher_that_does_not_fit_is_refused_in_its_arm() -> None:
    arm = {"id": "a", "distiller": "fitnet", "teacher": {"detector": "ssd", "backbone": "resnet18"}}
    with pytest.raises(SpecError, match="SSD is not offered on ResNet-18") as refused:
        parse_study({"name": "n", "dataset": "digits", "student": {"detector": "gfl", "backbone": "resnet18"}, "arms": [arm]})
    assert "arms.0.teacher.backbone" in [problem.field for problem in refused.value.problems]


@pytest.mark.parametrize("detector", FORMS["distribution"].detectors)
def test_ld_fits_the_form_with_distributions_and_not_the_plain_family(detector: str) -> None:
    ld = methods()["ld"]
    plain, form = in_form(detector, None), in_form(detector, "distribution")
    assert ld.misfit(form, form, ld.options()) is None
    assert "distributions over bins" in (ld.misfit(plain, plain, ld.options()) or "")
    assert "teacher" in (ld.misfit(form, plain, ld.options()) or "")
    scores = ld.options(main_ld=False, main_kd=True)
    assert ld.misfit(plain, plain, scores) is None
    mutual = in_form("fcos", "pdf_fpn")
    assert "makes two" in (ld.misfit(mutual, mutual, scores) or "")
    crossed = methods()["crosskd"]
    assert "not as distributions" in (crossed.misfit(form, form, crossed.options()) or "")


@pytest.mark.parametrize("detector", FORMS["distribution"].detectors)
def test_ld_distils_the_form_with_distributions(detector: str) -> None:
    networks = nano(detector, "distribution", "resnet18"), nano(detector, "distribution", "resnet34", 16)
    student, teacher = (made(n) for n in networks)
    for parameter in teacher.bbox_head.parameters():
        if parameter.dim() == 4:
            nn.init.normal_(parameter, std=0.1)  # an opinion: both start from logits near zero
    use = MethodUse(id="ld", options={"main_kd": True, "vlr_ld": True})
    model = DistilledDetector(student, teacher, [use], (describe(networks[0], student), describe(networks[1], teacher))).train()
    losses = model(*batch(), mode="loss")
    own = [losses[name] for name in ("loss_ld", "loss_ld_vlr", "loss_ld_kd")]
    assert all(torch.isfinite(value) and value > 0 for value in own)
    torch.stack(own).sum().backward()  # type: ignore[no-untyped-call]
    assert getattr(model.student.bbox_head, BOX_PREDICTORS[detector]).weight.grad.abs().sum() > 0
    assert all(p.grad is None for p in model.teacher.parameters())


@pytest.mark.parametrize("detector", FORMS["distribution"].detectors)
def test_a_head_that_is_sure_of_bin_two_predicts_boxes_of_four_strides(detector: str) -> None:
    model = made(nano(detector, "distribution")).eval()
    model.bbox_head.test_cfg.score_thr = 0.0
    predictor = getattr(model.bbox_head, BOX_PREDICTORS[detector])
    with torch.no_grad():
        predictor.weight.zero_()
        predictor.bias.fill_(-50.0)
        predictor.bias.view(-1, REG_MAX + 1)[:, 2] = 50.0
        boxes = model.predict(*batch())[0].pred_instances.bboxes
    inside = boxes[(boxes > 0).all(1) & (boxes < SIDE).all(1)]
    assert len(inside) > 0
    width, height = (inside[:, 2:] - inside[:, :2]).unbind(1)
    torch.testing.assert_close(width, height)
    levels = torch.log2(width / (4 * 8))
    torch.testing.assert_close(levels, levels.round(), rtol=0, atol=1e-4)


def test_boxes_of_gfl_learn_by_giou_or_by_ciou_and_nothing_else_differs() -> None:
    plain, ciou = (model_config(nano("gfl", form), CLASSES) for form in (None, "ciou"))
    assert (plain.bbox_head.loss_bbox.type, ciou.bbox_head.pop("loss_bbox")) == ("GIoULoss", {"type": "CIoULoss", "loss_weight": 2.0})
    plain.bbox_head.pop("loss_bbox")
    assert plain == ciou


@pytest.mark.parametrize("detector", FORMS["cityscapes"].detectors)
def test_the_form_for_cityscapes_is_the_zoos_network_for_it(detector: str) -> None:
    ours = model_config(Network(detector=detector, backbone="resnet50", form="cityscapes"), 8)
    theirs = zoo_config(f"cityscapes/{detector.replace('_', '-')}_r50_fpn_1x_cityscapes.py").model
    assert ours == theirs
    assert start_of(detector, "resnet50", "cityscapes") == f"zoo/{detector.replace('_', '-')}_r50_fpn_1x_coco"


@pytest.mark.parametrize("detector", ["yolov3", "ssd"])
@pytest.mark.parametrize(
    ("method", "says"), [("fgfi", "equally many priors"), ("defeat", "fine to coarse"), ("ofd", "four residual stages")]
)
def test_methods_that_need_a_usual_pyramid_refuse_other_families(detector: str, method: str, says: str) -> None:
    declared, family = methods()[method], DETECTORS[detector]
    assert says in (declared.misfit(family, family, declared.options()) or "")


@pytest.mark.parametrize(("student", "fits"), [("resnet18", True), ("shufflenetv2_0.5", False)])
def test_ofd_asks_for_residual_stages_of_the_network_not_of_its_family(student: str, fits: bool) -> None:
    pair = in_form("fcos", "pdf_fpn", student), in_form("fcos", "pdf_pafpn", "resnet34")
    sentence = methods()["ofd"].misfit(*pair, methods()["ofd"].options())
    assert sentence is None if fits else "which FCOS on ShuffleNetV2 0.5x does not have" in (sentence or "")


def test_expected_distances_of_certain_sides() -> None:
    logits = torch.full((1, 2 * 4 * 17, 1, 1), -50.0)
    for side, bin_ in enumerate((1, 2, 3, 4, 16, 0, 5, 5)):
        logits[0, side * 17 + bin_] = 50.0
    assert expected_distances(logits, 8)[0, :, 0, 0].tolist() == pytest.approx([8, 16, 24, 32, 128, 0, 40, 40])
    box = CentreDistanceCoder().decode(torch.tensor([[10.0, 10.0, 30.0, 50.0]]), torch.tensor([[8.0, 16.0, 24.0, 32.0]]))
    assert box.tolist() == [[12.0, 14.0, 44.0, 62.0]]


def test_priors_of_pdf_distil_at_its_input_size() -> None:
    sizes = [(side, side) for side in (40, 20, 10, 5)]
    priors = Priors(anchors=True)
    relative, _ = priors.relative(sizes, "cpu")
    assert len(relative) == 6 * (1600 + 400 + 100 + 25)
    assert relative[0].tolist() == pytest.approx([0.5 / 40, 0.5 / 40, 24 / 320, 24 / 320])
    assert relative[1].tolist()[2:] == pytest.approx([24 / 320 * 2**0.5, 24 / 320 / 2**0.5])
    assert relative[-1].tolist()[:2] == pytest.approx([0.9, 0.9])
    assert relative.max() == 1  # the largest are as wide as the image, not wider
    levels = priors.grid_priors(sizes)
    assert [len(level) for level in levels] == [6 * 1600, 6 * 400, 6 * 100, 6 * 25]
    assert levels[0][0].tolist() == pytest.approx([4 - 12, 4 - 12, 4 + 12, 4 + 12])
    assert len(Priors(anchors=False).relative(sizes, "cpu")[0]) == 2125


def test_pdf_backbones_have_published_stages_at_full_size() -> None:
    from workers.evaluation.costs import on_paper

    for backbone, stages in {"resnet34": (256, 512), "shufflenetv2_0.5": (96, 192), "shufflenetv2_1.0": (232, 464)}.items():
        model = on_paper(Network(detector="fcos", backbone=backbone, form="pdf_pafpn"), 20)
        outputs = model.backbone(torch.empty(1, 3, 320, 320, device="meta"))
        assert [tuple(m.shape[1:]) for m in outputs] == [(stages[0], 40, 40), (stages[1], 20, 20)]
        assert [tuple(m.shape[2:]) for m in model.neck(outputs)] == [(40, 40), (20, 20), (10, 10), (5, 5)]
        assert not any(isinstance(m, nn.MaxPool2d) for m in model.backbone.modules())


@pytest.mark.parametrize("detector", FORMS["doubled"].detectors)
@pytest.mark.parametrize("width", [None, 8])
def test_the_doubled_form_has_twice_the_channels_in_backbone_neck_and_head(detector: str, width: int | None) -> None:
    from workers.evaluation.costs import on_paper, parameter_counts

    networks = [Network(detector=detector, backbone=DETECTORS[detector].backbones[0], width=width, form=form) for form in (None, "doubled")]
    plain, doubled = (on_paper(network, CLASSES) for network in networks)
    predicting = ("bbox_head.convs_pred", "bbox_head.cls_convs", "bbox_head.reg_convs")  # as many outputs as classes and boxes
    for (name, ours), theirs in zip(plain.named_modules(), doubled.modules(), strict=True):
        if isinstance(ours, nn.Conv2d):
            assert theirs.in_channels == (3 if ours.in_channels == 3 else 2 * ours.in_channels), name
            assert theirs.out_channels == (1 if name.startswith(predicting) else 2) * ours.out_channels, name
    more, less = (sum(parameter_counts(part)["parameters"] for part in (model.backbone, model.neck)) for model in (doubled, plain))
    assert more / less == pytest.approx(4, rel=0.02)
    first, second = (model_config(network, CLASSES).data_preprocessor for network in networks)
    assert first == second  # the student's pixels are the teacher's


def test_twice_the_width_is_twice_the_channels_of_a_family_that_narrows_as_a_whole() -> None:
    student, teacher = (model_config(nano("yolov3", width=width), CLASSES) for width in (8, 16))
    assert [2 * channels for channels in student.neck.out_channels] == list(teacher.neck.out_channels)


@pytest.mark.parametrize("detector", ["retinanet", "fsaf"])
def test_hidden_layers_of_a_narrow_head_keep_the_size_of_their_input(detector: str) -> None:
    head = made(nano(detector)).bbox_head
    features = torch.randn(2, 32, 16, 16)
    hidden = features
    for layer in head.cls_convs:
        hidden = layer(hidden)
    assert 0.2 < (hidden.square().mean() / features.square().mean()).sqrt() < 3  # 0.0002 with the zoo's standard deviation


def test_last_layers_of_a_narrow_head_start_as_the_zoos() -> None:
    for detector, scores in {
        "gfl": "gfl_cls",
        "retinanet": "retina_cls",
        "fcos": "conv_cls",
        "atss": "atss_cls",
        "fsaf": "retina_cls",
    }.items():
        last = getattr(made(nano(detector)).bbox_head, scores)
        assert last.weight.std().item() == pytest.approx(0.01, rel=0.1)
        assert last.bias.sigmoid().tolist() == pytest.approx([0.01] * len(last.bias))
    assert made(nano("fsaf")).bbox_head.retina_reg.bias.tolist() == [0.25] * 4
