"""What a training can die of, told as a TrialFailure with its class and one sentence."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from studies.trial import TrialFailure
from workers.datasets.images import UnreadableImage

# What allocations end with. oneDNN's last one is meant as a whole: "could not create a primitive descriptor" is something else.
NO_MEMORY = re.compile(r"can't allocate memory|out of memory|_STATUS_ALLOC_FAILED|^could not create a primitive$")
# What is the machine's or the driver's fault, or may be: such a trial is tried again.
LOADER = re.compile(r"^DataLoader worker .*(killed|exited)")
DEVICE = re.compile(
    r"CUDA|NCCL|cuda(rt)? error|cu(DNN|BLAS|SOLVER|FFT)|CU(DNN|BLAS|SOLVER|FFT)_|unable to find an engine|ProcessGroup|socket|c10d|gloo"
)
WANTED = re.compile(r"Tried to allocate ([\d.]+ \w+)")
CAPACITY = re.compile(r"total capacity of ([\d.]+ \w+)")


@contextmanager
def failures_named(images: int) -> Iterator[None]:
    """Turns what a training can die of into a TrialFailure with its class and one sentence. images: of a forward pass."""
    try:
        yield
    except TrialFailure:
        raise
    except UnreadableImage as error:
        raise TrialFailure("data", error.sentence) from error
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise _no_memory(str(error), images) from error
    except FileNotFoundError as error:
        raise TrialFailure("data", f"a file of the dataset is missing: {error.filename or error}") from error
    except OSError as error:
        last = (str(error).strip().splitlines() or ["no reason given"])[-1]  # a loader's process adds its traceback in front of it
        raise TrialFailure("infra", f"{type(error).__name__}: {last.removeprefix(f'{type(error).__name__}: ')}") from error
    except RuntimeError as error:
        text = str(error).splitlines()[0] if str(error) else type(error).__name__
        if LOADER.search(text):
            told = "a process that loads images died, as where the machine has too little memory or shared memory (/dev/shm)"
            raise TrialFailure("infra", f"{told}: {text}") from error
        if NO_MEMORY.search(text):
            raise _no_memory(str(error), images) from error
        if DEVICE.search(text):
            raise TrialFailure("infra", text) from error
        raise TrialFailure("user", f"the network or a distiller cannot run: {text}") from error
    except (ValueError, TypeError, KeyError, AssertionError, AttributeError, IndexError) as error:
        raise TrialFailure("user", f"the network or a distiller cannot run: {type(error).__name__}: {error}") from error


def _no_memory(text: str, images: int) -> TrialFailure:
    """What would help, in numbers: of the message where it has any."""
    capacity, wanted = CAPACITY.search(text), WANTED.search(text)
    where = f"the device's memory of {capacity[1]}" if capacity else "the memory"
    more = f" (it wanted {wanted[1]} more)" if wanted else ""
    way = (
        f"set schedule.accumulate so that {max(1, images // 2)} pass at once, schedule.batch_size to fewer (the learning rate follows it), "
        "or use a device with more memory"
        if images > 1
        else "use a smaller network or a device with more memory"
    )
    return TrialFailure("oom", f"{where} does not hold {images} images at once{more}; {way}".replace("1 images", "one image"))
