"""How many kernels a training step would launch on a GPU, and how often it would wait for one; counted on a CPU, so that no GPU is needed.

    python benchmarks/launches.py                       # heads with their assignments, then every method that fits GFL
    python benchmarks/launches.py --heads gfl,pdf       # some of them
    python benchmarks/launches.py --methods fgfi,defeat

A launch is an operation at torch's dispatcher that computes or copies: views, allocations and shapes are none. A wait is an operation whose
result the host must know before it can go on (`item`, `nonzero`, a boolean mask as an index, ...) or a copy between host and device from or
to memory that is not pinned (`tolist`, `cpu`, `torch.tensor(..., device=)`). Both are what the host asks for: kernels that a library adds
inside an operation, such as the passes of a top-k, are not seen. Numbers depend on images, levels and objects, not on widths, so networks
are narrow: 16 images of 128x128 with eight objects each.
"""

from __future__ import annotations

import argparse
import logging
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from distill_step import Setting, batch, built, cut_step, distilled, fitting, pair
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from studies.spec import Network
from workers.distillation.student import over_devices

IMAGES = (16, 128, 128)
CLASSES = 10
HEADS = {
    "gfl": Network(detector="gfl", backbone="resnet18", width=8),
    "atss": Network(detector="atss", backbone="resnet18", width=8),
    "retinanet": Network(detector="retinanet", backbone="resnet18", width=8),
    "fcos": Network(detector="fcos", backbone="resnet18", width=8),
    "pdf": Network(detector="retinanet", backbone="resnet18", width=8, form="pdf_fpn"),
    "pdf points": Network(detector="fcos", backbone="resnet18", width=8, form="pdf_fpn"),
}
PAIR = pair("gfl/resnet18", "gfl/resnet34", IMAGES, (8, 16))
# Operations that ask nothing of the device although they give no view.
SILENT = {"empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "resize_", "_local_scalar_dense", "lift_fresh", "set_"}
WAITS = {
    "_local_scalar_dense",
    "nonzero",
    "masked_select",
    "_unique2",
    "unique_dim",
    "unique_consecutive",
    "bincount",
    "equal",
    "is_nonzero",
}
TO_HOST = {Tensor.tolist, Tensor.cpu, Tensor.numpy, Tensor.__array__}
FROM_HOST = {Tensor.new_tensor, torch.tensor, torch.as_tensor}


class Count:
    """Launches and waits by operation."""

    def __init__(self) -> None:
        self.launches, self.waits = Counter[str](), Counter[str]()

    def __str__(self) -> str:
        return f"{self.launches.total():9}{self.waits.total():7}"


class _Dispatched(TorchDispatchMode):
    def __init__(self, count: Count) -> None:
        super().__init__()
        self.count = count

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = function.overloadpacket.__name__
        returns = function._schema.returns
        view = bool(returns) and all(r.alias_info is not None and not r.alias_info.is_write for r in returns)
        if not view and name not in SILENT:
            self.count.launches[name] += 1
        if name in WAITS or _picks_by_mask(name, args):
            self.count.waits[name] += 1
        return function(*args, **(kwargs or {}))


class _Called(TorchFunctionMode):
    def __init__(self, count: Count) -> None:
        super().__init__()
        self.count = count

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        copied = function is Tensor.new_tensor or kwargs.get("device") is not None
        if function in TO_HOST or (function in FROM_HOST and copied):
            self.count.waits[function.__name__] += 1
        return function(*args, **kwargs)


def _picks_by_mask(name: str, args: Any) -> bool:
    """Whether an index is a boolean mask, whose size the host must know; a single value is filled in without."""
    if name not in {"index", "index_put", "index_put_", "_index_put_impl_"}:
        return False
    masks = any(each is not None and each.dtype in {torch.bool, torch.uint8} for each in args[1])
    return masks and not (len(args) > 2 and args[2].numel() == 1)


@contextmanager
def counted() -> Iterator[Count]:
    """What is launched and waited for inside."""
    count = Count()
    with _Dispatched(count), _Called(count):
        yield count


def total_of(losses: dict[str, Any]) -> Tensor:
    """The sum of mmdet's losses, a tensor or one per level each."""
    values = [v for value in losses.values() for v in (value if isinstance(value, (list, tuple)) else [value])]
    return torch.stack([value.sum() for value in values]).sum()


def count_head(network: Network, setting: Setting, told: Callable[[str, Count, Count], None]) -> None:
    """A detector's backbone and neck, and its dense head with assignment and losses, forward and backward."""
    model: Any = built(network, CLASSES, "cpu").train()
    data = batch(setting, "cpu")
    for _ in range(2):  # what is made once and kept is not counted
        with counted() as body:
            levels = model.extract_feat(data["inputs"])
        cut = tuple(level.detach().requires_grad_() for level in levels)
        with counted() as forward:
            losses = model.bbox_head.loss(cut, data["data_samples"])
        total = total_of(losses)
        with counted() as backward:
            total.backward()
    told("backbone and neck", body, Count())
    told("head, assignment, losses", forward, backward)


def count_methods(setting: Setting, wanted: list[str] | None, told: Callable[[str, Count, Count], None]) -> None:
    """Every method of a pair by itself: from what the networks gave to its losses, and back."""

    data = batch(setting, "cpu")
    for use in fitting(setting, wanted):
        model = distilled(setting, use, "cpu")
        step, devices = cut_step(model, data)
        distiller, settled = model.weighted[0]
        with counted() as forward:
            losses = over_devices(distiller, step, settled.per_device_images)
        total = total_of(losses)
        with counted() as backward:
            if total.requires_grad:
                total.backward()
        told(use.id if devices == 1 else f"{use.id} ({devices} devices)", forward, backward)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--heads", help=f"comma-separated, of {', '.join(HEADS)}; default: all")
    parser.add_argument("--methods", help="comma-separated ids; default: all that fit")
    parser.add_argument("--details", action="store_true", help="name the operations behind every number")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.INFO)
    torch.set_num_threads(1)

    def told(what: str, forward: Count, backward: Count) -> None:
        print(f"{what:34}{forward}{backward}", flush=True)
        if given.details:
            for name in ("launches", "waits"):
                print(f"    {name}: {', '.join(f'{op} {n}' for op, n in getattr(forward, name).most_common())}")

    print(f"{'16 images of 128x128':34}{'launches':>9}{'waits':>7}{'backward':>9}{'waits':>7}")
    some = given.heads or given.methods
    for name in given.heads.split(",") if given.heads else [] if some else HEADS:
        network = HEADS[name]
        setting = Setting(name, network, network, IMAGES, CLASSES)
        count_head(network, setting, lambda what, *counts, name=name: told(f"{name}: {what}", *counts))
    methods = given.methods.split(",") if given.methods else None
    if methods or not some:
        print(PAIR.title)
        count_methods(PAIR, methods, told)


if __name__ == "__main__":
    main()
