"""What a training died of: its class decides whether it is tried again, its sentence what a person does."""

import os
import signal

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from studies.trial import TrialFailure
from workers.datasets.images import LoadImage
from workers.failures import failures_named


def named(error: BaseException, images: int = 16) -> TrialFailure:
    with pytest.raises(TrialFailure) as caught, failures_named(images):
        raise error
    assert "\n" not in caught.value.sentence
    return caught.value


@pytest.mark.parametrize(
    "text",
    [
        "DataLoader worker (pid 4711) is killed by signal: Killed. ",
        "DataLoader worker (pid(s) 4711, 4712) exited unexpectedly",
        "DataLoader worker (pid 4711) is killed by signal: Bus error. It is possible that dataloader's workers are out of shared memory.",
        "cuDNN error: CUDNN_STATUS_EXECUTION_FAILED",
        "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR\nYou can try to repro this exception using the following code snippet.",
        "CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`",
        "CUDA error: uncorrectable ECC error encountered\nCUDA kernel errors might be asynchronously reported",
        "NCCL communicator was aborted on rank 1.",
        "[Rank 0] Watchdog caught collective operation timeout: WorkNCCL(SeqNum=12, OpType=ALLREDUCE)",
        "GET was unable to find an engine to execute this computation",
        "[third_party/gloo/gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:41234",
    ],
)
def test_what_the_machine_did_is_tried_again(text: str) -> None:
    found = named(RuntimeError(text))
    assert found.kind == "infra"
    assert text.splitlines()[0].strip() in found.sentence


class Dying(Dataset[int]):
    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> int:
        os.kill(os.getpid(), signal.SIGKILL)
        return index


def test_a_loader_process_that_is_killed_is_the_machines_doing() -> None:
    with pytest.raises(TrialFailure, match="a process that loads images died") as caught, failures_named(4):
        list(DataLoader(Dying(), num_workers=1))
    assert caught.value.kind == "infra"


class Stale(Dataset[int]):
    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> int:
        LoadImage().transform({"img_path": "/proc/self/mem"})  # a file that opens and whose reading fails with an I/O error
        return index


def test_a_file_system_that_fails_to_read_an_image_is_the_machines_doing() -> None:
    """Other than an image that is not there, or is none: that is the dataset's."""
    with pytest.raises(TrialFailure) as caught, failures_named(4):
        list(DataLoader(Stale(), num_workers=1))
    assert caught.value.kind == "infra"
    assert caught.value.sentence == "OSError: [Errno 5] Input/output error"


def test_a_gpu_without_memory_says_what_would_help_in_numbers() -> None:
    text = (
        "CUDA out of memory. Tried to allocate 2.25 GiB. GPU 0 has a total capacity of 79.10 GiB of which 1.02 GiB is free. "
        "Including non-PyTorch memory, this process has 78.07 GiB memory in use.\nSee documentation for Memory Management"
    )
    for error in (torch.OutOfMemoryError(text), RuntimeError(text)):
        found = named(error)
        assert found.kind == "oom"
        assert found.sentence == (
            "the device's memory of 79.10 GiB does not hold 16 images at once (it wanted 2.25 GiB more); set schedule.accumulate so that "
            "8 pass at once, schedule.batch_size to fewer (the learning rate follows it), or use a device with more memory"
        )
    alone = named(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), images=1)
    assert alone.kind == "oom"
    assert alone.sentence == "the memory does not hold one image at once; use a smaller network or a device with more memory"


def test_what_a_network_cannot_do_is_the_studys_doing() -> None:
    for error in (
        RuntimeError("mat1 and mat2 shapes cannot be multiplied"),
        RuntimeError("could not create a primitive descriptor"),
        KeyError("x"),
    ):
        assert named(error).kind == "user"
