"""What a training can die of, told as a TrialFailure with its class and one sentence."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from studies.trial import TrialFailure
from workers.data import UnreadableImage


@contextmanager
def failures_named() -> Iterator[None]:
    """Turns what a training can die of into a TrialFailure with its class and one sentence."""
    try:
        yield
    except TrialFailure:
        raise
    except UnreadableImage as error:
        raise TrialFailure("data", error.sentence) from error
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise TrialFailure("oom", "the device ran out of memory; lower schedule.batch_size or give the trial more devices") from error
    except FileNotFoundError as error:
        raise TrialFailure("data", f"a file of the dataset is missing: {error.filename or error}") from error
    except OSError as error:
        raise TrialFailure("infra", f"{type(error).__name__}: {error}") from error
    except RuntimeError as error:
        text = str(error).splitlines()[0] if str(error) else type(error).__name__
        # oneDNN's "could not create a primitive" (not: "a primitive descriptor") is what its allocations end with.
        if "can't allocate memory" in text or "out of memory" in text or text == "could not create a primitive":
            raise TrialFailure("oom", "the machine ran out of memory; lower schedule.batch_size") from error
        if "CUDA" in text or "NCCL" in text:
            raise TrialFailure("infra", text) from error
        raise TrialFailure("user", f"the network or a distiller cannot run: {text}") from error
    except (ValueError, TypeError, KeyError, AssertionError, AttributeError, IndexError) as error:
        raise TrialFailure("user", f"the network or a distiller cannot run: {type(error).__name__}: {error}") from error
