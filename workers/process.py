"""How the process of a training or measurement is set up: its device, its compute threads, and quiet libraries."""

from __future__ import annotations

import contextlib
import io
import logging
import resource
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version

import torch

from studies.trial import NO_CUDA_OPERATORS, TrialFailure

LIBRARIES = ("torch", "onedl-mmdetection", "onedl-mmcv", "onedl-mmengine", "numpy", "faster-coco-eval")
OPEN_FILES = 4096


def device_for(gpus: int) -> torch.device:
    """The device of a job with so many GPUs. Raises TrialFailure where there is none, or mmcv was built without CUDA."""
    if not gpus:
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise TrialFailure("user", "the study asks for a GPU (resources.gpus) and none is visible to torch here")
    from mmcv.ops import get_compiling_cuda_version

    if get_compiling_cuda_version() == "not available":
        toolkit = f"the CUDA toolkit {torch.version.cuda or 'of your driver, a torch for it'}"
        raise TrialFailure("user", NO_CUDA_OPERATORS.format(toolkit=toolkit))
    return torch.device("cuda")


def environment(gpus: int, threads: int) -> dict[str, str]:
    """What the numbers of a job may depend on beside its spec: versions of the libraries, and the device."""
    device = torch.cuda.get_device_name() if gpus else f"cpu, {threads} threads"
    return {**{name: version(name) for name in LIBRARIES}, "device": device}


@contextmanager
def compute_threads(count: int) -> Iterator[None]:
    """Runs with exactly `count` compute threads: another count sums in another order."""
    import cv2

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    cv2.setNumThreads(0)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def allow_open_files() -> None:
    """Lets the process hold as many files open as loader processes need to hand their images over."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(max(OPEN_FILES, soft), hard), hard))


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps the libraries' chatter (weight initialisation, COCO indexing) out of the terminal."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.getLogger("mmengine").setLevel(logging.ERROR)
        yield
