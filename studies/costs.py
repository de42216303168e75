"""What a training costs at paper scale before anything was measured: its multiply-adds, and the device time they take on a kind of GPU.

Multiply-adds of one image are in `costs.yaml` (written by `benchmarks/count_costs.py`). Plain data: the service plans with it.
"""

import functools
from dataclasses import dataclass
from pathlib import Path

import yaml

from studies.catalog import Dataset, of_pdf_distil
from studies.recipes import RECIPES
from studies.spec import Network, Schedule

FILE = Path(__file__).with_name("costs.yaml")

# Input of a network, (shorter, longer) side in pixels before a recipe makes it smaller: of families and forms that have their own, else of
# the dataset.
OWN_INPUT = {"ssd": (512, 512), "yolov3": (608, 608)}
PDF_INPUT = (320, 320)
INPUT, USUAL_INPUT = {"cityscapes": (1024, 2048)}, (800, 1333)
PADDED = 32  # images are padded to multiples of it

FLOP = 2  # of one multiply-add
BACKWARD = 2  # a backward pass costs two forward ones: gradients of the activations and of the weights
PREDICTION = 2  # a predicted image is counted twice: alone in its batch it fills a GPU half as well as a batch does


@dataclass(frozen=True)
class Gpu:
    """A kind of GPU. peak: dense TFLOP/s of what trains in 32 bits there, TF32 where the kind has it, without sparsity.

    named: how torch's name of the device tells the kind.
    """

    id: str
    peak: float
    arithmetic: str
    named: str


# Peaks from the vendor's data sheets. Convolutions run in TF32 where there is TF32: torch's default.
GPUS: dict[str, Gpu] = {
    gpu.id: gpu
    for gpu in (
        Gpu("rtx-2080-ti", 13.4, "FP32", "2080 Ti"),
        Gpu("v100", 15.7, "FP32", "V100"),
        Gpu("rtx-3090", 35.6, "TF32", "3090"),
        Gpu("rtx-4090", 82.6, "TF32", "4090"),
        Gpu("l40s", 183.0, "TF32", "L40S"),
        Gpu("a100", 156.0, "TF32", "A100"),
        Gpu("h100", 494.7, "TF32", "H100"),
        Gpu("h200", 494.7, "TF32", "H200"),
    )
}


def reference_size(network: Network) -> tuple[int, int]:
    """(height, width) in pixels that a network's multiply-adds are counted at: its whole input on COCO, padded."""
    shorter, longer = input_sides(network, "coco")
    return padded(shorter), padded(longer)


def input_sides(network: Network, dataset: str) -> tuple[int, int]:
    """(shorter, longer) side of a network's input at paper scale, before a recipe makes it smaller."""
    if of_pdf_distil(network.form):
        return PDF_INPUT
    return OWN_INPUT.get(network.detector) or INPUT.get(dataset, USUAL_INPUT)


def padded(side: float) -> int:
    """A side in pixels, padded."""
    return -int(-side // PADDED) * PADDED
