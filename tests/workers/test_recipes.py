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
from workers.data import training_images
from workers.detectors import build, describe, zoo_config
from workers.distill import DistilledDetector
from workers.mixup import mix_until
from workers.optimisation import optimisation

# Part of a zoo config's file name -> the recipe, first match.
NAMES = {"ms-640-800-2x": "ms-640-800-2x", "ms-2x": "ms-2x", "273e": "273e", "ssd512": "120e", "20e": "20e", "_1x": "1x", "_2x": "2x"}


def recipe_of(config: str) -> str:
    return "25e" if config.startswith("grid_rcnn") else next(recipe for part, recipe in NAMES.items() if part in config)


def plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    return tuple(map(plain, value)) if isinstance(value, (list, tuple)) else value


@pytest.mark.parametrize(("detector", "backbone"), ZOO)
def test_a_network_trains_as_its_zoo_config_does(detector: str, backbone: str) -> None:
    path = ZOO[detector, backbone].config
    zoo = zoo_config(path)
    network = Network(detector=detector, backbone=backbone)
    schedule = Schedule(recipe=recipe_of(path)).resolved("paper", network, "coco")
    ours = optimisation(schedule, network)
    assert plain(ours["optim_wrapper"]) == plain(dict(zoo.optim_wrapper))
    warm_up, decay = ours["param_scheduler"]
    assert plain(warm_up) == plain(zoo.param_scheduler[0])
    assert plain(decay) == {"begin": 0, "end": schedule.epochs} | plain(zoo.param_scheduler[1])
    assert schedule.batch_size == zoo.auto_scale_lr.base_batch_size
    assert schedule.epochs == zoo.train_cfg.max_epochs
    data = zoo.train_dataloader.dataset
    assert RECIPES[str(schedule.recipe)].passes == data.get("times", 1)


@pytest.mark.parametrize(("detector", "backbone"), ZOO)
def test_a_network_sees_the_images_of_its_zoo_config(detector: str, backbone: str) -> None:
    path = ZOO[detector, backbone].config
    data = zoo_config(path).train_dataloader.dataset
    theirs = [plain(dict(t)) for t in data.get("pipeline") or data.dataset.pipeline]
    others = {"LoadImageFromFile", "LoadAnnotations", "PackDetInputs"}
    spec = trial(detector, backbone, scale="paper", dataset="coco")
    ours = [plain(t) for t in training_images(spec, RECIPES[recipe_of(path)], mirror=True)]
    colours = {"brightness_delta": 32, "contrast_range": (0.5, 1.5), "saturation_range": (0.5, 1.5), "hue_delta": 18}  # mmdet's defaults
    assert ours == [{k: v for k, v in t.items() if k not in colours or colours[k] != v} for t in theirs if t["type"] not in others]


def test_a_recipe_may_train_its_backbone_at_a_rate_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RECIPES, "slow", Recipe("slow", "a slow backbone", 1, "cosine", optimizer=Optimizer(0.1, 4, backbone_lr=0.25)))
    network = Network(detector="gfl", backbone="resnet18", width=8)
    config = optimisation(Schedule(recipe="slow").resolved("nano", network, "digits"), network)["optim_wrapper"]
    model = build(network, 10)
    for wrapped in (
        model,
        DistilledDetector(model, build(network, 10), [MethodUse(id="fitnet").resolved()], (describe(network, model),) * 2),
    ):
        optimizer = build_optim_wrapper(wrapped, config).optimizer
        rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
        for part, rate in ((model.backbone, 0.025), (model.neck, 0.1), (model.bbox_head, 0.1)):
            assert [rates[id(p)] for p in part.parameters()] == pytest.approx([rate] * len(list(part.parameters())))


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
    return next(seed for seed in range(50) if len(mixed_batch(model, seed)["data_samples"][0].metainfo["mixed"][1]) == 1)


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
    uses = [MethodUse(id="fitnet", options={"region": "gt_boxes"}).resolved()]
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


@pytest.mark.parametrize("recipe", [name for name in RECIPES if name not in {"pdf-140e", "cityscapes-64e"}])
def test_every_recipe_trains(recipe: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from workers.trial import run_trial

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
