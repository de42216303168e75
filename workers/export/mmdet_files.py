"""A trained detector as an mmdet config and checkpoint, which mmdet's own test tool loads and evaluates, without Retort's loop.

    python mmdet/.mim/tools/test.py FOLDER/config.py FOLDER/model.pth

A network with parts that mmdet does not have (LD's heads, PDF-Distil's networks, narrow YOLOv3 and SSD) imports them from Retort, which
must then be installed there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from workers.datasets.images import evaluation_images
from workers.datasets.manifest import images_folder
from workers.detectors.configs import model_config, parts, register, scope
from workers.export.trained import Trained
from workers.files import write_checkpoint

CONFIG, CHECKPOINT = "config.py", "model.pth"
THEIRS = ("mmdet", "mmcv", "mmengine", "torch")  # packages whose parts plain mmdet knows


def write_mmdet(trained: Trained, folder: Path) -> list[str]:
    """Writes config.py and model.pth; gives the modules that they need beside mmdet."""
    from mmengine.config import Config

    folder.mkdir(parents=True, exist_ok=True)
    model = model_config(trained.spec.network, len(trained.manifest["classes"]))
    imports = imports_of(model)
    content = {"default_scope": "mmdet", "model": model.to_dict(), **_tests(trained, _gives_masks(model))}
    if imports:
        content["custom_imports"] = {"imports": imports, "allow_failed_imports": False}
    Config(content).dump(str(folder / CONFIG))
    meta = {"dataset_meta": {"classes": tuple(trained.manifest["classes"])}}
    write_checkpoint({"state_dict": trained.state(), "meta": meta}, folder / CHECKPOINT)
    return imports


def imports_of(model: Any) -> list[str]:
    """Modules outside of mmdet that know the parts of a model config."""
    from mmdet.registry import MODELS, TASK_UTILS

    register()
    found = set()
    with scope():
        for part in parts(model):
            made_by = next((each for kind in (MODELS, TASK_UTILS) if (each := kind.get(str(part.get("type")))) is not None), None)
            if made_by and made_by.__module__.split(".")[0] not in THEIRS:
                found.add(made_by.__module__)
    return sorted(found)


def _gives_masks(model: Any) -> bool:
    return bool(model.get("roi_head") and model.roi_head.get("mask_head"))


def _tests(trained: Trained, masks: bool) -> dict[str, Any]:
    """What mmdet's test tool needs of the validation images."""
    spec, data, manifest = trained.spec, trained.data, trained.manifest
    masks = masks and bool(manifest["masks"])
    annotations = str((data / spec.dataset / "val.json").resolve())
    dataset = {
        "type": "CocoDataset",
        "ann_file": annotations,
        "data_prefix": {"img": str((data / spec.dataset / images_folder(data, spec.dataset, "val", manifest)).resolve())},
        "metainfo": {"classes": tuple(manifest["classes"])},
        "test_mode": True,
        "pipeline": [
            {"type": "LoadImageFromFile"},
            evaluation_images(spec, trained.recipe),
            {"type": "PackDetInputs", "meta_keys": ("img_id", "img_path", "ori_shape", "img_shape", "scale_factor")},
        ],
    }
    loader = {
        "batch_size": 1,
        "num_workers": 2,
        "persistent_workers": False,
        "drop_last": False,
        "sampler": {"type": "DefaultSampler", "shuffle": False},
        "dataset": dataset,
    }
    return {
        "test_dataloader": loader,
        "test_evaluator": {"type": "CocoMetric", "ann_file": annotations, "metric": ["bbox", "segm"] if masks else ["bbox"]},
        "test_cfg": {"type": "TestLoop"},
        "work_dir": "work",
        "env_cfg": {"cudnn_benchmark": False},
        "log_level": "INFO",
    }
