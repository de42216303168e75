"""A distilled step of Retort beside the same one of MMRazor, which distils mmdet's detectors too: images a second.

    python benchmarks/peers.py [--rounds 7] [--methods cwd,pkd,fbkd]
    python benchmarks/peers.py --device cuda

RetinaNet R18 <- R50 at 2 x 256 x 256 on a CPU, R50 <- R101 at 8 x 1333 x 800 in bf16 on a GPU. Each method reads what MMRazor's
published configs have it read, by its quickest algorithm (the teacher runs without its head); Retort's has its own defaults. All train the
very same networks, in this process and in turn, round by round, so that a drift of the machine's speed falls out of the ratios; the median
is printed. "over" is the time over that of a plain mmdet step of the student plus a forward of the teacher.

MMRazor comes from the package index into a folder of its own and runs on the mmdet that is here. It refuses an mmcv above 2.1.0, so it is
told that number.
"""

import argparse
import logging
import statistics
import subprocess
import sys
import tempfile
import warnings
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from distill_step import CPU, GPU, Setting, batch, seconds, training_step
from torch import nn

from studies.spec import MethodUse
from workers.detectors import build, describe
from workers.distillation.student import DistilledDetector

MMRAZOR, ITS_NEEDS, ITS_NEWEST_MMCV = "mmrazor==1.0.0", "ordered-set==4.1.0", "2.1.0"


def install(folder: Path) -> None:
    """MMRazor in `folder`, ready to be imported."""
    if not (folder / "mmrazor").is_dir():
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder)]
        subprocess.run([*pip, MMRAZOR, ITS_NEEDS], check=True)
    sys.path.append(str(folder))
    import mmcv

    mmcv.__version__ = ITS_NEWEST_MMCV


def of_pyramid(levels: int, loss: dict[str, Any]) -> dict[str, Any]:
    """A distiller of MMRazor's that compares so many levels of the pyramids."""
    recorders = {"fpn": {"type": "ModuleOutputs", "source": "neck"}}

    def read(level: int, student: bool) -> dict[str, Any]:
        return {"from_student": student, "recorder": "fpn", "data_idx": level}

    return {
        "type": "ConfigurableDistiller",
        "student_recorders": recorders,
        "teacher_recorders": recorders,
        "distill_losses": {f"loss_{level}": loss for level in range(levels)},
        "loss_forward_mappings": {
            f"loss_{n}": {"preds_S": read(n, student=True), "preds_T": read(n, student=False)} for n in range(levels)
        },
    }


def fbkd() -> dict[str, Any]:
    """Likewise with FBKD's attention and non-local blocks on four levels."""
    recorders = {f"neck_{n}": {"type": "ModuleOutputs", "source": f"neck.fpn_convs.{n}.conv"} for n in range(4)}
    block = {"in_channels": 256, "mode": "dot_product", "sub_sample": True}
    sizes: list[dict[str, int]] = [{"reduction": 4, "maxpool_stride": 8}, {"reduction": 4, "maxpool_stride": 4}, {}, {}]
    connectors = {
        f"{who}_{n}": {"type": f"FBKD{who.title()}Connector", **block, **size}
        for n, size in enumerate(sizes)
        for who in ("student", "teacher")
    }

    def read(level: int, who: str) -> dict[str, Any]:
        return {"from_student": who == "student", "recorder": f"neck_{level}", "connector": f"{who}_{level}"}

    return {
        "type": "ConfigurableDistiller",
        "student_recorders": recorders,
        "teacher_recorders": recorders,
        "distill_losses": {f"loss_{n}": {"type": "FBKDLoss"} for n in range(4)},
        "connectors": connectors,
        "loss_forward_mappings": {f"loss_{n}": {"s_input": read(n, "student"), "t_input": read(n, "teacher")} for n in range(4)},
    }


METHODS = {
    "cwd": of_pyramid(5, {"type": "ChannelWiseDivergence", "tau": 1, "loss_weight": 10}),
    "pkd": of_pyramid(4, {"type": "PKDLoss", "loss_weight": 10}),
    "fbkd": fbkd(),
}


def measure(setting: Setting, device: str, rounds: int, wanted: list[str]) -> None:
    from mmrazor.models.algorithms import FpnTeacherDistill

    precision = (lambda: torch.autocast("cuda", torch.bfloat16)) if device == "cuda" else nullcontext
    data, images = batch(setting, device), setting.size[0]

    def built(network: Any) -> nn.Module:
        torch.manual_seed(0)
        return build(network, setting.classes).to(device)

    plain, teacher = built(setting.student).train(), built(setting.teacher).eval()

    @torch.no_grad()
    def teach() -> None:
        with precision():
            teacher.extract_feat(data["inputs"])

    print(f"\n{setting.title}, {rounds} rounds\n{'':8}{'student':>10}{'MMRazor':>10}{'over':>7}{'Retort':>10}{'over':>7}   images/s")
    for name in wanted:
        theirs = FpnTeacherDistill(distiller=METHODS[name], teacher=built(setting.teacher), architecture=built(setting.student))
        student, taught = built(setting.student), built(setting.teacher)
        infos = describe(setting.student, student), describe(setting.teacher, taught)
        ours = DistilledDetector(student, taught, [MethodUse(id=name)], infos)
        ours.iteration = 10_000  # past every ramp
        models = [plain, *(model.to(device).train() for model in (theirs, ours))]
        runs = [teach, *(training_step(model, data, precision) for model in models)]
        for run in (*runs, *runs):
            run()
        times = [[seconds(run, device) for run in runs] for _ in range(rounds)]
        alone, razor, retort = (images / statistics.median(each[n] for each in times) for n in (1, 2, 3))
        over = [statistics.median(each[n] / (each[0] + each[1]) for each in times) for n in (2, 3)]
        print(f"{name:8}{alone:10.2f}{razor:10.2f}{over[0]:7.3f}{retort:10.2f}{over[1]:7.3f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "retort-peers", help="where MMRazor is put")
    given = parser.parse_args()
    if given.device == "cuda" and not torch.cuda.is_available():
        sys.exit("no GPU is visible to torch here")
    warnings.simplefilter("ignore")
    logging.disable(logging.INFO)
    torch.set_num_threads(1)
    install(given.folder)
    measure(GPU[0] if given.device == "cuda" else CPU[0], given.device, given.rounds, given.methods.split(","))


if __name__ == "__main__":
    main()
