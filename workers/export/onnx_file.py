"""A trained one-stage detector as ONNX: from the pixels that its preprocessor gives to what its dense head says, level by level.

Choosing boxes and suppressing them is left to whoever runs the graph, as it is in mmdet (`predict_by_feat`). Needs onnx and onnxruntime.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmdet.registry import DATASETS as DATASET_TYPES
from mmengine.dataset import pseudo_collate
from torch import Tensor, nn

from studies.catalog import family_of
from workers.datasets.images import dataset_config, input_size
from workers.detectors.configs import scope
from workers.detectors.inputs import input_of
from workers.export.trained import ExportError, Trained

GRAPH, OPSET = "model.onnx", 17
IMAGES, CLOSE = 4, 1e-3  # validation images that a graph is tried on, and how far its outputs may be off, as a share of their largest
PARTS = ("logits", "boxes", "third")  # of a dense head's outputs, in mmdet's order


class DenseOutputs(nn.Module):
    """Pixels (N, 3, H, W) to the maps of a dense head, part by part and in each level by level."""

    def __init__(self, detector: Any) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return tuple(level for part in self.detector.bbox_head(self.detector.extract_feat(images)) for level in part)


def write_onnx(trained: Trained, folder: Path) -> float:
    """Writes model.onnx and tries it on validation images; gives the largest difference there, as a share of the largest output.

    Raises ExportError for a detector that proposes and pools inside its network, and where the graph gives something else.
    """
    detector: Any = trained.detector()
    if hasattr(detector, "roi_head"):
        raise ExportError(
            f"{family_of(trained.spec.network.detector).title} is not exported as ONNX: it suppresses proposals and pools them inside the "
            "network, with operators of mmcv's that ONNX has not; its mmdet files are complete"
        )
    onnx = _library()
    folder.mkdir(parents=True, exist_ok=True)
    network, given = DenseOutputs(detector).eval(), list(validation_inputs(trained, detector))
    with torch.no_grad():
        names = _names(detector, given[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of tracing, and that the exporter by torchscript is the older one
        torch.onnx.export(
            network,
            (given[0],),
            str(folder / GRAPH),
            opset_version=OPSET,
            dynamo=False,
            input_names=["images"],
            output_names=names,
            dynamic_axes={name: {0: "N"} for name in ("images", *names)},
        )
    graph = onnx.load(str(folder / GRAPH))
    for name, value in described(trained, detector, given[0]).items():
        entry = graph.metadata_props.add()
        entry.key, entry.value = name, value
    onnx.checker.check_model(graph)
    onnx.save(graph, str(folder / GRAPH))
    apart = difference(folder / GRAPH, network, given)
    if apart > CLOSE:
        (folder / GRAPH).unlink()
        raise ExportError(
            f"the graph's outputs differ by {apart:.1e} of the largest from the network's on validation images; nothing was written"
        )
    return apart


def difference(graph: Path, network: nn.Module, inputs: list[Tensor]) -> float:
    """The largest difference between a graph's outputs and the network's, as a share of the largest output."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(graph), providers=["CPUExecutionProvider"])
    apart = 0.0
    for images in inputs:
        with torch.no_grad():
            expected = [each.numpy() for each in network(images)]
        for ours, theirs in zip(session.run(None, {"images": images.numpy()}), expected, strict=True):
            apart = max(apart, float(np.abs(ours - theirs).max() / max(1.0, float(np.abs(theirs).max()))))
    return apart


def validation_inputs(trained: Trained, detector: Any, count: int = IMAGES) -> Iterator[Tensor]:
    """The first validation images as the network takes them, all of the first one's size, (1, 3, H, W) each."""
    with scope():
        dataset: Any = DATASET_TYPES.build(dataset_config(trained.spec, trained.data, "val", trained.manifest, trained.recipe, limit=None))
    size = None
    for number in range(len(dataset)):
        pixels: Tensor = detector.data_preprocessor(pseudo_collate([dataset[number]]), False)["inputs"]
        size = size or pixels.shape
        if pixels.shape == size:
            count -= 1
            yield pixels
        if not count:
            return


def described(trained: Trained, detector: Any, pixels: Tensor) -> dict[str, str]:
    """What somebody who runs the graph has to know, as its metadata."""
    takes = input_of(detector.data_preprocessor)
    (short, long), keeps = input_size(trained.spec, trained.recipe)
    head = detector.bbox_head
    return {
        "classes": json.dumps(trained.manifest["classes"]),
        "detector": type(detector).__name__,
        "head": type(head).__name__,
        "input": json.dumps(
            {"order": takes.order, "mean": takes.mean, "std": takes.std, "height": pixels.shape[2], "width": pixels.shape[3]}
        ),
        "resized_to": json.dumps({"shorter": short, "longer": long, "keeps_ratio": keeps}),
        "strides": json.dumps([int(stride[0]) for stride in head.prior_generator.strides]),
    }


def _names(detector: Any, pixels: Tensor) -> list[str]:
    """Of the outputs, as (part)_(level)."""
    outputs = detector.bbox_head(detector.extract_feat(pixels))
    parts = ("outputs",) if len(outputs) == 1 else PARTS
    return [f"{part}_{level}" for part, levels in zip(parts, outputs, strict=False) for level in range(len(levels))]


def _library() -> Any:
    try:
        import onnx
        import onnxruntime  # noqa: F401
    except ImportError as error:
        raise ExportError(f"{error.name} is not installed here; pip install 'retort[export]'") from None
    return onnx
