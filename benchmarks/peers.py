"""The same pair distilled by MMRazor's own distiller and by Retort, and the student alone by plain mmdet: images a second, side by side.

    python benchmarks/peers.py                 # CPU: RetinaNet R18 <- R50, 2 x 256x256
    python benchmarks/peers.py --device cuda   # RetinaNet R50 <- R101, 8 x 1333x800, fp32
    python benchmarks/peers.py --rounds 7 --methods cwd,pkd

MMRazor 1.0.0 is installed into a folder of its own, without its dependencies (--packages), and built by its released configs with this
pair's networks in them; FBKD's is the one for Faster R-CNN, as it has no other. Its quantisation, which torch 2.13 cannot load, is left
out, and it is told the mmcv that it asks for; its distillation is as it was released. All networks are those of `workers.detectors`, as
mmdet builds them; Retort's then have its layout and assignments. Within a round every step is timed once, in turn; medians are printed.
On a CPU it is the process's CPU time. "of its parts": a distilled step over a step of the student alone and the teacher's forward that
the method needs (features alone), of the same side.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import types
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from distill_step import CPU, GPU, Setting, batch, built, distilled, get_ready, seconds, training_step
from torch import nn

from studies.spec import MethodUse
from workers.detectors import model_config
from workers.detectors.configs import register, scope

PEER = "mmrazor==1.0.0"
CONFIGS = {  # of MMRazor, below its configs for mmdet
    "cwd": "cwd/cwd_fpn_retina_r101_retina_r50_1x_coco.py",
    "pkd": "pkd/pkd_fpn_retina_x101_retina_r50_2x_coco.py",
    "fbkd": "fbkd/fbkd_fpn_faster-rcnn_r101_faster-rcnn_r50_1x_coco.py",
}
LEFT_OUT = ["structures.quantization", "engine.runner.quantization_loops"]
LEFT_OUT += [f"models.{part}" for part in ("quantizers", "fake_quants", "observers", "algorithms.quantization")]


class LeftOut(types.ModuleType):
    """Stands in for a part of MMRazor: any name of it is an empty class."""

    __all__: tuple[str, ...] = ()
    __path__: tuple[str, ...] = ()

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


def import_peer(packages: Path) -> None:
    """Makes MMRazor's models known to mmengine's registries."""
    if not (packages / "mmrazor").exists():
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(packages), PEER]
        subprocess.run(command, check=True)
    sys.path.append(str(packages))
    for part in LEFT_OUT:
        sys.modules[f"mmrazor.{part}"] = LeftOut(f"mmrazor.{part}")
    import mmcv

    told, mmcv.__version__ = mmcv.__version__, "2.1.0"
    try:
        import mmrazor.models  # type: ignore[import-not-found]  # noqa: F401
    finally:
        mmcv.__version__ = told


def plain(setting: Setting, which: str, device: str) -> nn.Module:
    """The pair's student or teacher as mmdet builds it."""
    from mmdet.registry import MODELS

    torch.manual_seed(0)
    with scope():
        return MODELS.build(model_config(getattr(setting, which), setting.classes)).to(device)


def by_peer(setting: Setting, method: str, packages: Path, device: str) -> nn.Module:
    """MMRazor's algorithm by its released config, with these networks."""
    from mmengine.config import Config
    from mmrazor.registry import MODELS

    config = Config.fromfile(str(packages / "mmrazor" / ".mim" / "configs" / "distill" / "mmdet" / CONFIGS[method])).model
    config.pop("teacher_ckpt", None)
    config.architecture, config.teacher = plain(setting, "student", "cpu"), plain(setting, "teacher", "cpu")
    torch.manual_seed(0)
    model: nn.Module = MODELS.build(config).to(device)
    model.train()  # MMRazor's own gives nothing back
    return model


def forward(teacher: nn.Module, data: dict[str, Any]) -> Callable[[], None]:
    def run() -> None:
        with torch.no_grad():
            teacher.extract_feat(data["inputs"])

    return run


def measure(setting: Setting, wanted: list[str], rounds: int, device: str, packages: Path) -> None:
    data = batch(setting, device)
    student, teacher = (built(network, setting.classes, device) for network in (setting.student, setting.teacher))
    runs: dict[str, Callable[[], None]] = {
        "student, mmdet": training_step(plain(setting, "student", device).train(), data, nullcontext),
        "student, Retort": training_step(student.train(), data, nullcontext),
        "teacher, mmdet": forward(plain(setting, "teacher", device).eval(), data),
        "teacher, Retort": forward(teacher.eval(), data),
    }
    for method in wanted:
        runs[f"{method}, MMRazor"] = training_step(by_peer(setting, method, packages, device), data, nullcontext)
        runs[f"{method}, Retort"] = training_step(distilled(setting, MethodUse(id=method), device), data, nullcontext)
    for run in runs.values():
        run()
        run()
    took = [{name: seconds(run, device) for name, run in runs.items()} for _ in range(rounds)]
    images = setting.size[0]

    def rate(name: str) -> str:
        return f"{images / statistics.median(each[name] for each in took):.3g}"

    def ratio(over: str, *under: str) -> str:
        each = [one[over] / sum(one[name] for name in under) for one in took]
        return f"{statistics.median(each):.3f} ({min(each):.3f} to {max(each):.3f})"

    print(f"\n{setting.title}, {rounds} rounds\n")
    print("| | MMRazor or mmdet, images/s | Retort, images/s | Retort's time over theirs | of its parts: theirs | Retort's |")
    print("|---|---|---|---|---|---|")
    alone = "student, mmdet", "student, Retort"
    print(f"| student alone | {rate(alone[0])} | {rate(alone[1])} | {ratio(alone[1], alone[0])} | | |")
    for method in wanted:
        mine, theirs = f"{method}, Retort", f"{method}, MMRazor"
        parts = ratio(theirs, "student, mmdet", "teacher, mmdet"), ratio(mine, "student, Retort", "teacher, Retort")
        print(f"| {method} | {rate(theirs)} | {rate(mine)} | {ratio(mine, theirs)} | {' | '.join(parts)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--methods", default=",".join(CONFIGS))
    parser.add_argument("--packages", type=Path, default=Path(tempfile.gettempdir()) / "retort-benchmark-peers")
    given = parser.parse_args()
    get_ready(given.device)
    register()
    import_peer(given.packages)
    measure((GPU if given.device == "cuda" else CPU)[0], given.methods.split(","), given.rounds, given.device, given.packages)


if __name__ == "__main__":
    main()
