"""What a training or measurement costs at paper scale before one was timed: its multiply-adds, and the device time on a kind of GPU.

Multiply-adds of one image are in `costs.yaml` (written by `benchmarks/count_costs.py`). Plain data: the service plans with it.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from studies.catalog import Dataset
from studies.inputs import input_sides
from studies.measures import KINDS
from studies.recipes import RECIPES
from studies.spec import Network, Schedule

FILE = Path(__file__).with_name("costs.yaml")

PADDED = 32  # images are padded to multiples of it

FLOP = 2  # of one multiply-add
BACKWARD = 2  # a backward pass costs two forward ones: gradients of the activations and of the weights
PREDICTION = 2  # a predicted image counts twice: alone in its batch it uses a GPU half as well

# The stated efficiency: training a detector in 32 bits is bound by a GPU's memory, and does so many FLOP per byte of its bandwidth.
# Mask R-CNN ResNet-50 with 2 images per GPU, in our multiply-adds: on 8 V100 mmdetection trains 53 images a second (detectron2's
# benchmark), which is 10.7 TFLOP/s and 11.9 FLOP per byte; on 8 A100 with 80 GB the same training takes NVIDIA 1 / 2.36 of its
# time on 8 V100 (4.81 and 11.37 hours, its Mask R-CNN for TensorFlow 2), which gives 12.4.
FLOP_PER_BYTE = 12.0


@dataclass(frozen=True)
class Gpu:
    """A kind of GPU. id: part of the name that its driver gives it. bandwidth: of its memory in TB/s.

    peak: dense TFLOP/s of the arithmetic that trains in 32 bits there: TF32 where the kind has it, torch's default for convolutions.
    """

    id: str
    bandwidth: float
    peak: float
    arithmetic: Literal["FP32", "TF32"]

    @property
    def rate(self) -> float:
        """FLOP per second of a training."""
        return FLOP_PER_BYTE * self.bandwidth * 1e12

    @property
    def efficiency(self) -> float:
        """Share of the peak that a training reaches."""
        return self.rate / (self.peak * 1e12)


# Bandwidths and peaks are those of the vendor's data sheets, of the forms with the fastest memory (SXM).
GPUS: dict[str, Gpu] = {
    gpu.id: gpu
    for gpu in (
        Gpu("RTX 2080 Ti", 0.616, 13.4, "FP32"),
        Gpu("V100", 0.900, 15.7, "FP32"),
        Gpu("RTX 3090", 0.936, 35.6, "TF32"),
        Gpu("RTX 4090", 1.008, 82.6, "TF32"),
        Gpu("L40S", 0.864, 183.0, "TF32"),
        Gpu("A100", 2.039, 156.0, "TF32"),
        Gpu("H100", 3.350, 494.7, "TF32"),
        Gpu("H200", 4.800, 494.7, "TF32"),
    )
}

# What estimates assume, in a sentence for whoever reads them.
EFFICIENCY = (
    "3 x student + teacher multiply-adds of every image, twice the network's of an evaluated or measured one, "
    f"at {FLOP_PER_BYTE:g} FLOP per byte of a GPU's memory bandwidth, in 32 bits "
    f"({GPUS['V100'].efficiency:.0%} of the peak of a V100, {GPUS['A100'].efficiency:.0%} of an A100's)"
)


def gpu_named(device: str) -> Gpu | None:
    """The kind of a GPU by its driver's name ("NVIDIA A100-SXM4-80GB"), None where it is not in `GPUS`."""
    return next((gpu for gpu in GPUS.values() if gpu.id in device), None)


@dataclass(frozen=True)
class Cost:
    """Multiply-adds (in 1e9) of one image of `size` (height, width): `image` grows with its pixels, `rois` (RoI heads) does not.

    parameters: in 1e6.
    """

    size: tuple[int, int]
    image: float
    rois: float
    parameters: float

    def flop(self, pixels: float) -> float:
        """FLOP of a forward pass of one image."""
        return FLOP * 1e9 * (self.image * pixels / (self.size[0] * self.size[1]) + self.rois)


@functools.cache
def _costs() -> dict[tuple[str, str, str | None], Cost]:
    entries = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    return {
        (e["detector"], e["backbone"], e.get("form")): Cost((e["size"][0], e["size"][1]), e["image"], e["rois"], e["parameters"])
        for e in entries
    }


def cost_of(network: Network) -> Cost | None:
    """What an image costs a network at paper scale, None where it was not counted (no shipped table has it)."""
    return _costs().get((network.detector, network.backbone, network.form))


def training_flop(network: Network, schedule: Schedule, teacher: Network | None, dataset: Dataset) -> float | None:
    """FLOP of a training at paper scale with its evaluations; None where something of it was not counted.

    images x (3 x student + teacher) + evaluated images x 2 x student. schedule: resolved. teacher: sees the student's images. What the
    method itself computes is left out (docs/results/distill-step.md).
    """
    student, taught_by = cost_of(network), cost_of(teacher) if teacher else None
    evaluation = evaluation_flop(network, dataset)
    if student is None or evaluation is None or (teacher and taught_by is None) or dataset.train_images is None:
        return None
    recipe, epochs = RECIPES[str(schedule.recipe)], schedule.epochs or 0
    images = recipe.passes * dataset.train_images
    if schedule.max_iterations and schedule.batch_size:
        images = min(images, schedule.max_iterations * schedule.batch_size)
    pixels = _pixels(network, dataset.id, (1 + recipe.smallest) / 2)  # the middle of the sizes that are drawn
    step = (1 + BACKWARD) * student.flop(pixels) + (taught_by.flop(pixels) if taught_by else 0.0)
    evaluations = -(-epochs // (schedule.val_interval or 1))  # the last epoch is always evaluated
    return epochs * images * step + evaluations * evaluation


def evaluation_flop(network: Network, dataset: Dataset) -> float | None:
    """FLOP of one evaluation at paper scale; None where something of it was not counted."""
    cost = cost_of(network)
    if cost is None or dataset.val_images is None:
        return None
    return dataset.val_images * PREDICTION * cost.flop(_pixels(network, dataset.id))


def measurement_flop(
    kind: str, options: Mapping[str, Any], detector: Network, teacher: Network | None, dataset: Dataset, limit: int | None
) -> float | None:
    """FLOP of a measurement at paper scale; None where something of it was not counted.

    images x 2 x (detector + teacher), of those images that it looks at (KINDS[kind]). limit: images of the validation split at most. What
    it computes of their outputs is left out.
    """
    images = {"none": 0, "chosen": len(options.get("images", ()))}.get(KINDS[kind].images, dataset.val_images)
    costs = [cost_of(network) for network in (detector, teacher) if network]
    if images is None or None in costs:
        return None
    pixels = _pixels(detector, dataset.id)  # the teacher sees the detector's images
    return min(images, limit or images) * PREDICTION * sum(cost.flop(pixels) for cost in costs if cost)


def _pixels(network: Network, dataset: str, smaller: float = 1.0) -> int:
    """Pixels of an image whose sides are `smaller` times the network's, padded."""
    shorter, longer = input_sides(network, dataset)
    return padded(shorter * smaller) * padded(longer * smaller)


def reference_size(network: Network) -> tuple[int, int]:
    """(height, width) in pixels that a network's multiply-adds are counted at: its whole input on COCO, padded."""
    shorter, longer = input_sides(network, "coco")
    return padded(shorter), padded(longer)


def padded(side: float) -> int:
    """A side in pixels, padded."""
    return -int(-side // PADDED) * PADDED
