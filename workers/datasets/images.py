"""Datasets as mmdet reads them: loader and evaluator configs for a dataset prepared on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from mmcv.transforms import LoadImageFromFile
from numpy.typing import NDArray

from studies.catalog import of_pdf_distil
from studies.inputs import NANO, OWN, Sides, input_sides
from studies.recipes import Recipe
from studies.spec import OnBroken
from studies.trial import TrialFailure, TrialSpec
from workers.datasets.manifest import images_folder, read_manifest
from workers.detectors.families import NORMALISATION
from workers.evaluation.precision import DetectionMetric

SMALLEST = 32  # pixels of an image's shorter side, for training
KEPT = ("digits",)  # datasets whose decoded images stay in memory: 172 MB, where decoding them again takes a second of every epoch


class UnreadableImage(Exception):
    """An image that was readable when the dataset was checked and is not now. One argument, so that it crosses processes."""

    @property
    def sentence(self) -> str:
        """The message alone: a loader's process adds its traceback in front of it."""
        return str(self).strip().splitlines()[-1].removeprefix(f"{UnreadableImage.__module__}.{UnreadableImage.__name__}: ")


_OF_THE_DATASET = (FileNotFoundError, NotADirectoryError, IsADirectoryError, PermissionError)


class LoadImage(LoadImageFromFile):
    """mmcv's loader, which names the file it cannot read. keep: whether the decoded images stay in memory, for a small dataset."""

    def __init__(self, keep: bool = False) -> None:
        super().__init__(backend_args=None)
        self.kept: dict[str, NDArray[np.uint8]] | None = {} if keep else None

    def transform(self, results: dict[str, Any]) -> dict[str, Any] | None:
        image = self.kept.get(results["img_path"]) if self.kept else None
        if image is not None:
            return results | {"img": image, "img_shape": image.shape[:2], "ori_shape": image.shape[:2]}
        loaded = self._loaded(results)
        if self.kept is not None and loaded is not None:
            loaded["img"].setflags(write=False)  # whoever changes pixels, changes a copy
            self.kept[results["img_path"]] = loaded["img"]
        return loaded

    def _loaded(self, results: dict[str, Any]) -> dict[str, Any] | None:
        try:
            return super().transform(results)
        except (OSError, AssertionError, AttributeError, cv2.error) as error:
            gone = isinstance(error, FileNotFoundError)
            if getattr(error, "errno", None) is not None and not isinstance(error, _OF_THE_DATASET):
                raise  # the file system's doing (an I/O error, a stale handle): the image may be well, and is asked for again
            what = "is missing" if gone else "cannot be read"
            raise UnreadableImage(
                f"image {results['img_path']} {what}; look the whole dataset through with `retort data check NAME`"
            ) from error


def manifest_of(name: str, data: Path, on_broken: OnBroken) -> dict[str, Any]:
    """The manifest of a prepared dataset. Raises TrialFailure("data") where it is not prepared, or broken and that should stop."""
    manifest = read_manifest(data / name)
    if manifest is None:
        raise TrialFailure("data", f"dataset {name!r} is not prepared under {data}")
    broken = manifest["broken"]
    if broken and on_broken == "stop":
        listed = "; ".join(f"{b['kind']} {b['name']}: {b['reason']}" for b in broken[:3]) + ("; ..." if len(broken) > 3 else "")
        raise TrialFailure(
            "data",
            f"{len(broken)} images or annotations of dataset {name!r} are broken ({listed}); repair them and run "
            f"`retort data check {name}`, or train without them with `on_broken: skip`",
        )
    return manifest


def skipped(manifest: dict[str, Any]) -> dict[str, float]:
    """How much of the dataset is left out as broken, as metrics of the trial; nothing where nothing is."""
    kinds = [broken["kind"] for broken in manifest["broken"]]
    return {f"skipped_{kind}s": float(kinds.count(kind)) for kind in ("image", "annotation")} if kinds else {}


def dataset_config(
    spec: TrialSpec,
    data: Path,
    split: str,
    manifest: dict[str, Any],
    recipe: Recipe,
    limit: int | None = None,
    masks: bool = False,
) -> dict[str, Any]:
    """Config of one split ("train" or "val") of a trial's dataset (`workers.datasets.loading.RecordDataset`), filtered as in the zoo.

    recipe: decides which images the network sees in training. limit: keep the first images only. masks: whether the network
    learns masks.
    """
    name = spec.dataset
    if masks and not manifest["masks"]:
        raise TrialFailure("user", f"the network learns masks and dataset {name!r} has none; choose a detector of boxes")
    train = split == "train"
    pipeline: list[dict[str, Any]] = [
        {"type": LoadImage, "keep": name in KEPT},
        {"type": "LoadAnnotations", "with_bbox": True, "with_mask": masks},
        *(training_images(spec, recipe, manifest["mirror"]) if train else [evaluation_images(spec, recipe)]),
        {
            "type": "PackDetInputs",
            "meta_keys": ("img_id", "img_path", "ori_shape", "img_shape", "scale_factor"),
        },
    ]
    config = {
        "type": "RecordDataset",
        "data_root": str(data / name),
        "ann_file": f"{split}.json",
        "data_prefix": {"img": f"{images_folder(data, name, split, manifest)}/"},
        "metainfo": {"classes": tuple(manifest["classes"])},
        "filter_cfg": _filter(spec, recipe) if train else None,
        "masks": masks,
        "test_mode": not train,
        "pipeline": pipeline,
        "indices": limit,
    }
    if train and recipe.passes > 1 and not limit:
        return {"type": "RepeatDataset", "times": recipe.passes, "dataset": config}
    return config


def _filter(spec: TrialSpec, recipe: Recipe) -> dict[str, Any]:
    """What of a dataset is not trained on, as the zoo's configs say it; a recipe's smallest box is meant for images of full size."""
    boxes = {"bbox_min_size": recipe.smallest_box} if recipe.smallest_box and spec.scale == "paper" else {}
    return {"filter_empty_gt": True, "min_size": SMALLEST, "crowds_only": spec.dataset == "cityscapes", **boxes}


def input_size(spec: TrialSpec, recipe: Recipe) -> tuple[Sides, bool]:
    """((shorter, longer) side of the network's input in pixels, whether images keep their shape), as its family is tested."""
    if spec.scale != "paper":
        return NANO, True
    sides = input_sides(spec.network, spec.dataset)
    if of_pdf_distil(spec.network.form):
        return sides, False
    if spec.network.detector in OWN:
        return sides, spec.network.detector != "ssd"
    return recipe.largest or sides, True


def evaluation_images(spec: TrialSpec, recipe: Recipe) -> dict[str, Any]:
    """The transform of the images that a network is tested on."""
    (short, long), keeps = input_size(spec, recipe)
    return {"type": "Resize", "scale": (long, short), "keep_ratio": keeps}


def training_images(spec: TrialSpec, recipe: Recipe, mirror: bool) -> list[dict[str, Any]]:
    """The transforms of a recipe's training images, from the loaded image on.

    mirror: whether an object stays itself in the mirror (a digit does not). Sources: the zoo's configs; for "pdf" the kinds that
    PDF-Distil names (4.1), with mmdet's transforms and the ranges of colour of its released code; for "pdf_code" the kinds, order and sizes
    of that code (data/data_augment.py), with mmdet's transforms.
    """
    (short, long), keeps = input_size(spec, recipe)
    smaller = round(long * recipe.smallest) if long == short else long, round(short * recipe.smallest)
    resize = evaluation_images(spec, recipe)
    flip = [{"type": "RandomFlip", "prob": 0.5}] if mirror else []
    if recipe.images == "plain":
        return [resize, *flip]
    if recipe.images == "two_scales":
        return [{"type": "RandomChoiceResize", "scales": [smaller, (long, short)], "keep_ratio": keeps}, *flip]
    if recipe.images == "multi_scale":
        return [{"type": "RandomResize", "scale": [smaller, (long, short)], "keep_ratio": keeps}, *flip]
    if recipe.images == "yolo":
        resize = {"type": "RandomResize", "scale": [smaller, (long, short)], "keep_ratio": keeps}
        return [_enlarged([0, 0, 0], 2), _cropped(0.4), resize, *flip, {"type": "PhotoMetricDistortion"}]
    if recipe.images == "pdf_code":
        drawn = {"factors": recipe.drawn_sides, "seed": spec.seed, "epochs": int(spec.full_schedule.epochs or 1)}
        resize = {**resize, "type": "EpochResize", **drawn}
        return [{"type": "PhotoMetricDistortion"}, _cropped(0.3), _enlarged(GREY, 2), *flip, resize]
    crop = _cropped(0.1) if recipe.images == "ssd" else _cropped(0.3)
    return [_enlarged(NORMALISATION["mean"], 4 if recipe.images == "ssd" else 1.75), crop, resize, *flip, {"type": "PhotoMetricDistortion"}]


GREY = [114.0, 114.0, 114.0]  # of a canvas around an image, in PDF-Distil's released code


def _enlarged(mean: list[float], most: float) -> dict[str, Any]:
    return {"type": "Expand", "mean": mean, "to_rgb": True, "ratio_range": (1, most)}


def _cropped(least: float) -> dict[str, Any]:
    """A random crop that overlaps an object by one of the IoUs from `least` on, as in the zoo's SSD and YOLOv3."""
    overlaps = {0.1: (0.1, 0.3, 0.5, 0.7, 0.9), 0.3: (0.3, 0.5, 0.7, 0.9), 0.4: (0.4, 0.5, 0.6, 0.7, 0.8, 0.9)}
    return {"type": "MinIoURandomCrop", "min_ious": overlaps[least], "min_crop_size": 0.3}


def evaluator_config(name: str, data: Path, masks: bool = False) -> DetectionMetric:
    """AP over the validation split."""
    return DetectionMetric(str(data / name / "val.json"), masks)
