"""What distillation costs: a distilled training step over (plain student step + teacher forward), in time and peak memory.

    python benchmarks/distill_step.py                  # CPU: RetinaNet R18 <- R50 at 2 x 256^2, the nano pairs of GFL and Faster R-CNN
    python benchmarks/distill_step.py --rounds 12 --methods fitnet,ld
    python benchmarks/distill_step.py --device cuda    # RetinaNet and GFL R50 <- R101, Faster R50 <- Cascade Mask X101, 8 x 1333x800, bf16

The teacher forward of the base is what the method needs: without the head for methods that read features only. The three
are timed in turn, round by round, so that a drift of the machine's speed falls out of the ratio; the median is printed. The
column "method" is the method's own forward and backward on features of that size, as a share of the base; "steps/s" and "GiB" are of
the distilled step, its memory without weights.
"""

import argparse
import logging
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import nn

from studies.catalog import DETECTORS
from studies.methods import methods
from studies.spec import MethodUse, Network
from workers.detectors import build, describe
from workers.detectors.layout import channels_last
from workers.distillation.captures import RoIs
from workers.distillation.step import Outputs, Step
from workers.distillation.student import DistilledDetector, over_devices
from workers.distillation.teacher import Teacher

TARGETS = dict.fromkeys(["fitnet", "pdf_distil", "frs", "ld", "defeat", "fgfi", "cwd", "pkd"], 1.05) | dict.fromkeys(
    ["fbkd", "fgd", "mgd", "crosskd"], 1.15
)


@dataclass(frozen=True)
class Setting:
    """A pair of networks and a batch: `size` is (N, H, W)."""

    title: str
    student: Network
    teacher: Network
    size: tuple[int, int, int]
    classes: int


def pair(student: str, teacher: str, size: tuple[int, int, int], width: tuple[int, int] | None = None) -> Setting:
    """Networks as "detector/backbone"; `width` makes them narrow."""
    ours, theirs = (
        Network(detector=name.split("/")[0], backbone=name.split("/")[1], width=w)
        for name, w in zip((student, teacher), width or (None, None), strict=True)
    )
    n, h, w = size
    title = f"{DETECTORS[ours.detector].title} {ours.backbone} <- {DETECTORS[theirs.detector].title} {theirs.backbone}"
    return Setting(f"{title}{' (nano)' if width else ''}, {n} x {h}x{w}", ours, theirs, size, 10 if width else 80)


CPU = [
    pair("retinanet/resnet18", "retinanet/resnet50", (2, 256, 256)),
    pair("gfl/resnet18", "gfl/resnet34", (8, 128, 128), (8, 16)),
    pair("faster_rcnn/resnet18", "cascade_mask_rcnn/resnet34", (8, 128, 128), (8, 16)),
]
GPU = [
    pair("retinanet/resnet50", "retinanet/resnet101", (8, 800, 1344)),
    pair("gfl/resnet50", "gfl/resnet101", (8, 800, 1344)),
    pair("faster_rcnn/resnet50", "cascade_mask_rcnn/resnext101_32x4d_dcn", (8, 800, 1344)),
]


def batch(setting: Setting, device: str) -> dict[str, Any]:
    """Random pixels with eight boxes an image, as mmdet's preprocessor hands them over."""
    from mmdet.structures import DetDataSample
    from mmengine.structures import InstanceData

    n, h, w = setting.size
    generator = torch.Generator().manual_seed(0)
    samples = []
    for _ in range(n):
        corner = torch.rand(8, 2, generator=generator) * torch.tensor([w, h]) * 0.6
        extent = (0.08 + 0.3 * torch.rand(8, 2, generator=generator)) * torch.tensor([w, h])
        labels = torch.randint(0, setting.classes, (8,), generator=generator)
        boxes = torch.cat([corner, corner + extent], 1)
        sample = DetDataSample(gt_instances=InstanceData(bboxes=boxes.to(device), labels=labels.to(device)))
        sample.set_metainfo({"img_shape": (h, w), "pad_shape": (h, w), "batch_input_shape": (h, w)})
        samples.append(sample)
    return {"inputs": torch.randn(n, 3, h, w, generator=generator).to(device), "data_samples": samples}


def built(network: Network, classes: int, device: str) -> nn.Module:
    """A network with its memory as in training. The same weights each time: how many proposals a two-stage detector finds, and its time,
    depends on them."""
    torch.manual_seed(0)
    model = build(network, classes)
    channels_last(model)
    return model.to(device)


def taught_by(setting: Setting, device: str) -> Teacher:
    """The pair's teacher."""
    return Teacher(built(setting.teacher, setting.classes, device))


def distilled(setting: Setting, use: MethodUse, device: str, shared: Teacher | None = None) -> DistilledDetector:
    """The pair's student as it trains under a method. shared: its teacher, which others have too."""
    student, teacher = built(setting.student, setting.classes, device), shared or taught_by(setting, device)
    infos = describe(setting.student, student), describe(setting.teacher, teacher.detector)
    model = DistilledDetector(student, teacher, [use], infos).to(device).train()
    model.iteration = 10_000  # past every ramp
    return model


def training_step(model: nn.Module, data: dict[str, Any], precision: Callable[[], Any]) -> Callable[[], None]:
    """One step of `model`: loss, backward, SGD."""
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1e-5)

    def step() -> None:
        with precision():
            losses = model(**data, mode="loss")
        total = sum(v if isinstance(v, torch.Tensor) else sum(v) for k, v in losses.items() if "loss" in k)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()

    return step


def get_ready(device: str, threads: int = 1) -> None:
    """Ends this program where the device is not there. On one CPU thread `seconds` tells the process's own: other work falls out."""
    if device == "cuda" and not torch.cuda.is_available():
        sys.exit("no GPU is visible to torch here")
    warnings.simplefilter("ignore")
    logging.disable(logging.INFO)
    torch.set_num_threads(threads)
    if device == "cpu" and threads == 1:
        time.perf_counter = time.process_time


def seconds(run: Callable[[], None], device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    started = time.perf_counter()
    run()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def peak_bytes(run: Callable[[], None], device: str) -> int:
    """Most bytes of tensors alive above what was alive before."""
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        run()
    alive = peak = 0
    events = [e for e in profile.profiler.kineto_results.events() if e.name() == "[memory]"]  # type: ignore[union-attr]
    for event in sorted(events, key=lambda e: e.start_ns()):
        alive += event.nbytes()
        peak = max(peak, alive)
    return peak


def fitting(setting: Setting, wanted: list[str] | None) -> Iterator[MethodUse]:
    student, teacher = DETECTORS[setting.student.detector], DETECTORS[setting.teacher.detector]
    for name, method in methods().items():
        if (wanted is None or name in wanted) and method.misfit(student, teacher, method.options()) is None:
            yield MethodUse(id=name)


def measure(setting: Setting, device: str, rounds: int, wanted: list[str] | None) -> None:
    precision = (lambda: torch.autocast("cuda", torch.bfloat16)) if device == "cuda" else nullcontext
    data = batch(setting, device)

    plain = built(setting.student, setting.classes, device).train()
    plain_step = training_step(plain, data, precision)
    print(
        f"\n{setting.title}, {rounds} rounds\n{'method':12}{'time':>8}{'target':>8}{'memory':>9}{'method':>9}{'steps/s':>9}{'GiB':>7}"
        "   base: student + teacher, ms"
    )
    for use in fitting(setting, wanted):
        model = distilled(setting, use, device)
        if RoIs in model.recorder.captures:
            continue  # reads the teacher on the student's RoIs, which is no forward of its own to compare with
        step = training_step(model, data, precision)

        def teach(model: DistilledDetector = model) -> None:
            with precision():
                model.taught_by.look(data["inputs"], model.exact_head)

        for warm_up in (plain_step, teach, step):
            warm_up()
            warm_up()
        times = [[seconds(run, device) for run in (plain_step, teach, step)] for _ in range(rounds)]
        ratio = statistics.median(c / (a + b) for a, b, c in times)
        base = [1000 * statistics.median(t[i] for t in times) for i in (0, 1)]
        own = statistics.median(own_time(model, data, precision, device) for _ in range(max(3, rounds // 3)))
        rate = 1 / statistics.median(c for *_, c in times)
        peak = peak_bytes(step, device)
        memory = peak / (peak_bytes(plain_step, device) + peak_bytes(teach, device))
        target = f"{TARGETS[use.id]:.2f}" if use.id in TARGETS else "-"
        shares = f"{use.id:12}{ratio:8.3f}{target:>8}{memory:9.3f}{1000 * own / sum(base):9.3f}{rate:9.2f}{peak / 2**30:7.2f}"
        print(f"{shares}   {base[0]:.0f} + {base[1]:.0f}", flush=True)


def leaf(value: Any) -> Any:
    """What a network gave, maps cut off from what they were computed from."""
    if isinstance(value, torch.Tensor):
        return value.detach().requires_grad_()
    if isinstance(value, dict):
        return {name: leaf(each) for name, each in value.items()}
    return tuple(map(leaf, value)) if isinstance(value, tuple) else value


def leaves(outputs: Outputs) -> Outputs:
    """What the student gave, likewise."""
    return Outputs(**{each.name: leaf(getattr(outputs, each.name)) for each in fields(outputs)})


def cut_step(model: DistilledDetector, data: dict[str, Any]) -> tuple[Step, int]:
    """The step of the whole batch, cut off from the student, and over how many devices the method's loss is taken."""
    seen: list[Step] = []
    watch = model.distillers[0].register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    model(**data, mode="loss")
    watch.remove()
    whole = seen[0].batch or seen[0]
    return replace(whole, student=leaves(whole.student)), len(seen)


def own_time(model: DistilledDetector, data: dict[str, Any], precision: Callable[[], Any], device: str) -> float:
    """Seconds of the distiller itself, forward and backward down to the student's outputs."""
    with precision():
        step, _ = cut_step(model, data)

    def run() -> None:
        for distiller, use in model.weighted:
            total = torch.stack(list(over_devices(distiller, step, use.per_device_images).values())).sum()
            if total.requires_grad:
                total.backward()

    return seconds(run, device)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--methods", help="comma-separated ids; default: all that fit")
    given = parser.parse_args()
    get_ready(given.device, given.threads)
    for setting in GPU if given.device == "cuda" else CPU:
        measure(setting, given.device, given.rounds, given.methods.split(",") if given.methods else None)


if __name__ == "__main__":
    main()
