"""Recipes as they train: the zoo's own schedules and images, and what mixup computes."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.optim import build_optim_wrapper
from mmengine.structures import InstanceData

from studies.catalog import ZOO
from studies.recipes import RECIPES, Optimizer, Pretraining, Recipe
from studies.spec import MethodUse, Network, Schedule
from studies.trial import TrialSpec
from workers.datasets.images import dataset_config, evaluation_images, input_size, training_images
from workers.detectors import build, describe, zoo_config
from workers.detectors.mixup import mix_until
from workers.distillation.student import DistilledDetector
from workers.training.member import Member
from workers.training.networks import networks
from workers.training.optimisation import optimisation
from workers.weights.store import store_beside

# Part of a zoo config's file name -> the recipe, first match.
NAMES = {"ms-640-800-2x": "ms-640-800-2x", "ms-2x": "ms-2x", "273e": "273e", "ssd512": "120e", "20e": "20e", "voc": "voc-12e"}
NAMES |= {"cityscapes": "cityscapes-64e", "_1x": "1x", "_2x": "2x"}
# (detector, backbone, form, dataset, config) of every network that the zoo trains and we offer.
TRAINED: list[tuple[str, str, str | None, str, str]] = [(*pair, None, "coco", model.config) for pair, model in ZOO.items()]
TRAINED += [("fcos", "resnet50", "centre_sampling", "coco", "fcos/fcos_r50-caffe_fpn_gn-head-center-normbbox-centeronreg-giou_1x_coco.py")]
TRAINED += [
    (detector, "resnet50", None, "voc", f"pascal_voc/{detector.replace('_', '-')}_r50_fpn_1x_voc0712.py")
    for detector in ("faster_rcnn", "retinanet")
]
TRAINED += [
    (detector, "resnet50", "cityscapes", "cityscapes", f"cityscapes/{detector.replace('_', '-')}_r50_fpn_1x_cityscapes.py")
    for detector in ("faster_rcnn", "mask_rcnn")
]
as_in_the_zoo = pytest.mark.parametrize(("detector", "backbone", "form", "dataset", "config"), TRAINED)


def recipe_of(config: str) -> str:
    return "25e" if config.startswith("grid_rcnn") else next(recipe for part, recipe in NAMES.items() if part in config)


def plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    return tuple(map(plain, value)) if isinstance(value, (list, tuple)) else value


def innermost(dataset: Any) -> Any:
    """The first dataset inside repetitions and concatenations."""
    inner = dataset.get("dataset") or next(iter(dataset.get("datasets", [])), None)
    return innermost(inner) if inner else dataset


@as_in_the_zoo
def test_a_network_trains_as_its_zoo_config_does(detector: str, backbone: str, form: str | None, dataset: str, config: str) -> None:
    zoo = zoo_config(config)
    network = Network(detector=detector, backbone=backbone, form=form)
    schedule = Schedule(recipe=recipe_of(config)).resolved("paper", network, dataset)
    ours = optimisation(schedule, network)
    theirs = {name: value for name, value in zoo.optim_wrapper.items() if value is not None}
    assert plain(ours["optim_wrapper"]) == plain(theirs)
    *warm_up, decay = ours["param_scheduler"]
    *their_warm_up, their_decay = zoo.param_scheduler
    assert plain(warm_up) == plain(their_warm_up)
    assert plain(decay) == {"begin": 0, "end": schedule.epochs} | plain(their_decay)
    assert schedule.batch_size == 8 * zoo.train_dataloader.batch_size  # its eight GPUs
    assert schedule.epochs == zoo.train_cfg.max_epochs
    assert schedule.val_interval == zoo.train_cfg.val_interval
    assert RECIPES[str(schedule.recipe)].passes == zoo.train_dataloader.dataset.get("times", 1)


@as_in_the_zoo
def test_a_network_sees_the_images_of_its_zoo_config(detector: str, backbone: str, form: str | None, dataset: str, config: str) -> None:
    zoo, recipe = zoo_config(config), RECIPES[recipe_of(config)]
    others = {"LoadImageFromFile", "LoadAnnotations", "PackDetInputs"}
    spec = trial(detector, backbone, scale="paper", dataset=dataset, form=form)
    theirs = [plain(dict(t)) for t in innermost(zoo.train_dataloader.dataset).pipeline]
    ours = [plain(t) for t in training_images(spec, recipe, mirror=True)]
    colours = {"brightness_delta": 32, "contrast_range": (0.5, 1.5), "saturation_range": (0.5, 1.5), "hue_delta": 18}  # mmdet's defaults
    assert ours == [{k: v for k, v in t.items() if k not in colours or colours[k] != v} for t in theirs if t["type"] not in others]
    manifest = {"masks": True, "mirror": True, "classes": ["a", "b"]}
    filtered = innermost(dataset_config(spec, Path("data"), "train", manifest, recipe))["filter_cfg"]
    theirs_filtered = dict(innermost(zoo.train_dataloader.dataset).filter_cfg)
    assert filtered == theirs_filtered | {"crowds_only": innermost(zoo.train_dataloader.dataset).type == "CityscapesDataset"}
    assert input_size(spec, recipe)[1] == (
        zoo.train_dataloader.get("batch_sampler") is not None
    )  # by aspect ratio, unless all have one shape
    tested = [plain(dict(t)) for t in innermost(zoo.val_dataloader.dataset).pipeline if t["type"] not in others]
    assert [plain(evaluation_images(spec, recipe))] == tested


def test_a_schedules_own_clip_decay_and_warm_up_are_what_trains() -> None:
    network = Network(detector="fcos", backbone="resnet50")
    own = optimisation(Schedule(clip=2, weight_decay=5e-4, warm_up=100).resolved("paper", network, "coco"), network)
    assert own["optim_wrapper"]["clip_grad"]["max_norm"] == 2
    assert own["optim_wrapper"]["optimizer"]["weight_decay"] == 5e-4
    assert own["param_scheduler"][0] == {"type": "ConstantLR", "factor": 1 / 3, "by_epoch": False, "begin": 0, "end": 100}
    without = optimisation(Schedule(clip=0, warm_up=0).resolved("paper", network, "coco"), network)
    assert "clip_grad" not in without["optim_wrapper"]
    assert [each["type"] for each in without["param_scheduler"]] == ["MultiStepLR"]
    parts = optimisation(Schedule(accumulate=4).resolved("paper", network, "coco"), network)
    assert parts["param_scheduler"][0]["end"] == 4 * 500  # it is stepped with every batch, and four of them are a step
    warmed = optimisation(Schedule(warm_up=50).resolved("paper", network, "voc"), network)  # the recipe has none
    assert warmed["param_scheduler"][0] == {"type": "LinearLR", "start_factor": 0.001, "by_epoch": False, "begin": 0, "end": 50}


def test_a_schedules_own_average_and_frozen_stages_are_what_trains(tmp_path: Path) -> None:
    network = Network(detector="gfl", backbone="resnet18", width=8)
    schedule = {"recipe": "1x", "epochs": 1, "batch_size": 4, "accumulate": 2, "lr": 0.01, "average": 0.9, "frozen_stages": 2}
    spec = TrialSpec(dataset="digits", scale="nano", network=network, schedule=Schedule.model_validate(schedule), seed=0)
    model = networks(spec, 10, store_beside(tmp_path))
    member = Member(model, spec, 10)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    member.begin_epoch(0)
    images = [torch.randint(0, 256, (3, 64, 64), dtype=torch.uint8) for _ in range(2)]
    for _ in range(4):
        member.learn(member.prepare({"inputs": images, "data_samples": samples(BOXES)}))
    assert member.average
    assert member.average.steps == 2  # of parts, two are a step
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    parts = tuple(f"backbone.{part}" for part in ("conv1.", "bn1.", "layer1.", "layer2."))
    assert frozen == {name for name in before if name.startswith(parts)}
    moved = {name for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])}
    assert not moved & frozen
    assert {"backbone.layer3.0.downsample.0.weight", "neck.lateral_convs.0.conv.weight"} <= moved
    everything = build(Network(detector="gfl", backbone="resnet50"), 80, frozen_stages=0).backbone
    assert all(parameter.requires_grad for parameter in everything.parameters())  # the zoo's has its first stage frozen


def test_pdf_distils_released_training_is_a_recipe() -> None:
    network = Network(detector="retinanet", backbone="resnet18", form="pdf_fpn")
    config = optimisation(Schedule(recipe="pdf-code-70e").resolved("paper", network, "voc"), network)
    warm_up, cosine = config["param_scheduler"]
    assert (warm_up["start_factor"], warm_up["end"], cosine["eta_min"]) == (0.1, 500, pytest.approx(1e-3))
    assert config["optim_wrapper"]["optimizer"] == {"type": "SGD", "lr": 0.01, "weight_decay": 5e-4, "momentum": 0.9}


def test_a_recipe_may_train_its_backbone_at_a_rate_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RECIPES, "slow", Recipe("slow", "a slow backbone", 1, "cosine", optimizer=Optimizer(0.1, 4, backbone_lr=0.25)))
    network = Network(detector="gfl", backbone="resnet18", width=8)
    config = optimisation(Schedule(recipe="slow").resolved("nano", network, "digits"), network)["optim_wrapper"]
    model = build(network, 10)
    for wrapped in (
        model,
        DistilledDetector(model, build(network, 10), [MethodUse(id="fitnet")], (describe(network, model),) * 2),
    ):
        optimizer = build_optim_wrapper(wrapped, config).optimizer
        rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
        for part, rate in ((model.backbone, 0.025), (model.neck, 0.1), (model.bbox_head, 0.1)):
            assert [rates[id(p)] for p in part.parameters()] == pytest.approx([rate] * len(list(part.parameters())))


def test_at_nano_weights_of_next_to_no_gradient_stay_and_others_take_steps_of_the_rate() -> None:
    network = Network(detector="retinanet", backbone="resnet18", width=8)
    config = optimisation(Schedule().resolved("nano", network, "digits"), network)["optim_wrapper"]
    model = torch.nn.ParameterDict({"seen": torch.zeros(1000), "empty": torch.zeros(1000)})
    wrapper = build_optim_wrapper(model, {**config, "paramwise_cfg": None})
    for _ in range(100):
        model["seen"].grad, model["empty"].grad = torch.full((1000,), 1e-3), torch.full((1000,), 1e-9)
        wrapper.step()
    assert model["seen"].mean().item() == pytest.approx(-0.4, rel=0.1)  # 100 steps at 4e-3
    assert abs(model["empty"].mean().item()) < 1e-4


def trial(detector: str, backbone: str, scale: Any = "nano", dataset: str = "digits", **changes: Any) -> TrialSpec:
    network = Network(detector=detector, backbone=backbone, **changes)
    return TrialSpec(dataset=dataset, scale=scale, network=network, schedule=Schedule(), seed=0)


def samples(boxes: list[list[list[float]]]) -> list[DetDataSample]:
    made = []
    for of_image in boxes:
        sample = DetDataSample(gt_instances=InstanceData(bboxes=torch.tensor(of_image), labels=torch.arange(len(of_image))))
        sample.set_metainfo({"img_shape": (128, 128)})
        made.append(sample)
    return made


BOXES = [[[8.0, 10, 60, 70], [70, 60, 110, 120]], [[30.0, 20, 90, 100]]]


def student(form: str = "pdf_fpn") -> tuple[Network, Any]:
    network = Network(detector="retinanet", backbone="resnet18", form=form, width=8)
    torch.manual_seed(0)
    return network, build(network, 10)


def mixed_batch(model: Any, seed: int) -> dict[str, Any]:
    torch.manual_seed(seed)
    np.random.seed(seed)
    images = [torch.randint(0, 256, (3, 128, 128), dtype=torch.uint8) for _ in BOXES]
    batch: dict[str, Any] = model.data_preprocessor({"inputs": images, "data_samples": samples(BOXES)}, training=True)
    return batch


def swapping_seed(model: Any) -> int:
    """A seed whose permutation of two images swaps them."""
    return next(seed for seed in range(50) if mixed_batch(model, seed)["data_samples"][0].metainfo["mixed"][1] == 1)


def test_a_mixed_image_learns_both_images_objects_in_their_shares() -> None:
    _, model = student()
    mix_until(model, 0, 10)
    seed = swapping_seed(model)
    batch = mixed_batch(model, seed)
    share = batch["data_samples"][0].metainfo["mixed"][0]
    model.data_preprocessor.mixing = False
    apart = mixed_batch(model, seed)
    assert 0 < share < 1
    torch.testing.assert_close(batch["inputs"], share * apart["inputs"] + (1 - share) * apart["inputs"].flip(0))
    model.eval()  # batch norm must not change between the three passes
    both = model(**batch, mode="loss")
    own = model(batch["inputs"], samples(BOXES), mode="loss")
    swapped = model(batch["inputs"], samples(BOXES[::-1]), mode="loss")
    for name, value in both.items():
        torch.testing.assert_close(value, share * own[name] + (1 - share) * swapped[name])


def test_a_distillers_loss_on_mixed_images_is_that_of_both_shares() -> None:
    network, model = student()
    teacher_network, teacher = student("pdf_pafpn")
    uses = [MethodUse(id="fitnet", options={"region": "gt_boxes"})]
    distilled = DistilledDetector(model, teacher, uses, (describe(network, model), describe(teacher_network, teacher)))
    mix_until(distilled, 0, 10)
    batch = mixed_batch(distilled, swapping_seed(distilled))
    share = batch["data_samples"][0].metainfo["mixed"][0]
    distilled.eval()
    value = {
        name: distilled(batch["inputs"], given, mode="loss")["loss_fitnet"]
        for name, given in {"both": batch["data_samples"], "own": samples(BOXES), "swapped": samples(BOXES[::-1])}.items()
    }
    assert value["own"] != value["swapped"]
    torch.testing.assert_close(value["both"], share * value["own"] + (1 - share) * value["swapped"])


def test_mixing_ends_after_four_fifths_of_the_epochs() -> None:
    _, model = student()
    mixing = []
    for epoch in range(10):
        mix_until(model, epoch, 10)
        mixing.append(model.data_preprocessor.mixing)
    assert mixing == [True] * 8 + [False] * 2


@pytest.mark.parametrize("recipe", [name for name in RECIPES if name not in {"pdf-140e", "pdf-code-140e", "cityscapes-64e"}])
def test_every_recipe_trains(recipe: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from workers.training.trial import run_trial

    if RECIPES[recipe].pretraining:
        monkeypatch.setitem(RECIPES, recipe, replace(RECIPES[recipe], pretraining=Pretraining(crops=64, steps=3, batch=8)))

    pdf = recipe.startswith("pdf")
    network = Network(detector="retinanet" if pdf else "gfl", backbone="resnet18", width=8, form="pdf_fpn" if pdf else None)
    schedule = Schedule(recipe=recipe, epochs=2, batch_size=4, max_iterations=2)
    spec = TrialSpec(dataset="digits", scale="nano", network=network, schedule=schedule.resolved("nano", network, "digits"), seed=0)
    reports: list[Any] = []
    run_trial(spec, tmp_path, data, reports.append)
    assert [each.epoch for each in reports] == [1, 2]
    rates = [each.metrics["lr"] for each in reports]
    assert all(0 <= rate <= spec.schedule.scaled_lr * 1.0001 for rate in rates)
