"""Datasets as mmdet reads them: loader and evaluator configs for a dataset prepared on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
from mmcv.transforms import LoadImageFromFile

from studies.catalog import Scale
from studies.spec import OnBroken
from studies.trial import TrialFailure
from workers.datasets.manifest import images_folder, read_manifest
from workers.evaluation import DetectionMetric

NANO_INPUT = (128, 128)  # pixels, the longer and the shorter side at most
PAPER_INPUT = {"digits": (128, 128), "coco": (1333, 800), "voc": (1333, 800), "cityscapes": (2048, 1024)}


class UnreadableImage(Exception):
    """An image that was readable when the dataset was checked and is not now. One argument, so that it crosses processes."""

    @property
    def sentence(self) -> str:
        """The message alone: a loader's process adds its traceback in front of it."""
        return str(self).strip().splitlines()[-1].removeprefix(f"{UnreadableImage.__module__}.{UnreadableImage.__name__}: ")


class LoadImage(LoadImageFromFile):
    """mmcv's loader, which names the file it cannot read."""

    def transform(self, results: dict[str, Any]) -> dict[str, Any] | None:
        try:
            return super().transform(results)
        except (OSError, AssertionError, AttributeError, cv2.error) as error:
            gone = isinstance(error, FileNotFoundError)
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
    name: str,
    data: Path,
    split: str,
    manifest: dict[str, Any],
    limit: int | None = None,
    scale: Scale = "nano",
    masks: bool = False,
) -> dict[str, Any]:
    """mmdet dataset of one split ("train" or "val").

    limit: keep the first images only. scale: decides the input's size. masks: whether the network learns masks.
    """
    if masks and not manifest["masks"]:
        raise TrialFailure("user", f"the network learns masks and dataset {name!r} has none; choose a detector of boxes")
    train = split == "train"
    pipeline: list[dict[str, Any]] = [
        {"type": LoadImage, "backend_args": None},
        {"type": "LoadAnnotations", "with_bbox": True, "with_mask": masks},
        {"type": "Resize", "scale": PAPER_INPUT.get(name, (1333, 800)) if scale == "paper" else NANO_INPUT, "keep_ratio": True},
        {
            "type": "PackDetInputs",
            "meta_keys": ("img_id", "img_path", "ori_shape", "img_shape", "scale_factor"),
        },
    ]
    if train and manifest["mirror"]:
        pipeline.insert(3, {"type": "RandomFlip", "prob": 0.5})
    return {
        "type": "CocoDataset",
        "data_root": str(data / name),
        "ann_file": f"{split}.json",
        "data_prefix": {"img": f"{images_folder(data, name, split, manifest)}/"},
        "metainfo": {"classes": tuple(manifest["classes"])},
        "filter_cfg": {"filter_empty_gt": True} if train else None,
        "test_mode": not train,
        "pipeline": pipeline,
        "indices": limit,
        "serialize_data": False,
    }


def evaluator_config(name: str, data: Path, masks: bool = False) -> DetectionMetric:
    """AP over the validation split."""
    return DetectionMetric(str(data / name / "val.json"), masks)
