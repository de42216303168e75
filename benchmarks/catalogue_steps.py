"""One training step of every detector family with every distiller at nano, and of the papers' teacher-student pairs at paper size.

    python -m benchmarks.catalogue_steps             # family x method at nano, in minutes; writes docs/results/catalogue-steps.md
    python -m benchmarks.catalogue_steps --paper     # pairs of the papers' tables, a quarter of an hour; docs/results/paper-pairs.md

A step is forward, backward and AdamW on made-up images with boxes and masks: all losses and gradients must be finite, the method's
own loss must be among them, and the student's backbone must learn. At nano an evaluation follows: the student predicts boxes inside
its distillation, and alone from its exported weights, which must be the same. Weights are random; nothing is downloaded. The command
ends with 1 where anything failed.
"""

import argparse
import copy
import ctypes
import functools
import gc
import logging
import shlex
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from studies.catalog import BACKBONES, DATASETS, DETECTORS, FORMS, channels_of, in_form, of_pdf_distil
from studies.code import code_version
from studies.methods import methods
from studies.recipes import NANO_WIDTH
from studies.spec import MethodUse, Network
from tests.workers.synthetic import batch
from workers.detectors import build, describe
from workers.distillation.student import DistilledDetector

T = TypeVar("T")
RESULTS = Path(__file__).parent.parent / "docs" / "results"
STUDENTS = {"pdf_pafpn": "pdf_fpn", "doubled": None}  # forms that only teach, and the form of their students; others teach themselves


STATED = {"frs": {"alpha": 0.01, "beta": 0.05}}  # what a method has no published value of for some detectors


def used(method: str) -> MethodUse:
    return MethodUse(id=method, options=STATED.get(method, {}))


@dataclass(frozen=True)
class Pair:
    """A student and its teacher."""

    student: Network
    teacher: Network

    @property
    def title(self) -> str:
        return f"{title(self.student)} <- {title(self.teacher)}"

    def misfit(self, use: MethodUse) -> str | None:
        """Why the method cannot distil this pair, or None."""
        method = methods()[use.id]
        return method.misfit(self.student.family, self.teacher.family, method.options.model_validate(use.options))


def title(network: Network) -> str:
    form = f" ({network.form})" if network.form else ""
    return f"{DETECTORS[network.detector].title} {BACKBONES[network.backbone].title}{form}"


class Wrong(Exception):
    """What a step or an evaluation gave and must not."""


def require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise Wrong(otherwise)


def opinionated(network: Network, classes: int) -> Any:
    """The network with random weights whose heads have an opinion: fresh ones predict next to nothing, which proves nothing."""
    model: Any = build(network, classes)
    for name in ("rpn_head", "bbox_head", "roi_head"):
        for parameter in getattr(model, name).parameters() if hasattr(model, name) else ():
            parameter.data += 0.05 * torch.randn_like(parameter)
    (model.roi_head if hasattr(model, "roi_head") else model.bbox_head).test_cfg.score_thr = 0.0
    return model


def distilled(pair: Pair, student: Any, teacher: Any, use: MethodUse) -> DistilledDetector:
    infos = describe(pair.student, student), describe(pair.teacher, teacher)
    model = DistilledDetector(student, teacher, [use], infos)
    model.iteration = 1000  # past every ramp
    return model


def train(model: Any, data: dict[str, Any]) -> dict[str, Tensor]:
    """The losses of a step, after its backward and an AdamW step. Raises Wrong."""
    model.train()
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4)
    losses = {name: v if isinstance(v, Tensor) else torch.stack(list(v)).sum() for name, v in model(**data, mode="loss").items()}
    infinite = [name for name, value in losses.items() if not torch.isfinite(value).all()]
    require(not infinite, f"not finite: {', '.join(infinite)}")
    model.parse_losses(losses)[0].backward()
    gradients = [p.grad for p in trained if p.grad is not None]
    require(all(bool(torch.isfinite(g).all()) for g in gradients), "a gradient is not finite")
    learning = [p.grad for p in student_of(model).backbone.parameters() if p.grad is not None]
    require(any(bool(g.any()) for g in learning), "nothing teaches the backbone")
    optimizer.step()
    return {name: value.detach() for name, value in losses.items()}


def require_own(losses: dict[str, Tensor], plain: set[str], use: MethodUse) -> None:
    """Raises Wrong where the method added no loss to the student's, or a loss of nothing."""
    own = {name: float(value) for name, value in losses.items() if name not in plain}
    require(bool(own), f"{use.id} gives no loss")
    require(any(own.values()), f"{use.id} gives zero: {own}")


def evaluate(model: Any, exported: Any) -> None:
    """Predicts with the trained model and with `exported`, which takes its student's weights. Raises Wrong where they differ."""
    exported.load_state_dict(student_of(model).state_dict())
    with torch.no_grad():
        theirs, ours = ([image.pred_instances for image in m.eval()(**batch(), mode="predict")] for m in (exported, model))
    require(sum(len(image) for image in ours) > 0, "nothing is predicted")
    for name in ("bboxes", "scores", "labels"):
        same = all(torch.equal(a[name], b[name]) for a, b in zip(ours, theirs, strict=True))
        require(same, f"the exported student predicts other {name}")


def student_of(model: Any) -> Any:
    return getattr(model, "student", model)


@dataclass
class Family:
    """A row of the nano matrix: a pair, and its two networks, of which every cell takes copies."""

    pair: Pair
    student: nn.Module = field(init=False)
    teacher: nn.Module = field(init=False)
    plain: set[str] = field(init=False)

    def __post_init__(self) -> None:
        torch.manual_seed(0)
        self.student, self.teacher = (opinionated(network, 10) for network in (self.pair.student, self.pair.teacher))
        self.plain = set(copy.deepcopy(self.student).train()(**batch(), mode="loss"))

    def cell(self, method: str | None) -> None:
        """A step and an evaluation of the student, distilled by a method or plain. Raises whatever goes wrong."""
        student = copy.deepcopy(self.student)
        torch.manual_seed(1)
        if method is None:
            train(student, batch())
            return evaluate(student, copy.deepcopy(self.student))
        use = used(method)
        model = distilled(self.pair, student, copy.deepcopy(self.teacher), use)
        require_own(train(model, batch()), self.plain, use)
        return evaluate(model, copy.deepcopy(self.student))


def families() -> list[Pair]:
    """Every family and every form of it on its first backbone, taught on its second (where it has one)."""
    rows = [(detector, None, None) for detector in DETECTORS]
    for form in FORMS.values():
        if form.id not in STUDENTS.values():
            rows += [(detector, STUDENTS.get(form.id, form.id), form.id) for detector in form.detectors]
    return [Pair(nano(detector, student, "student"), nano(detector, teacher, "teacher")) for detector, student, teacher in rows]


def nano(detector: str, form: str | None, role: str) -> Network:
    backbones = in_form(detector, form).backbones
    backbone = backbones[min(len(backbones) - 1, 1 if role == "teacher" else 0)]
    return Network(detector=detector, backbone=backbone, form=form, width=NANO_WIDTH[role] // channels_of(form))


@dataclass
class Matrix:
    """What the nano steps gave: cells by (row, column), why methods do not fit, and what failed."""

    cells: dict[tuple[str, str], str] = field(default_factory=dict)
    misfits: dict[str, None] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)


def run_matrix(pairs: list[Pair]) -> Matrix:
    found = Matrix()
    for pair in pairs:
        began, family = time.process_time(), Family(pair)
        for method in (None, *methods()):
            column = method or "plain"
            sentence = pair.misfit(used(method)) if method else None
            if sentence:
                found.misfits[sentence] = None
            failure = None if sentence else attempt(functools.partial(family.cell, method))[1]
            found.cells[pair.title, column] = "-" if sentence else "FAILED" if failure else "ok"
            if failure:
                found.failures.append(f"{pair.title}, {column}: {failure}")
        print(f"{pair.title}: {time.process_time() - began:.1f} s", flush=True)
    return found


def attempt(run: Callable[[], T]) -> tuple[T | None, str | None]:
    """What it gives, and None; or None, and one line on what went wrong."""
    try:
        return run(), None
    except Exception as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        return None, f"{type(error).__name__}: {' '.join(str(error).split())[:200]} ({Path(frame.filename).name}:{frame.lineno})"


# The papers' tables: which, dataset, method with options, student, teacher; a network is detector/backbone[/form].
ZHANG_TWO_STAGE, ZHANG_ONE_STAGE = "cascade_mask_rcnn/resnext101_32x4d_dcn", "retinanet/resnext101_64x4d"
PDF = {"variant": "pdf"}  # as PDF-Distil compares its rivals
Row = tuple[str, str, str | tuple[str, dict[str, Any]], str, str]


def _rows() -> Iterator[Row]:
    for detector in ("retinanet", "gfl", "faster_rcnn", "fcos"):
        tables = "FRS 1, 3" if detector == "retinanet" else "FRS 1"
        yield tables, "coco", "frs", f"{detector}/resnet50", f"{detector}/resnet101"
    yield "LD 1", "coco", "ld", "gfl/resnet18", "gfl/resnet101"
    yield "LD 1", "coco", ("ld", {"individual_ld": True}), "gfl/resnet18", "gfl/resnet101"
    for backbone in ("resnet18", "resnet50", "resnext101_32x4d_dcn"):
        yield "LD 2", "coco", "ld", f"gfl/{backbone}", f"gfl/{backbone}"
    for detector, form in (("retinanet", "/distribution"), ("fcos", "/distribution"), ("atss", "/distribution"), ("gfl", "")):
        full = ("ld", {"main_kd": True, "vlr_ld": True})
        yield "LD 3", "coco", full, f"{detector}/resnet50{form}", f"{detector}/resnet101{form}"
    for backbone in ("resnet34", "resnet50", "resnet101", "resnet101_dcn"):
        yield "LD 4", "voc", "ld", "gfl/resnet18", f"gfl/{backbone}"
    for backbone in ("resnet50", "resnet101"):
        for detector in ("faster_rcnn", "cascade_rcnn", "dynamic_rcnn", "grid_rcnn"):
            tables = {"faster_rcnn/resnet50": "Zhang 1, 3-6", "cascade_rcnn/resnet50": "Zhang 1, 3"}
            student = f"{detector}/{backbone}"
            yield tables.get(student, "Zhang 1"), "coco", "fbkd", student, ZHANG_TWO_STAGE
        for detector in ("retinanet", "fsaf", "reppoints"):
            yield (
                "Zhang 1, 3" if (detector, backbone) == ("retinanet", "resnet50") else "Zhang 1",
                "coco",
                "fbkd",
                f"{detector}/{backbone}",
                ZHANG_ONE_STAGE,
            )
        for detector in ("mask_rcnn", "cascade_mask_rcnn"):
            yield "Zhang 2", "coco", "fbkd", f"{detector}/{backbone}", ZHANG_TWO_STAGE
    for method in ("chen2017", "fgfi", "ofd"):
        for detector in ("faster_rcnn", "cascade_rcnn"):
            yield "Zhang 3", "coco", method, f"{detector}/resnet50", ZHANG_TWO_STAGE
    yield "Zhang 3", "coco", "ofd", "retinanet/resnet50", ZHANG_ONE_STAGE
    yield "Zhang 7", "coco", "fbkd", "faster_rcnn/resnet18", ZHANG_TWO_STAGE
    yield "Zhang 7", "coco", "fbkd", "grid_rcnn/resnet18", ZHANG_TWO_STAGE
    yield "Zhang 7", "coco", "fbkd", "retinanet/resnet18", ZHANG_ONE_STAGE
    yield "Zhang 7", "coco", "fbkd", "retinanet/regnetx_800mf", ZHANG_ONE_STAGE
    yield "Zhang 7", "coco", "fbkd", "yolov3/darknet53", "yolov3/darknet53/doubled"
    yield "Zhang 7", "coco", "fbkd", "ssd/vgg16", "ssd/vgg16/doubled"
    for detector in ("faster_rcnn", "mask_rcnn"):
        yield "Zhang 8", "cityscapes", "fbkd", f"{detector}/resnet50", ZHANG_TWO_STAGE
    for detector in ("retinanet", "fcos"):
        for student, teacher in (("resnet18", "resnet34"), ("shufflenetv2_0.5", "shufflenetv2_1.0")):
            for method, options in (("fitnet", {}), ("fgfi", PDF), ("defeat", PDF), ("pad", PDF), ("pdf_distil", {})):
                tables = {"fitnet": "PDF 1, 2", "pdf_distil": "PDF 1, 2"}.get(method, "PDF 2") + (", 3" if detector == "retinanet" else "")
                yield tables, "voc", (method, options), f"{detector}/{student}/pdf_fpn", f"{detector}/{teacher}/pdf_pafpn"


def network_of(name: str) -> Network:
    detector, backbone, form = (*name.split("/"), None)[:3]
    return Network(detector=detector, backbone=backbone, form=form)


@dataclass(frozen=True)
class PaperPair:
    """A pair of the papers' tables. `tables`: paper and numbers of its tables."""

    tables: str
    dataset: str
    use: MethodUse
    pair: Pair

    @property
    def side(self) -> int:
        """Pixels of the square input: less than the papers', but no less than SSD's levels and PDF-Distil's need."""
        if self.pair.student.detector == "ssd":
            return 512
        return 320 if of_pdf_distil(self.pair.student.form) else 256


def paper_pairs() -> list[PaperPair]:
    """The distinct pairs with their methods, in the order of the papers."""
    rows = []
    for tables, dataset, method, student, teacher in _rows():
        name, options = (method, {}) if isinstance(method, str) else method
        rows.append(PaperPair(tables, dataset, MethodUse(id=name, options=options), Pair(network_of(student), network_of(teacher))))
    return rows


@dataclass
class Cost:
    """What a step took: seconds of CPU, and the most bytes that the process held (resident), both networks among them."""

    seconds: float
    peak: int


def run_paper_pair(row: PaperPair) -> Cost:
    """Builds both networks at paper size and trains the student for a step. Raises whatever goes wrong."""
    gc.collect()
    forget_peak()
    sentence = row.pair.misfit(row.use)
    require(sentence is None, str(sentence))
    torch.manual_seed(0)
    classes = DATASETS[row.dataset].classes
    student, teacher = (opinionated(network, classes) for network in (row.pair.student, row.pair.teacher))
    data = batch(images=1, side=row.side)
    plain = set(loss_names(student, data))
    model = distilled(row.pair, student, teacher, row.use)
    began = time.process_time()
    losses = train(model, data)
    cost = Cost(time.process_time() - began, peak_bytes())
    require_own(losses, plain, row.use)
    return cost


def loss_names(model: Any, data: dict[str, Any]) -> set[str]:
    """Names of the losses of a plain student."""
    with torch.no_grad():
        return set(model.train()(**data, mode="loss"))


def forget_peak() -> None:
    """Gives freed memory back and lets the kernel count the process's peak anew (Linux with glibc)."""
    ctypes.CDLL("libc.so.6").malloc_trim(0)  # else what an earlier pair freed counts as this one's
    Path("/proc/self/clear_refs").write_text("5")


def peak_bytes() -> int:
    """Most resident memory of the process since `forget_peak`, in bytes."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def run_paper(rows: list[PaperPair]) -> tuple[list[str], list[str]]:
    """Lines of the table, and what failed."""
    lines, failures = [], []
    for row in rows:
        cost, failure = attempt(functools.partial(run_paper_pair, row))
        if failure:
            failures.append(f"{row.pair.title}, {row.use.id}: {failure}")
        told = f"{row.use.id} " + ", ".join(f"{name}={value}" for name, value in row.use.options.items())
        result = f"ok | {cost.seconds:.1f} | {cost.peak / 2**30:.1f}" if cost else "FAILED | |"
        lines.append(f"| {row.tables} | {title(row.pair.student)} | {title(row.pair.teacher)} | {told.strip()} | {row.side} | {result} |")
        print(lines[-1], flush=True)
    return lines, failures


def heading(text: str, about: str, command: str) -> list[str]:
    return [
        f"# {text}",
        "",
        about,
        "",
        f"Command: `{command}`; code version `{code_version(methods())[:16]}`; torch {torch.__version__}.",
        "",
    ]


def problems(failures: list[str]) -> list[str]:
    return ["", "Failed:", "", *(f"- {line}" for line in failures)] if failures else []


def matrix_page(found: Matrix, command: str, seconds: float) -> str:
    columns = ["plain", *methods()]
    rows = list(dict.fromkeys(row for row, _ in found.cells))
    counts = {kind: list(found.cells.values()).count(kind) for kind in ("ok", "-", "FAILED")}
    about = (
        "One training step (forward, backward, AdamW) and one evaluation of every detector family and form at `nano`: two made-up "
        "images of 128 x 128 pixels, networks with random weights, methods with their default options. `ok`: losses and gradients are "
        "finite, the method's own loss is among them and is not zero, the student's backbone learns, and the exported student predicts "
        f"the same boxes. `-`: the method says that it does not fit. {counts['ok']} cells ok, {counts['-']} do not fit, "
        f"{counts['FAILED']} failed; {seconds:.0f} s of CPU."
    )
    lines = heading("Every family with every method", about, command)
    lines += [f"| student <- teacher | {' | '.join(columns)} |", f"|---|{'---|' * len(columns)}"]
    lines += [f"| {row} | {' | '.join(found.cells[row, column] for column in columns)} |" for row in rows]
    lines += problems(found.failures)
    lines += ["", "What does not fit, in the methods' own words:", "", *(f"- {sentence}" for sentence in found.misfits)]
    return "\n".join(lines) + "\n"


def paper_page(lines: list[str], failures: list[str], command: str) -> str:
    about = (
        "One training step (forward, backward, AdamW) of every teacher-student pair of the papers' tables with its method, at paper "
        "size: full networks with random weights, one made-up image of reduced size. Seconds are the step's, of CPU, on one thread; "
        "memory is the most that the process held, libraries, both networks and the optimizer included. "
        f"{len(lines) - len(failures)} of {len(lines)} ok. FRS: Du et al., NeurIPS 2021. LD: Zheng et al., CVPR 2022, supplement. "
        "Zhang: Zhang and Ma, ICLR 2021. PDF: Zhang et al., BMVC 2021."
    )
    table = ["| tables | student | teacher | method | pixels | result | s | GiB |", "|---|---|---|---|---|---|---|---|"]
    return "\n".join([*heading("The papers' pairs at paper size", about, command), *table, *lines, *problems(failures)]) + "\n"


def main() -> int:
    """The command; gives its exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--paper", action="store_true", help="the papers' pairs at paper size")
    parser.add_argument("--only", default="", help="rows whose title has this in it; prints the page and writes no file")
    given = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    command, began = shlex.join(["python", "-m", "benchmarks.catalogue_steps", *sys.argv[1:]]), time.process_time()
    with redirect_stdout(sys.stderr):  # progress, and what mmdet prints
        if given.paper:
            lines, failures = run_paper([row for row in paper_pairs() if given.only in row.pair.title])
            page = paper_page(lines, failures, command)
        else:
            found = run_matrix([pair for pair in families() if given.only in pair.title])
            page, failures = matrix_page(found, command, time.process_time() - began), found.failures
    if given.only:
        print(page)
    else:
        RESULTS.mkdir(parents=True, exist_ok=True)
        (RESULTS / ("paper-pairs.md" if given.paper else "catalogue-steps.md")).write_text(page)
    return bool(failures)


if __name__ == "__main__":
    sys.exit(main())
