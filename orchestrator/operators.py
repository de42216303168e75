"""Whether trials on GPUs can run with the operators that mmcv has on this machine, told without importing it (and torch)."""

import functools
import importlib.util
import mmap
import os
from pathlib import Path

from studies.trial import NO_CUDA_OPERATORS

GPU = Path("/dev/nvidia0")
NEEDED = b"libc10_cuda.so"  # a library that operators built for CUDA name, as they need torch's


def missing_operators() -> str | None:
    """Why trials on this machine's GPU would be refused at their start; None where they would not.

    None too where that cannot be told from here: in a cluster, whose nodes have installations of their own.
    """
    embedded = "RETORT_STACK" in os.environ
    if not embedded or not GPU.exists() or built_for_cuda() is not False:
        return None
    return NO_CUDA_OPERATORS.format(toolkit="the CUDA toolkit")


@functools.cache
def built_for_cuda(package: str = "mmcv") -> bool | None:
    """Whether the operators of an installed mmcv are built for CUDA; None where there are none."""
    found = importlib.util.find_spec(package)
    folders = found.submodule_search_locations if found else None
    file = next((path for folder in folders or () for path in Path(folder).glob("_ext*.so")), None)
    if file is None:
        return None
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return content.find(NEEDED) >= 0
