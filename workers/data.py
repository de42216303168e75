"""Datasets as mmdet reads them: loader and evaluator configs for a dataset prepared on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from studies.catalog import DATASETS
from workers.evaluation import CocoBoxMetric


def class_names(name: str) -> tuple[str, ...]:
    """The dataset's categories in the order of its labels."""
    if name == "digits":
        return tuple(str(digit) for digit in range(10))
    raise KeyError(f"no class names for {name}; catalogue: {', '.join(DATASETS)}")


def dataset_config(name: str, data: Path, split: str, limit: int | None = None) -> dict[str, Any]:
    """mmdet dataset of one split ("train" or "val"); `limit` keeps the first images only."""
    train = split == "train"
    pipeline: list[dict[str, Any]] = [
        {"type": "LoadImageFromFile", "backend_args": None},
        {"type": "LoadAnnotations", "with_bbox": True},
        {
            "type": "PackDetInputs",
            "meta_keys": ("img_id", "img_path", "ori_shape", "img_shape", "scale_factor"),
        },
    ]
    if name == "digits":
        # No flip (a mirrored 2 is no 2) and no resize: scenes are made at the input size.
        pipeline.insert(2, {"type": "Resize", "scale": (128, 128), "keep_ratio": True})
    return {
        "type": "CocoDataset",
        "data_root": str(data / name),
        "ann_file": f"{split}.json",
        "data_prefix": {"img": f"{split}/"},
        "metainfo": {"classes": class_names(name)},
        "filter_cfg": {"filter_empty_gt": True} if train else None,
        "test_mode": not train,
        "pipeline": pipeline,
        "indices": limit,
        "serialize_data": False,
    }


def evaluator_config(name: str, data: Path) -> CocoBoxMetric:
    """COCO box AP over the validation split."""
    return CocoBoxMetric(str(data / name / "val.json"))
