"""What a network costs: parameters, multiply-adds by component, and images per second; for a trial's table and as a command.

    python -m workers.evaluation.costs retinanet resnet50 [--scale paper|nano] [--form distribution] [--size 800x1280] [--json] [--speed]

Multiply-adds are counted as mmcv 1's `get_model_complexity_info` does, whose figures the papers print as FLOPs: per output
value a convolution's or linear layer's products (and 1 for its bias), 2 for affine normalisation, 1 for activations, pooling
and up-sampling modules; functions without a module (additions, softmax, NMS) count nothing. They are counted on shapes alone: no
weight is allocated, nothing is computed.
"""

from __future__ import annotations

import argparse
import json
import logging
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from typing import Any, get_args

import torch
from torch import Tensor, nn

from studies import inputs
from studies.catalog import BACKBONES, FORMS, Scale, detectors, in_form, misfit_of, of_pdf_distil
from studies.recipes import NANO_WIDTH
from studies.spec import Network
from workers.detectors import build, model_config
from workers.detectors.configs import register, scope

CLASSES = {"paper": 80, "nano": 10}  # of COCO and of the digits, for the command
SIZES = {"paper": (800, 1280), "nano": (128, 128)}
PROPOSALS, MASK_PROPOSALS = 1000, 100  # RoIs of the box and of the mask head, as at test time
ACTIVATIONS = (nn.ReLU, nn.LeakyReLU, nn.ReLU6, nn.PReLU, nn.ELU)
NORMS = (nn.BatchNorm2d, nn.GroupNorm, nn.InstanceNorm2d)
POOLS = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)


def on_paper(network: Network, classes: int) -> Any:
    """The network built without memory for its weights (torch's meta device)."""
    from mmdet.registry import MODELS

    register()
    config = model_config(network, classes)
    with scope(), torch.device("meta"):
        model = MODELS.build(config)
    return model.to("meta").eval()


def parameter_counts(model: nn.Module) -> dict[str, int]:
    """All parameters, and those that train (frozen stages left out)."""
    parameters = list(model.parameters())
    return {
        "parameters": sum(p.numel() for p in parameters),
        "trainable_parameters": sum(p.numel() for p in parameters if p.requires_grad),
    }


def cost_of(module: nn.Module, given: Tensor, output: Tensor) -> int:
    """Multiply-adds of one call of a module that has a weight or none of its own."""
    weight = getattr(module, "weight", None)
    if isinstance(module, nn.ConvTranspose2d):
        assert weight is not None
        return given.numel() // module.in_channels * weight.numel() + (output.numel() if module.bias is not None else 0)
    if isinstance(module, nn.Linear) or (weight is not None and weight.dim() == 4):  # convolutions, deformable ones too
        assert weight is not None
        bias = getattr(module, "bias", None) is not None
        return output.numel() * (weight[0].numel() + bias)
    if isinstance(module, NORMS):
        return given.numel() * (2 if module.affine else 1)
    if isinstance(module, ACTIVATIONS):
        return output.numel()
    return given.numel() if isinstance(module, POOLS) else output.numel() if isinstance(module, nn.Upsample) else 0


class Counter:
    """Counts multiply-adds of the modules that run inside its `with` block."""

    def __init__(self, model: nn.Module) -> None:
        self.total = 0
        self.handles = [m.register_forward_hook(self._add) for m in model.modules() if next(m.children(), None) is None or is_deformable(m)]

    def _add(self, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        self.total += cost_of(module, inputs[0], output) if isinstance(output, Tensor) else 0

    def __enter__(self) -> Counter:
        return self

    def __exit__(self, *exception: object) -> None:
        for handle in self.handles:
            handle.remove()


def is_deformable(module: nn.Module) -> bool:
    """Whether it is one of mmcv's deformable convolutions, which hold a convolution for their offsets."""
    return "DeformConv2d" in type(module).__name__


def multiply_adds(model: Any, size: tuple[int, int]) -> dict[str, int]:
    """Multiply-adds of one image of `size` (height, width) by component, and their total. `model` is on the meta device.

    head: of a two-stage detector the RPN and its RoI heads on 1,000 proposals, masks on 100.
    """

    def counted(step: Callable[[], Any]) -> tuple[int, Any]:
        with Counter(model) as counter:
            result = step()
        return counter.total, result

    with torch.no_grad():
        backbone, maps = counted(lambda: model.backbone(torch.empty(1, 3, *size, device="meta")))
        neck, levels = counted(lambda: model.neck(maps))
        head, _ = counted(lambda: list(run_heads(model, levels)))
    return {"backbone": backbone, "neck": neck, "head": head, "total": backbone + neck + head}


def run_heads(model: Any, levels: tuple[Tensor, ...]) -> Iterator[Any]:
    """Runs the dense head, and every RoI head on pooled features of its size."""
    if not hasattr(model, "rpn_head"):
        yield model.bbox_head(levels)
        return
    yield model.rpn_head(levels)
    roi = model.roi_head
    for name, extractor_name, count in (
        ("bbox_head", "bbox_roi_extractor", PROPOSALS),
        ("mask_head", "mask_roi_extractor", MASK_PROPOSALS),
        ("grid_head", "grid_roi_extractor", MASK_PROPOSALS),
    ):
        heads, extractors = (as_list(getattr(roi, part, None)) for part in (name, extractor_name))
        for index, head in enumerate(heads):
            extractor = (extractors or as_list(roi.bbox_roi_extractor))[index]
            side = extractor.roi_layers[0].output_size
            pooled = torch.empty(count, extractor.out_channels, *side, device="meta")
            yield head(pooled)


def as_list(part: Any) -> list[Any]:
    """A head, a list of the stages of a cascade, or nothing, as a list."""
    return [] if part is None else list(part) if isinstance(part, nn.ModuleList) else [part]


def speeds(predict: Callable[[], Any], images: int, device: str, repeats: int) -> list[float]:
    """Images per second of each of `repeats` calls of `predict`, which predicts `images` images. Two calls before them warm up."""
    rates = []
    for _ in range(2 + repeats):
        began = time.perf_counter()
        with torch.no_grad():
            predict()
        if device == "cuda":
            torch.cuda.synchronize()
        rates.append(images / (time.perf_counter() - began))
    return rates[2:]


def images_per_second(network: Network, classes: int, size: tuple[int, int], repeats: int = 10, device: str = "cpu") -> dict[str, float]:
    """Prediction speed at batch 1 with NMS on random pixels: mean and standard deviation of `repeats` runs.

    Each run is of 5 images.
    """
    from mmdet.structures import DetDataSample

    model: Any = build(network, classes).to(device).eval()
    meta = {"img_shape": size, "ori_shape": size, "pad_shape": size, "batch_input_shape": size, "scale_factor": (1.0, 1.0)}
    image = torch.randn(1, 3, *size, device=device)

    def predict() -> None:
        for _ in range(5):
            model.predict(image, [DetDataSample(metainfo=meta)], rescale=False)

    rates = speeds(predict, 5, device, repeats)
    return {"images_per_second": statistics.mean(rates), "spread": statistics.stdev(rates)}


def costs(network: Network, scale: Scale, detector: nn.Module, dataset: Any) -> dict[str, float]:
    """The table's Params (millions), FLOPs (milliards) and FPS (see `studies.catalog.METRICS`) of a trained detector.

    dataset: mmdet's, for the classes and the images whose prediction is timed: its first 5, read beforehand, 3 times over, on a
    GPU, which is fast and whose clock changes, 21 times; the middle speed counts. A student carries hooks that record it for its
    distillers, so a plain copy predicts.
    """
    from mmengine.dataset import pseudo_collate

    classes = len(dataset.metainfo["classes"])
    counted = on_paper(network, classes)
    device = next(detector.parameters()).device
    plain: Any = build(network, classes)
    plain.load_state_dict(detector.state_dict())
    plain.to(device).eval()
    images = [pseudo_collate([dataset[index]]) for index in range(min(5, len(dataset)))]
    repeats = 3 if device.type == "cpu" else 21
    rates = speeds(lambda: [plain.test_step(image) for image in images], len(images), device.type, repeats)
    return {
        "Params": parameter_counts(counted)["trainable_parameters"] / 1e6,
        "FLOPs": multiply_adds(counted, counted_size(network, scale))["total"] / 1e9,
        "FPS": statistics.median(rates),
    }


def counted_size(network: Network, scale: str) -> tuple[int, int]:
    """(height, width) that multiply-adds are counted at: at paper scale that of the papers' tables."""
    if scale != "paper":
        return SIZES["nano"]
    return inputs.PDF if of_pdf_distil(network.form) else inputs.OWN.get(network.detector, SIZES["paper"])


def measure(network: Network, scale: str, size: tuple[int, int] | None = None) -> dict[str, Any]:
    """Parameters and multiply-adds of a network at an input size (height, width), by default that of the papers."""
    size = size or counted_size(network, scale)
    model = on_paper(network, CLASSES[scale])
    return {
        **network.model_dump(exclude_none=True),
        "scale": scale,
        "size": list(size),
        **parameter_counts(model),
        "multiply_adds": multiply_adds(model, size),
    }


def main() -> None:
    """The command."""
    logging.disable(logging.INFO)
    parser = argparse.ArgumentParser(
        prog="python -m workers.evaluation.costs", description="Parameters, multiply-adds and speed of a network."
    )
    parser.add_argument("detector", choices=detectors())
    parser.add_argument("backbone", choices=BACKBONES)
    parser.add_argument("--scale", choices=[s for s in get_args(Scale) if s in SIZES], default="paper")
    parser.add_argument("--form", choices=FORMS)
    parser.add_argument("--width", type=int, help=f"base channels at nano ({NANO_WIDTH['student']})")
    parser.add_argument("--size", type=lambda text: tuple(map(int, text.split("x"))), metavar="HxW", help="of the input, in pixels")
    parser.add_argument("--speed", action="store_true", help="also images per second (builds and runs the network)")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="that --speed runs on (cpu)")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    width = given.width or NANO_WIDTH["student"] if given.scale == "nano" else None
    if given.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: no GPU is visible to torch here")
    found = misfit_of(given.detector, given.backbone, given.form)
    if found:
        parser.error(found[1])
    network = Network(detector=given.detector, backbone=given.backbone, form=given.form, width=width)
    with redirect_stdout(sys.stderr):  # mmdet prints while it is imported
        told = measure(network, given.scale, given.size)
        if given.speed:
            told |= images_per_second(network, CLASSES[given.scale], (told["size"][0], told["size"][1]), device=given.device)
    print(json.dumps(told, indent=2) if given.json else text_of(told))


def text_of(told: dict[str, Any]) -> str:
    """The measurement for a person: millions of parameters, milliards of multiply-adds."""
    title = in_form(told["detector"], told.get("form")).title
    lines = [
        f"{title} {BACKBONES[told['backbone']].title}, {told['scale']}, {told['size'][0]}x{told['size'][1]}",
        f"parameters     {told['parameters'] / 1e6:9.2f} M, {told['trainable_parameters'] / 1e6:.2f} M of them train",
        *(f"multiply-adds  {count / 1e9:9.2f} G  {part}" for part, count in told["multiply_adds"].items()),
    ]
    if "images_per_second" in told:
        lines.append(f"images/second  {told['images_per_second']:9.1f}   +- {told['spread']:.1f}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
